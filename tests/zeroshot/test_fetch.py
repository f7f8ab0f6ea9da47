"""Where files come from; what may be fetched is fetched, once."""

import io
import sys
import urllib.request

import pytest
from PIL import Image

from relpretrain import cli
from relpretrain.zeroshot import fetch
from relpretrain.zeroshot.command import main
from relpretrain.zeroshot.tasks import TASKS


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
        return io.BytesIO(b'[["https://x.org/a/1.jpg", "a", "https://x.org/a/2.jpg", "b"]]')

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
    from relpretrain.zeroshot.tasks import Source

    with pytest.raises(ValueError, match="lies inside the file"):
        TASKS["colorswap"].items(Source(tmp_path))
    assert "1 row, 2 images" in fetch.unpack(tmp_path / "colorswap")
    located, _ = TASKS["colorswap"].locate(TASKS["colorswap"].items(Source(tmp_path))[""], Source(tmp_path))
    assert [Image.open(item.image).size for item in located] == [(4, 4), (4, 4)]
