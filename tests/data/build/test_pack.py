import errno
import io
import json
import tarfile
from collections import Counter

import pytest
from PIL import Image

from relpretrain.cli import main
from relpretrain.data.build import jobs as parallel
from relpretrain.data.build.pack_sample import Resize
from relpretrain.data.shards.resumable import UNFINISHED
from relpretrain.scene_graph import SceneGraph
from tests.data.build.converting import contents, fill_disk_at, in_a_child, kill_at
from tests.data.test_commands import jpeg, samples, write_tar


def pack(*words):
    return main(["data", "pack", *map(str, words)])


def picture(size=(400, 200), image_format="JPEG", mode="RGB", **more):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, image_format, **more)
    return buffer.getvalue()


GRAPH = {
    "entities": [{"label": "cat", "box": [0, 0, 100, 50]}, {"label": "dog", "box": [200, 100, 400, 200]}],
    "relations": [{"subject": 0, "relation": "left of", "object": 1}],
}


@pytest.mark.parametrize(
    ("shorter", "longer", "size"),
    [
        (100, None, (200, 100)),
        (None, 100, (100, 50)),
        (100, 100, (100, 50)),
        (500, 500, (400, 200)),
        (7, None, (14, 7)),
    ],
)
def test_sizes(shorter, longer, size):
    assert Resize(shorter, longer).size(400, 200) == size
    assert Resize(shorter, longer).size(200, 400) == size[::-1]


def test_resize_moves_the_boxes_along_and_never_enlarges(tmp_path):
    small = jpeg((20, 10))
    write_tar(tmp_path / "in/a.tar", {"1.jpg": picture(), "1.json": GRAPH, "2.jpg": small, "2.txt": b"small"})
    assert pack(tmp_path / "in", "--out", tmp_path / "out", "--shorter-side", 50) == 0
    records, images = samples(tmp_path / "out")
    assert (records["1"]["width"], records["1"]["height"]) == (100, 50)
    assert [e["box"] for e in records["1"]["entities"]] == [[0, 0, 25, 12.5], [50, 25, 100, 50]]
    with Image.open(io.BytesIO(images["1"][1])) as image:
        assert (image.format, image.size) == ("JPEG", (100, 50))
    assert images["2"] == ("jpg", small)


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        (picture(mode="CMYK"), "CMYK"),
        (picture(mode="L"), "L"),
        (picture(image_format="PNG", mode="RGBA"), "RGBA"),
        (picture(image_format="PNG", mode="P"), "RGB"),
        (picture(image_format="PNG", mode="P", transparency=0), "RGBA"),
        (picture(image_format="PNG", mode="1"), "L"),
        (picture(image_format="PNG", mode="I;16"), None),  # as Pillow opens it: I or I;16
        (picture(image_format="WEBP"), "RGB"),
    ],
)
def test_resize_of_any_mode(content, mode):
    with Image.open(io.BytesIO(Resize(10).encode(content, (20, 10)))) as image, Image.open(io.BytesIO(content)) as old:
        assert (image.size, image.mode, image.format) == ((20, 10), mode or old.mode, old.format)


def test_resize_keeps_the_orientation_tag():
    exif = Image.Exif()
    exif[274] = 6
    with Image.open(io.BytesIO(Resize(10).encode(picture(exif=exif), (20, 10)))) as image:
        assert image.getexif()[274] == 6


def test_a_broken_image_is_counted(tmp_path, capsys):
    noise = Image.effect_noise((400, 200), 90).convert("RGB")
    buffer = io.BytesIO()
    noise.save(buffer, "JPEG")
    members = {"1.jpg": buffer.getvalue()[:-4000], "1.txt": b"cut", "2.jpg": picture(), "2.txt": b"whole"}
    write_tar(tmp_path / "in/a.tar", members)
    assert pack(tmp_path / "in", "--out", tmp_path / "out", "--longer-side", 50) == 0
    assert list(samples(tmp_path / "out")[0]) == ["2"]
    assert "dropped: 1 unreadable_image" in capsys.readouterr().out


WEB = {
    "000.jpg": picture((100, 50)),
    "000.json": {"key": "000", "url": "http://x/0", "caption": "own", "original_width": 400, "original_height": 200},
    "001.jpg": picture((100, 100)),
    "001.json": {"key": "001", "url": "http://x/1", "caption": "own", "original_width": 400, "original_height": 200},
    "002.jpg": picture((100, 50)),
    "002.json": {"key": "002", "url": "http://x/2", "caption": "own"},
}


@pytest.fixture
def web(tmp_path):
    """Shards as img2dataset writes them: images made smaller, the second one padded to a square."""
    write_tar(tmp_path / "web/00000.tar", WEB)
    return tmp_path / "web"


def lines(path, *items):
    path.write_text("\n".join(map(json.dumps, items)) + "\n")
    return path


@pytest.mark.parametrize("by", ["image_id", "key", "url"])
def test_join_lines(web, tmp_path, capsys, by):
    names = [f"http://x/{i}" if by == "url" else f"00{i}" for i in (0, 1, 9)]
    file = lines(
        tmp_path / "more.jsonl",
        {by: names[0], "captions": ["a cat", "own"], **GRAPH},
        {by: names[1], **GRAPH},
        {by: names[2], "captions": ["nobody's"]},
        {"captions": ["nameless"]},
    )
    assert pack(web, "--out", tmp_path / "out", "--join", file, "--join-by", by) == 0
    records, _ = samples(tmp_path / "out")
    assert list(records) == ["000", "002"]
    assert records["000"]["captions"] == ["own", "a cat"]
    graph = SceneGraph.from_json(records["000"], 100, 50)
    assert [tuple(e.box) for e in graph.entities] == [(0, 0, 25, 12.5), (50, 25, 100, 50)]  # of the original's pixels
    assert graph.relations[0].relation == "left of"
    assert records["002"]["captions"] == ["own"]
    dropped = json.loads((tmp_path / "out/index.json").read_text())["dropped"]
    assert dropped == {
        "annotation_without_name": 1,
        "annotation_without_sample": 1,
        "image_of_another_shape": 1,
    }


def test_join_a_converted_folder_and_drop_the_rest(web, tmp_path):
    record = {"image_id": "002", "captions": ["said elsewhere"], "width": 200, "height": 100}
    boxes = {"entities": [{"label": "cat", "box": [0, 0, 200, 100]}]}
    write_tar(tmp_path / "graphs/a.tar", {"k.jpg": picture((200, 100)), "k.json": record | boxes})
    more = ("--join", tmp_path / "graphs", "--unmatched", "drop", "--join-captions", "replace")
    assert pack(web, "--out", tmp_path / "out", *more) == 0
    records, images = samples(tmp_path / "out")
    assert list(records) == ["002"]
    assert records["002"]["captions"] == ["said elsewhere"]
    assert records["002"]["entities"][0]["box"] == [0, 0, 100, 50]
    assert images["002"][1] == WEB["002.jpg"]
    assert json.loads((tmp_path / "out/index.json").read_text())["dropped"] == {"sample_without_annotation": 2}


def test_join_refuses_what_is_no_annotation(web, tmp_path, capsys):
    for content, message in [("[1]", "line 1 should be an object"), ("{", "line 1 is no JSON")]:
        (tmp_path / "j.jsonl").write_text(content)
        assert pack(web, "--out", tmp_path / "out", "--join", tmp_path / "j.jsonl") == 2
        assert message in capsys.readouterr().err
    assert pack(web, "--out", tmp_path / "out", "--join", tmp_path / "absent.jsonl") == 2
    assert "absent.jsonl" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_boxes_of_another_size_are_not_believed(tmp_path, capsys):
    members = {"1.jpg": picture(), "1.json": GRAPH | {"width": 800, "height": 400}, "2.jpg": picture(), "2.json": GRAPH}
    write_tar(tmp_path / "in/a.tar", members)
    assert pack(tmp_path / "in", "--out", tmp_path / "out") == 0
    assert list(samples(tmp_path / "out")[0]) == ["2"]
    assert "1 image_of_another_size" in capsys.readouterr().out


@pytest.fixture
def many(tmp_path):
    for shard in range(3):
        members = {}
        for i in range(10):
            members |= {f"{shard}{i}.jpg": picture((64 + i, 64)), f"{shard}{i}.txt": b"x"}
        write_tar(tmp_path / f"many/{shard}.tar", members)
    return tmp_path / "many"


def test_shuffle_is_a_permutation_of_all_by_seed(many, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "CHUNK", 3)
    named = ("--samples-per-shard", 4, "--shuffle", 1, "--shorter-side", 32)
    assert pack(many, "--out", tmp_path / "a", *named) == 0
    keys = list(samples(tmp_path / "a")[0])
    assert sorted(keys) == [f"{shard}{i}" for shard in range(3) for i in range(10)]
    moved = Counter(key[0] for key in keys[:10])
    assert len(moved) == 3  # the first shards hold samples of all
    assert pack(many, "--out", tmp_path / "b", *named, "--workers", 2) == 0  # processes change nothing
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_limit_counts_the_same_for_any_number_of_processes(many, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "CHUNK", 1)
    write_tar(tmp_path / "many/1b.tar", {"x.txt": b"without image"})
    for name, workers in [("a", 1), ("b", 2)]:
        assert pack(many, "--out", tmp_path / name, "--max-samples", 18, "--workers", workers) == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert json.loads((tmp_path / "a/index.json").read_text())["dropped"] == {}


def test_a_killed_pack_goes_on(many, tmp_path):
    from relpretrain.data.shards import writer as writing

    named = ("--samples-per-shard", 4, "--shuffle", 1, "--workers", 1)
    assert pack(many, "--out", tmp_path / "whole", *named) == 0

    def run():
        kill_at(writing.ShardFile, "finish", 3, after=False)
        pack(many, "--out", tmp_path / "out", *named)

    assert in_a_child(run) < 0
    assert pack(many, "--out", tmp_path / "out", *named) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("number", [0, 2])
def test_a_full_disk_leaves_no_partial_file(many, tmp_path, capsys, monkeypatch, number):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        fill_disk_at(patch, number)
        assert pack(many, "--out", out, "--samples-per-shard", 10, "--workers", 1) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"relpretrain: error: {out}: no space left on device; {number} finished shards")
    assert error.count("\n") == 1
    assert [path.name for path in out.iterdir()] == [UNFINISHED]
    assert not list(out.rglob("*.part"))
    for path in out.rglob("*.tar"):
        with tarfile.open(path) as tar:
            assert len(tar.getnames()) == 20
    assert errno.ENOSPC == 28
    assert pack(many, "--out", out, "--samples-per-shard", 10, "--workers", 1) == 0
    assert len(samples(out)[0]) == 30


def test_remote_shards(web, tmp_path, monkeypatch):
    monkeypatch.setenv("RELPRETRAIN_CACHE", str(tmp_path / "cache"))
    assert pack(f"pipe:cat {web}/00000.tar", "--out", tmp_path / "a", "--source", "web") == 0
    assert pack(f"{web}/00000.tar", "--out", tmp_path / "b", "--source", "web") == 0
    assert samples(tmp_path / "a") == samples(tmp_path / "b")
    assert len(samples(tmp_path / "a")[0]) == 3


def two_downloads(folder):
    """Two runs of img2dataset, which both count from 0: different photos have equal keys."""
    for run, color in (("a", (200, 0, 0)), ("b", (0, 0, 200))):
        members = {}
        for number in range(2):
            members[f"00{number}.jpg"] = jpeg(color=(*color[:2], color[2] + number))
            members[f"00{number}.json"] = {
                "caption": f"{run}{number}",
                "key": f"00{number}",
                "url": f"http://{run}/{number}",
            }
        write_tar(folder / run / "00000.tar", members)
    return folder / "a/00000.tar", folder / "b/00000.tar"


def joined(folder, *lines):
    path = folder / "graphs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_ids_of_two_downloads_stay_apart(tmp_path):
    assert pack(*two_downloads(tmp_path), "--out", tmp_path / "out") == 0
    records, _ = samples(tmp_path / "out")
    assert {key: (r["image_id"], r["captions"]) for key, r in records.items()} == {
        "000": ("000", ["a0"]),
        "001": ("001", ["a1"]),
        "000_2": ("000_2", ["b0"]),
        "001_2": ("001_2", ["b1"]),
    }


@pytest.mark.parametrize("by", ["image_id", "key"])
def test_a_join_refuses_a_name_of_two_images(tmp_path, capsys, by):
    shards = two_downloads(tmp_path)
    file = joined(tmp_path, {by: "000", "captions": ["more"]})
    assert pack(*shards, "--join", file, "--join-by", by, "--out", tmp_path / "out") != 0
    error = capsys.readouterr().err
    assert f"the {by} '000' is that of two different images" in error
    assert "a/00000.tar" in error
    assert "b/00000.tar" in error
    # One download alone, the same image twice, or an address are no mistake.
    assert pack(shards[0], "--join", file, "--join-by", by, "--out", tmp_path / "one", "--workers", 1) == 0
    (tmp_path / "c").mkdir()
    (tmp_path / "c/00000.tar").write_bytes(shards[0].read_bytes())
    assert pack(shards[0], tmp_path / "c/00000.tar", "--join", file, "--join-by", by, "--out", tmp_path / "two") == 0
    records, _ = samples(tmp_path / "two")
    assert records["000_2"]["captions"] == ["a0", "more"]
    assert pack(*shards, "--join", joined(tmp_path, {"url": "http://b/0", "captions": ["more"]}), "--join-by", "url",
                "--out", tmp_path / "url") == 0  # fmt: skip
    records, _ = samples(tmp_path / "url")
    assert [records[key]["captions"] for key in ("000", "000_2")] == [["a0"], ["b0", "more"]]


def test_a_join_matches_with_and_without_ending(tmp_path, capsys):
    members = {}
    for number in range(3):
        members |= {f"{number}.jpg": jpeg(color=(number, 0, 0)), f"{number}.json": {"image_id": f"{number}.jpg"}}
    shards = write_tar(tmp_path / "in/a.tar", members)
    lines = [{"image_id": name, "captions": [name]} for name in ("0", "1.JPG", "2.png", "2.webp", "5.jpg")]
    assert pack(shards, "--join", joined(tmp_path, *lines), "--out", tmp_path / "out") == 0
    records, _ = samples(tmp_path / "out")
    assert [records[key].get("captions") for key in "012"] == [["0"], ["1.JPG"], None]  # 2 might be either
    out = capsys.readouterr().out
    assert "dropped: 3 annotation_without_sample\nnoted, but not left out: 1 nothing_to_join\n" in out
    assert "annotation_without_sample: '2.png', '2.webp', '5.jpg'\n" in out
    assert "nothing_to_join: a.tar/2, which has the image_id '2.jpg'" in out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            {"image_id": "COCO_000", "captions": ["x"]},
            "their image_id is '000', '001', that of the annotations 'COCO_000'",
        ),
        ({"url": "http://a/0", "captions": ["x"]}, "the annotations have none; --join-by says what both share"),
    ],
)
def test_a_join_that_matches_nothing_is_an_error(tmp_path, capsys, line, message):
    shards = two_downloads(tmp_path)
    assert pack(shards[0], "--join", joined(tmp_path, line), "--out", tmp_path / "out") != 0
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out/index.json").exists()


def test_half_a_character_is_packed_as_u_fffd_and_counted(tmp_path, capsys):
    record = {"caption": "best day \ud83d", "image_id": "x\ud83d", **GRAPH}
    record["relations"] = [{"subject": 0, "relation": "on \ud83d", "object": 1}]
    shards = write_tar(tmp_path / "in/a.tar", {"1.jpg": picture(), "1.json": record})
    assert pack(shards, "--out", tmp_path / "out") == 0
    records, _ = samples(tmp_path / "out")
    assert (records["1"]["captions"], records["1"]["image_id"]) == (["best day \ufffd"], "x\ufffd")
    assert "dropped: 3 replaced_character\n  replaced_character, such as a.tar/1\n" in capsys.readouterr().out


def test_odd_sizes_and_captions_of_annotations(tmp_path):
    """NaN in a size that img2dataset did not know leaves the stored size, a text alone is one caption."""
    own = {"key": "1", "original_width": float("nan"), "original_height": None, "width": "400", "height": 200.0}
    shards = write_tar(tmp_path / "in/a.tar", {"1.jpg": picture(), "1.json": own})
    file = joined(tmp_path, {"image_id": "1", "captions": "one", **GRAPH})
    assert pack(shards, "--join", file, "--out", tmp_path / "out") == 0
    records, _ = samples(tmp_path / "out")
    assert records["1"]["captions"] == ["one"]
    assert [e["box"] for e in records["1"]["entities"]] == [[0, 0, 100, 50], [200, 100, 400, 200]]


def alike_but_for_the_ending(folder):
    """Two images whose ids differ in nothing but their endings."""
    members = {}
    for number, ending in enumerate(("jpg", "png")):
        members |= {f"{number}.jpg": jpeg(color=(99 * number, 0, 0)), f"{number}.json": {"image_id": f"a.{ending}"}}
    return write_tar(folder / "in/a.tar", members)


@pytest.mark.parametrize("task", [[], ["--task", "0/1"]], ids=["alone", "as a task"])
def test_a_join_tells_ids_apart_that_differ_in_their_ending(tmp_path, capsys, task):
    shards, out = alike_but_for_the_ending(tmp_path), tmp_path / "out"
    lines = [{"image_id": name, "captions": [name]} for name in ("a.jpg", "a.png", "a.webp")]
    assert pack(shards, "--join", joined(tmp_path, *lines), "--out", out, *task) == 0
    assert not task or main(["data", "merge", str(out)]) == 0
    records, _ = samples(out)
    assert [records[key]["captions"] for key in "01"] == [["a.jpg"], ["a.png"]]
    assert "annotation_without_sample: 'a.webp'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "found"), [(["a.jpg"], ["a.jpg", None]), (["a", "a.jpg"], ["a.jpg", "a"]), (["a.JPG"], ["a.JPG", None])]
)
def test_a_name_with_one_ending_is_not_that_of_another_ending(tmp_path, names, found):
    lines = [{"image_id": name, "captions": [name]} for name in names]
    shards = alike_but_for_the_ending(tmp_path)
    assert pack(shards, "--join", joined(tmp_path, *lines), "--out", tmp_path / "out") == 0
    records, _ = samples(tmp_path / "out")
    assert [records[key].get("captions", [None])[0] for key in "01"] == found


def test_an_annotation_that_two_images_match_is_refused(tmp_path, capsys):
    shards = alike_but_for_the_ending(tmp_path)
    assert pack(shards, "--join", joined(tmp_path, {"image_id": "a", "captions": ["x"]}), "--out", tmp_path / "o") == 2
    assert "the image_id 'a' is that of two different images" in capsys.readouterr().err
