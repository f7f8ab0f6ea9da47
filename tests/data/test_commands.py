import io
import json
import tarfile
from dataclasses import fields

import pytest
from PIL import Image

from relpretrain import progress
from relpretrain.cli import main
from relpretrain.scene_graph import RelationVocabulary, SceneGraph
from relpretrain.synthetic import WorldOptions


def data(*words):
    """Run `relpretrain data ...` and return its exit status."""
    return main(["data", *map(str, words)])


def samples(folder):
    """The records of a shard folder by key, in order, and each image's bytes and ending."""
    records, images = {}, {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, ending = member.name.split(".")
                content = tar.extractfile(member).read()
                if ending == "json":
                    records[key] = json.loads(content)
                else:
                    images[key] = ending, content
    assert records.keys() == images.keys()
    return records, images


def jpeg(size=(20, 10), color=(1, 2, 3)):
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "JPEG")
    return buffer.getvalue()


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            content = json.dumps(content).encode() if isinstance(content, dict) else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        (folder / f"p.{number}.jpg").write_bytes(jpeg(color=(number, 0, 0)))
        (folder / f"p.{number}.txt").write_text(f"photo {number}\n")
    return folder


def test_convert_image_text(photos, tmp_path, capsys):
    (photos / "lonely.png").write_bytes(b"")
    assert data("convert", "image-text", "--images", photos, "--out", tmp_path / "out", "--samples-per-shard", 2) == 0
    records, images = samples(tmp_path / "out")
    assert list(records) == [f"p_{number}_jpg" for number in range(5)]
    assert records["p_3_jpg"] == {
        "image_id": "p.3.jpg",
        "source": "image-text",
        "width": 20,
        "height": 10,
        "captions": ["photo 3"],
    }
    assert images["p_3_jpg"] == ("jpg", (photos / "p.3.jpg").read_bytes())
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "5 samples, 5 captions, 0 entities, 0 relations"
    assert out[1] == "dropped: 1 missing_caption_file"
    assert out[-1] == f"3 shards and index.json in {tmp_path / 'out'}"
    assert not (tmp_path / "out/relations.json").exists()
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert index["captions"] == 5


def test_convert_names_the_source_and_shows_progress(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    assert data("convert", "image-text", "--images", photos, "--out", tmp_path / "out", "--source", "mine") == 0
    assert {record["source"] for record in samples(tmp_path / "out")[0].values()} == {"mine"}
    assert "converting: 100%, 5 images, " in capsys.readouterr().err


def test_a_mistake_is_one_line_and_leaves_nothing(photos, tmp_path, capsys):
    out = tmp_path / "out"
    table = tmp_path / "t.json"
    table.write_text(json.dumps({"absent.jpg": "x"}))
    for words, message in [
        (("convert", "image-text", "--images", tmp_path / "nowhere", "--out", out), "is not a folder"),
        (("convert", "image-text", "--images", photos, "--captions", table, "--out", out), ": 1 missing_image"),
        (("convert", "coco", "--images", photos, "--out", out), "got neither"),
        (("convert", "vrd", "--images", photos, "--annotations", table, "--out", out), "objects.json"),
        (("pack", tmp_path / "*.tar", "--out", out), "matches no file"),
        (("pack", table, "--out", out), "t.json is no manifest of shards"),
        (("pack", next(photos.glob("*.jpg")), "--out", out), "is not an uncompressed tar"),
    ]:
        assert data(*words) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("relpretrain: error: ")
        assert error.count("\n") == 1
        assert not out.exists()


def test_what_cannot_be_written_is_named(photos, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert data("convert", "image-text", "--images", photos, "--out", tmp_path / "file/out") == 2
    assert capsys.readouterr().err == f"relpretrain: error: {tmp_path / 'file/out'}: not a directory\n"


def test_existing_shards_stay_unless_told(photos, tmp_path, capsys):
    words = ("convert", "image-text", "--images", photos, "--out", tmp_path / "out")
    assert data(*words) == 0
    before = (tmp_path / "out/shard-000000.tar").read_bytes()
    (photos / "p.0.txt").unlink()
    assert data(*words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "out/shard-000000.tar").read_bytes() == before
    assert data(*words, "--overwrite") == 0
    assert len(samples(tmp_path / "out")[0]) == 4


GRAPH = {
    "image_id": 7,
    "entities": [{"label": "cat", "box": [0, 0, 5, 5]}, {"label": "dog", "box": [5, 0, 20, 10], "attributes": ["old"]}],
    "relations": [
        {"subject": 0, "relation": "left of", "object": 1},
        {"subject": 0, "relation": "near", "object": 1},
        {"subject": 1, "relation": "near", "object": 0},
    ],
}


def test_pack_keeps_what_is_sound_and_counts_the_rest(tmp_path, capsys):
    write_tar(
        tmp_path / "in/web.tar",
        {
            "1.jpg": jpeg(),
            "1.txt": b"from the text",
            "1.json": {"key": "1", "url": "http://x", "width": 9},
            "2.jpg": jpeg(),
            "2.json": {"caption": " from  the json "},
            "3.jpg": b"no image",
            "3.txt": b"x",
            "4.txt": b"without image",
        },
    )
    bad = GRAPH | {"entities": [{"label": "cat", "box": [0, 0, 50, 5]}]}
    write_tar(tmp_path / "in/zoo.tar", {"1.jpg": jpeg(), "1.json": GRAPH, "2.jpg": jpeg(), "2.json": bad})
    assert data("pack", tmp_path / "in", "--out", tmp_path / "out", "--top-relations", 1) == 0
    records, images = samples(tmp_path / "out")
    size = {"width": 20, "height": 10}
    assert records["1"] == {"image_id": "1", "source": "web", **size, "captions": ["from the text"]}
    assert records["2"] == {"image_id": "2", "source": "web", **size, "captions": ["from the json"]}
    assert (records["1_2"]["image_id"], records["1_2"]["source"]) == ("7", "zoo")
    assert SceneGraph.from_json(records["1_2"], 20, 10) == SceneGraph.from_json(GRAPH, 20, 10)
    assert images["1"] == ("jpg", jpeg())
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "3 samples, 2 captions, 2 entities, 3 relations"
    assert set(out[1].removeprefix("dropped: ").split(", ")) == {
        "1 missing_image",
        "1 unreadable_image",
        "1 box_outside_image",
    }
    assert RelationVocabulary.load(tmp_path / "out/relations.json").names == ("near",)
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["web.tar", "zoo.tar"]


def test_pack_shuffles_by_seed_and_stops(tmp_path):
    for shard in range(2):
        members = {f"{shard}{i}.{end}": jpeg() if end == "jpg" else b"x" for i in range(10) for end in ("jpg", "txt")}
        write_tar(tmp_path / f"in/{shard}.tar", members)

    def order(name, *words):
        assert data("pack", tmp_path / "in", "--out", tmp_path / name, *words) == 0
        return list(samples(tmp_path / name)[0])

    plain = order("plain")
    assert plain == [f"{shard}{i}" for shard in range(2) for i in range(10)]
    assert order("first", "--max-samples", 12) == plain[:12]
    mixed = order("mixed", "--shuffle", 1)
    assert sorted(mixed) == plain != mixed
    assert order("again", "--shuffle", 1, "--max-samples", 12) == mixed[:12]
    assert order("other", "--shuffle", 2) != mixed


def test_pack_into_its_own_input_is_refused(tmp_path, capsys):
    path = write_tar(tmp_path / "shard-000000.tar", {"1.jpg": jpeg(), "1.txt": b"x"})
    before = path.read_bytes()
    assert data("pack", path, "--out", tmp_path, "--overwrite") == 2
    assert "are to be read" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_counts_must_be_positive(tmp_path, capsys):
    assert data("pack", "x.tar", "--out", tmp_path, "--max-samples", 0) == 2
    assert "at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pack", "s", "--out", "o", "--shuffle", "-1"), "--shuffle: must be at least 0, got -1"),
        (("pack", "s", "--out", "o", "--quality", "101"), "--quality: must be from 1 to 100, got 101"),
        (("show", "s", "--out", "o.html", "--seed", "-1"), "--seed: must be at least 0, got -1"),
        (("dialogues", "s", "--out", "o.json", "--seed", "-1"), "--seed: must be at least 0, got -1"),
        (("synthetic", "o", "--seed", "-1"), "--seed: must be at least 0, got -1"),
        (("synthetic", "o", "--images-graphs", "-5"), "--images-graphs: must be at least 0, got -5"),
        (("doctor", "s", "--steps", "-1"), "--steps: must be at least 0, got -1"),
        (("doctor", "s", "--num-workers", "-1"), "--num-workers: must be at least 0, got -1"),
        (("doctor", "s", "--max-bad", "5"), "--max-bad: must be a number between 0 and 1, got 5"),
        (("audit", "s", "--benchmarks", "b", "--distance", "-1"), "--distance: must be at least 0, got -1"),
        (("label", "s", "--out", "o", "--min-tie", "nan"), "--min-tie: must be a number between 0 and 1, got nan"),
        (("label", "s", "--out", "o", "--min-tie", "x"), "--min-tie: invalid fraction value: 'x'"),
    ],
)
def test_numbers_that_cannot_be_are_told_in_a_line(capsys, words, message):
    assert data(*words) == 2
    error = capsys.readouterr().err
    assert f"argument {message}" in error
    assert error.count("\n") == 1


def test_every_field_of_the_options_is_explained(capsys):
    assert main(["data", "synthetic", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "images with captions (6000)" in " ".join(shown.split()).lower()
    for field in fields(WorldOptions):
        assert f"--{field.name.replace('_', '-')}" in shown


def test_synthetic_says_how_far_it_is(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    few = ["--images-captions", 4, "--images-regions", 2, "--images-graphs", 2, "--images-validation", 2]
    assert data("synthetic", tmp_path / "world", *few, "--items-vsr", 3, "--items-valse", 2) == 0
    lines = capsys.readouterr().err.splitlines()
    shards = [line for line in lines if line.startswith("rendering shards: ")]
    assert [line.split()[2].rstrip(",") for line in shards] == [f"{share}%" for share in range(10, 101, 10)]
    assert sum(line.startswith("rendering benchmarks: ") for line in lines) >= 4


def test_synthetic(tmp_path, capsys):
    sizes = [f"--images-{name}=6" for name in ("captions", "regions", "graphs", "validation")]
    words = (
        "synthetic",
        tmp_path / "world",
        *sizes,
        "--items-vsr=6",
        "--items-valse=4",
        "--seed=3",
        "--colors",
        "red",
        "blue",
        "green",
    )
    assert data(*words) == 0
    world = json.loads((tmp_path / "world/world.json").read_text())
    assert (world["seed"], world["colors"]) == (3, ["red", "blue", "green"])
    assert len(samples(tmp_path / "world/graphs")[0]) == 6
    assert data(*words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert data(*words, "--overwrite") == 0


def test_real_photos(realdata, tmp_path, capsys):
    vrd = ("--images", realdata / "vrd/images", "--annotations", realdata / "vrd/annotations_test.json")
    assert data("convert", "vrd", *vrd, "--out", tmp_path / "vrd") == 0
    assert capsys.readouterr().out.startswith("60 samples, 0 captions, 473 entities, 604 relations\n")
    vocabulary = RelationVocabulary.load(tmp_path / "vrd/relations.json")
    assert vocabulary.inverse("on the left of") == "on the right of"

    assert data("pack", realdata / "webdataset", tmp_path / "vrd", "--out", tmp_path / "both") == 0
    assert capsys.readouterr().out.startswith("92 samples, 32 captions, 473 entities, 604 relations\n")
    assert RelationVocabulary.load(tmp_path / "both/relations.json").fingerprint == vocabulary.fingerprint
    assert samples(tmp_path / "vrd")[1].items() <= samples(tmp_path / "both")[1].items()
