"""Where files come from; what may be fetched is fetched, once."""

import io
import json
import sys
import urllib.request
from dataclasses import replace

import pytest
from PIL import Image

from relpretrain import cli
from relpretrain.zeroshot import fetch
from relpretrain.zeroshot.command import main
from relpretrain.zeroshot.tasks import TASKS, Source
from tests.data.server import Server


def test_source_and_licence_are_told(capsys):
    assert cli.main(["data", "fetch", "cola", "vl_checklist"]) == 0
    shown = capsys.readouterr().out
    assert "licence: MIT; images Visual Genome" in shown
    assert "fetched: 1 file with --data DIR" in shown
    assert "fetched: nothing: get it from there" in shown
    assert cli.main(["data", "fetch", "colla"]) == 2
    assert "did you mean 'cola'" in capsys.readouterr().err


def test_files_are_fetched_once_and_their_version_is_told(tmp_path, monkeypatch, capsys):
    asked = []

    def answer(address, timeout):
        asked.append(address)
        body = io.BytesIO(b'[["https://x.org/a/1.jpg", "a", "https://x.org/a/2.jpg", "b"]]')
        body.headers = {}
        return body

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    for _ in range(2):
        assert cli.main(["data", "fetch", "cola", "--data", str(tmp_path)]) == 0
    assert asked == list(TASKS["cola"].card.downloads.values())
    shown = capsys.readouterr().out
    assert "cola: 1 items, data: no version that is known (1 item; known: 1fa52fb with 210)" in shown
    assert "fetched 0 files into" in shown
    assert "nothing of mmvp may be fetched" in fetch.fetch("mmvp", tmp_path)


def test_what_cannot_be_fetched_leaves_nothing_half(tmp_path, monkeypatch, capsys):
    def fail(address, timeout):
        raise OSError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    assert cli.main(["data", "fetch", "cola", "--data", str(tmp_path)]) == 2
    assert "cannot be fetched (no route): put the file into" in capsys.readouterr().err
    assert not list((tmp_path / "cola").iterdir())


@pytest.fixture
def server(tmp_path, monkeypatch):
    """FG-OVD's files on a server of this machine; its card names them there."""
    rows = {"img_path": "val2017/7.jpg", "bbox": [0, 0, 4, 4], "pos_expression": ["a"], "neg_expression": ["b"] * 9}
    (tmp_path / "there").mkdir()
    task = TASKS["fgovd"]
    for name in task.card.downloads:
        (tmp_path / "there" / name).write_text((json.dumps(rows) + "\n") * 40)
    server = Server(tmp_path / "there")
    files = {name: f"{server.address}/{name}" for name in task.card.downloads}
    monkeypatch.setattr(task, "card", replace(task.card, downloads=files))
    yield server
    server.close()


def test_files_come_from_a_server_with_their_licence_told_before(server, tmp_path, capsys):
    assert cli.main(["data", "fetch", "fgovd", "--data", str(tmp_path / "data")]) == 0
    shown = capsys.readouterr().out
    assert shown.index("licence: Apache-2.0; images under COCO's terms") < shown.index("fetched 4 files into")
    assert "fgovd hard: 40 items, data: no version that is known" in shown
    assert len(server.asked) == 4
    assert sorted(p.name for p in (tmp_path / "data" / "fgovd").iterdir()) == sorted(TASKS["fgovd"].card.downloads)


@pytest.mark.parametrize(
    ("answer", "said"),
    [("cut", "bytes came"), ("empty", "or nothing"), ("html", "a web page came"), (404, "404"), (503, "503")],
)
def test_half_a_file_is_none_and_the_rest_is_fetched_later(server, tmp_path, capsys, answer, said):
    third = list(TASKS["fgovd"].card.downloads)[2]
    server.answers = {f"/{third}": [answer]}
    assert cli.main(["data", "fetch", "fgovd", "--data", str(tmp_path / "data")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert said in err
    assert f"put the file into {tmp_path / 'data' / 'fgovd' / third} by hand" in err
    assert len(list((tmp_path / "data" / "fgovd").iterdir())) == 2
    assert cli.main(["data", "fetch", "fgovd", "--data", str(tmp_path / "data")]) == 0
    assert "fetched 2 files into" in capsys.readouterr().out
    assert server.asked.count(f"/{third}") == 2
    assert len(server.asked) == 5


def test_the_overview_has_every_task_on_narrow_lines(capsys):
    assert cli.main(["data", "fetch"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line[:1].strip()][:-1] == list(TASKS)
    assert next(line for line in lines if line.startswith("cola ")).split()[1:4] == ["1", "file", "MIT;"]
    assert cli.main(["data", "fetch", *TASKS]) == 0
    lines += capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if "http" not in line) <= 110
    assert cli.main(["data", "fetch", "--data", "x"]) == 2
    assert "--data needs a TASK" in capsys.readouterr().err


def test_downloads_are_addresses_of_files_that_a_card_names():
    for task in TASKS.values():
        for path, address in task.card.downloads.items():
            assert address.startswith("https://")
            assert address.endswith(path.rpartition("/")[2])


def test_parquet_without_pyarrow_is_told_with_the_remedy(tmp_path, monkeypatch, capsys):
    (tmp_path / "colorswap").mkdir()
    (tmp_path / "colorswap" / "test-0.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed
    assert main(["--constant", "--tasks", "colorswap", "--data", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert 'test-0.parquet is a .parquet file, which pyarrow reads: pip install "relpretrain[benchmarks]"' in said


def test_images_inside_parquet_are_unpacked(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(buffer, format="PNG")
    image = {"bytes": buffer.getvalue(), "path": None}
    row = {"caption_1": "red", "caption_2": "blue", "image_1": image, "image_2": image}
    (tmp_path / "colorswap").mkdir()
    parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "colorswap" / "test-0.parquet")
    with pytest.raises(ValueError, match="lies inside the file"):
        TASKS["colorswap"].items(Source(tmp_path))
    assert "1 row, 2 images" in fetch.unpack(tmp_path / "colorswap")
    located, _ = TASKS["colorswap"].locate(TASKS["colorswap"].items(Source(tmp_path))[""], Source(tmp_path))
    assert [Image.open(item.image).size for item in located] == [(4, 4), (4, 4)]


def test_files_of_one_name_in_two_folders_do_not_write_over_each_other(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for kind, colour in (("object", "red"), ("relation", "blue")):
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4), colour).save(buffer, format="PNG")
        (tmp_path / kind).mkdir()
        row = {"text": colour, "image": {"bytes": buffer.getvalue(), "path": None}}
        parquet.write_table(pa.Table.from_pylist([row]), tmp_path / kind / "test-00000-of-00001.parquet")
    assert "2 rows, 2 images" in fetch.unpack(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    found = {row["text"]: Image.open(tmp_path / "images" / row["image"]).getpixel((0, 0)) for row in rows}
    assert found == {"red": (255, 0, 0), "blue": (0, 0, 255)}


def test_a_folder_that_the_datasets_library_saved_is_unpacked_and_scored(tmp_path, capsys):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import ipc

    def image(colour):
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4), colour).save(buffer, format="JPEG")
        return {"bytes": buffer.getvalue(), "path": f"{colour}.jpg"}

    rows = [
        {
            "id": n,
            "category": kind,
            "text_0": "red",
            "text_1": "blue",
            "image_0": image("red"),
            "image_1": image("blue"),
        }
        for kind in ("object", "relation")
        for n in range(3)
    ]
    home = tmp_path / "vismin" / "data"
    for split, some in (("test", rows), ("train", rows[:1])):
        (home / split).mkdir(parents=True)
        for part in (0, 1):
            table = pa.Table.from_pylist(some[part::2] or some)
            path = home / split / f"data-{part:05}-of-00002.arrow"
            with path.open("wb") as file, ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table)
        (home / split / "state.json").write_text("{}")
    (home / "dataset_dict.json").write_text('{"splits": ["test", "train"]}')
    assert cli.main(["data", "fetch", "vismin", "--unpack", str(tmp_path / "vismin")]) == 0
    assert "6 rows, 12 images" in capsys.readouterr().out
    assert main(["--constant", "--tasks", "vismin", "--data", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "texts in the order of their images" in shown
    rows = {item.group for item in TASKS["vismin"].items(Source(tmp_path))[""]}
    assert len(rows) == 6
    assert len(list((tmp_path / "vismin" / "images").iterdir())) == 12


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_a_broken_table_is_told(tmp_path, capsys, ending):
    pytest.importorskip("pyarrow")
    (tmp_path / "vismin").mkdir()
    (tmp_path / "vismin" / f"test.{ending}").write_bytes(b"PAR1 and then something else")
    assert main(["--constant", "--tasks", "vismin", "--data", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"test.{ending} cannot be read as .{ending}" in said
