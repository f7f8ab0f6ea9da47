import io
import json
import re

import pytest
from PIL import Image

from relpretrain.cli import main
from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.data.shards.writer import ShardWriter
from relpretrain.inspect.audit.benchmark_images import BENCHMARKS, identity, origin_of, read_benchmarks
from relpretrain.inspect.audit.compare import audit, find_images, read_twins
from tests.data.small import picture


@pytest.mark.parametrize(
    ("name", "origin", "expected"),
    [
        ("000000462576.jpg", None, "coco:462576"),
        ("train2017/000000000009", None, "coco:9"),
        ("val2014/COCO_val2014_000000462576.jpg", None, "coco:462576"),
        ("COCO_train2014_000000254009.JPG", None, "coco:254009"),
        ("http://images.cocodataset.org/val2017/000000462576.jpg", None, "coco:462576"),
        ("462576", "coco", "coco:462576"),
        ("v7w_2356347.jpg", None, "vg:2356347"),
        ("v7w_1.jpg", None, "vg:1"),
        ("https://cs.stanford.edu/people/rak248/VG_100K_2/2356347.jpg", None, "vg:2356347"),
        ("2356347.jpg", "vg", "vg:2356347"),
        ("2356347.jpg", None, "file:2356347"),
        ("000010005", None, "file:000010005"),  # a key of img2dataset
        ("VisualDialog_val2018_000000284024.jpg", None, "file:VisualDialog_val2018_000000284024"),  # no COCO image
        ("exercising_255.jpg", None, "file:exercising_255"),
        ("https://host/a/photo.jpg?fit=10%2C10&ssl=1", None, "file:photo"),
    ],
)
def test_one_name_for_an_image(name, origin, expected):
    assert identity(name, origin) == expected


def test_origin_of_a_source():
    assert [origin_of(s) for s in ("coco", "my-COCO_2017", "vg", "visual-genome", "gqa", "cc3m", "savage")] == [
        *("coco", "coco", "vg", "vg", "vg"),
        *(None, None),
    ]


def write(folder, samples):
    """Shards of (key, image, record); records get a caption."""
    with ShardWriter(folder, samples_per_shard=50) as writer:
        for key, image, record in samples:
            writer.write(key, image, "jpg", {"captions": ["a photo"], **record})
    return [str(path) for path in sorted(folder.glob("*.tar"))]


def local_photos(realdata):
    return {int(p.stem): p for p in sorted((realdata / "coco_mini").glob("*2017/*.jpg"))}


@pytest.fixture
def photo_shards(realdata, tmp_path):
    """All photos as `data convert coco` names them."""
    photos = local_photos(realdata).values()
    return write(tmp_path / "coco", [(p.stem, p.read_bytes(), {"image_id": p.stem, "source": "coco"}) for p in photos])


def truth(realdata):
    """COCO numbers in the benchmarks' own files, read without the code under test: any run of twelve digits."""
    numbers = {}
    for task, files in {"valse": "valse/*.json", "sugarcrepe": "sugarcrepe/*.json", "vsr": "vsr/*/*.jsonl"}.items():
        found = numbers[task] = set()
        for path in realdata.glob(files):
            text = path.read_text()
            items = [json.loads(line) for line in text.splitlines()] if task == "vsr" else json.loads(text).values()
            for item in items:
                if item.get("mturk", {"caption": 3})["caption"] >= 2:
                    name = next(item[key] for key in ("image", "image_file", "filename") if key in item)
                    if "VisualDialog" not in name:
                        found |= {int(n) for n in re.findall(r"\d{12}", name)}
    lines = (realdata / "karpathy/karpathy_test_images.txt").read_text().split("\n")
    numbers["coco-karpathy"] = {int(line.split()[1]) for line in lines if line}
    return numbers


@pytest.mark.realdata
def test_finds_the_photos_that_are_in_the_benchmarks_by_id(realdata, photo_shards):
    result = audit(photo_shards, read_benchmarks([realdata]))
    local = local_photos(realdata).keys()
    for task, numbers in truth(realdata).items():
        uses = {use.identity for use in result.uses if use.task == task}
        found = {int(m.image_id) for m in result.matches if uses & set(m.by_id)}
        assert found == numbers & local
        assert len(found) >= 13
    assert result.samples == 239


@pytest.mark.realdata
def test_finds_the_81_photos_of_the_local_items(realdata, photo_shards, tmp_path, capsys):
    """By id, and, where the photos were re-encoded, resized and renamed, by perceptual hash alone."""
    items = realdata / "coco_mini/derived_local_benchmark_items.json"
    listed = {item["image"] for of_task in json.loads(items.read_text()).values() for item in of_task}
    expected = {path.rpartition("/")[2].removesuffix(".jpg") for path in listed}
    out = tmp_path / "exclude.json"
    assert main(["data", "audit", *photo_shards, "--benchmarks", str(items), "--out", str(out)]) == 0
    assert "81 of 239 samples" in capsys.readouterr().out
    assert Exclusion.load(out) == Exclusion(expected)

    folder = realdata / "coco_mini"
    words = ["--images", f"{folder}/val2017", "--captions", f"{folder}/annotations/captions_val2017_159imgs.json"]
    words += ["--exclude", str(out), "--out", str(tmp_path / "kept"), "--workers", "1"]
    assert main(["data", "convert", "coco", *words]) == 0
    kept = {key for shard in (tmp_path / "kept").glob("*.tar") for key in ShardIndex.of(str(shard)).keys}
    assert kept == {path.stem for path in folder.glob("val2017/*.jpg")} - expected

    def renamed(number, path):
        buffer = io.BytesIO()
        photo = Image.open(path).convert("RGB")
        photo.resize((photo.width // 2, photo.height // 2)).save(buffer, "JPEG", quality=60)
        return f"s{number}", buffer.getvalue(), {"image_id": f"my-{number}", "source": "mine"}

    photos = list(local_photos(realdata).values())
    shards = write(tmp_path / "renamed", [renamed(n, path) for n, path in enumerate(photos)])
    uses = read_benchmarks([items])
    assert audit(shards, uses).matches == []
    found = audit(shards, uses, [realdata / "coco_mini"]).matches
    assert {photos[int(match.image_id[3:])].stem for match in found} == expected
    assert all(match.by_id == () and len(match.by_hash) == 1 for match in found)


def test_any_field_that_names_the_image_counts(tmp_path):
    folder = tmp_path / "b" / "whatsup"
    folder.mkdir(parents=True)
    (folder / "coco_qa_one_obj.json").write_text(json.dumps([[42, "yes", "no"], [7, "yes", "no"], [7, "a", "b"]]))
    (folder / "vg_qa_two_obj.json").write_text(json.dumps([[2356347, "yes", "no"]]))
    mug = {"image_path": "x/mug_left_of_cap.jpeg", "caption_options": list("abcd")}
    (folder / "controlled_clevr_dataset.json").write_text(json.dumps([mug]))
    image = picture(0, format="JPEG")
    shards = write(
        tmp_path / "s",
        [
            ("000000000042", image, {}),
            ("a", image, {"image_id": "other", "url": "http://images.cocodataset.org/train2017/000000000007.jpg"}),
            ("b", image, {"image_id": "2356347", "source": "gqa"}),
            ("c", image, {"image_id": "2356347", "source": "mine"}),
            ("d", image, {"image_id": "mug_left_of_cap.png"}),
            ("000000007", image, {"key": "000000007"}),  # as img2dataset numbers its samples
        ],
    )
    result = audit(shards, read_benchmarks([tmp_path / "b"]))
    assert [(m.key, m.image_id, m.by_id) for m in result.matches] == [
        ("000000000042", "000000000042", ("coco:42",)),
        ("a", "other", ("coco:7",)),
        ("b", "2356347", ("vg:2356347",)),
        ("d", "mug_left_of_cap.png", ("file:mug_left_of_cap",)),
    ]
    assert result.unplaced == {"mine": 1}
    rows = {(row["benchmark"], row["split"]): row for row in result.rows()}
    assert rows["whatsup", "coco_one"]["items_touched"] == 3
    assert rows["whatsup", "coco_one"]["images_found"] == 2
    told = audit(shards, result.uses, origins={"mine": "vg"})
    assert [m.key for m in told.matches] == ["000000000042", "a", "b", "c", "d"]
    assert {m.key for m in audit(shards, result.uses, workers=2).matches} == {m.key for m in result.matches}


def test_visual_genome_images_that_are_coco_images(tmp_path):
    """Names of one image lead to each other, whichever the training data and the benchmark use."""
    path = tmp_path / "image_data.json"
    url = "https://cs.stanford.edu/people/rak248/VG_100K/2370463.jpg"
    path.write_text(
        json.dumps([{"image_id": 2412112, "url": url, "coco_id": 547168}, {"image_id": 5, "coco_id": None}])
    )
    assert read_twins(path)["coco:547168"] == {"vg:2412112", "vg:2370463"}
    (tmp_path / "vsr" / "zeroshot").mkdir(parents=True)
    item = {"image": "000000547168.jpg", "caption": "x", "label": 1, "relation": "on"}
    (tmp_path / "vsr" / "zeroshot" / "test.jsonl").write_text(json.dumps(item))
    shards = write(tmp_path / "s", [("a", picture(0, format="JPEG"), {"image_id": "2412112", "source": "vg"})])
    uses = read_benchmarks([tmp_path], ["vsr"])
    assert audit(shards, uses).matches == []
    assert [m.by_id for m in audit(shards, uses, image_data=path).matches] == [("coco:547168",)]


def test_benchmark_files_in_their_published_forms(tmp_path):
    def put(name, content):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))

    def valse(image, votes=3):
        return {"image_file": image, "caption": "a", "foil": "b", "mturk": {"caption": votes}}

    put("vsr/zeroshot/dev.jsonl", {"image": "000000000001.jpg", "caption": "x", "label": 1, "relation": "on"})
    put("valse/existence.json", {"a": valse("v7w_2.jpg"), "b": valse("v7w_3.jpg", votes=1)})
    pair = {"caption": "a", "negative_caption": "b"}
    put("sugar-crepe/add_obj.json", {"0": {"filename": "000000000004.jpg", **pair}})
    box = dict.fromkeys(("bbox_x", "bbox_y", "bbox_w", "bbox_h"), 1)
    texts = {"true_caption": "a", "false_caption": "b", "relation_name": "on"}
    put("aro/visual_genome_relation.json", [{"image_path": "5.jpg", **texts, **box}])
    put("aro/coco_karpathy_test.json", [{"image": "val2014/COCO_val2014_000000000006.jpg", "caption": ["a dog", "b"]}])
    images = [
        {"filename": f"COCO_val2014_00000000000{n}.jpg", "split": split, "sentences": [{"raw": "a"}]}
        for n, split in ((7, "test"), (8, "val"))
    ]
    put("coco-karpathy/dataset_coco.json", {"images": images})
    found = {(use.task, use.split, use.identity, use.items) for use in read_benchmarks([tmp_path])}
    assert found == {
        ("vsr", "zeroshot/dev", "coco:1", 1),
        ("valse", "existence", "vg:2", 1),
        ("sugarcrepe", "add_obj", "coco:4", 1),
        ("aro", "relation", "vg:5", 1),
        ("aro", "coco_order", "coco:6", 2),
        ("coco-karpathy", "test", "coco:7", 1),
    }


def test_files_are_found_by_any_of_their_names(tmp_path):
    for name in ("a/COCO_val2014_000000000042.jpg", "b/000000000042.jpg", "c/17.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(picture(format="JPEG"))
    found = find_images([tmp_path], {"coco:42", "vg:17", "vg:18"})
    assert {name: path.relative_to(tmp_path).as_posix() for name, path in found.items()} == {
        "coco:42": "a/COCO_val2014_000000000042.jpg",
        "vg:17": "c/17.jpg",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--benchmarks", "{}/nowhere"], "neither a folder nor a file"),
        (["--benchmarks", "{}"], "no benchmark in"),
        (["--benchmarks", "{}", "--tasks", "vrs"], "unknown benchmark 'vrs'; did you mean 'vsr'"),
        (["--benchmarks", "{}", "--tasks", "aro"], "no annotations of aro in"),
        (["--benchmarks", "{}", "--origin", "a=flickr"], "expected SOURCE=coco or SOURCE=vg"),
        (["--benchmarks", "{}/bad.json"], "VSR item 0 of "),
        (["--benchmarks", "{}/bad.json", "--images", "{}/bad.json"], "lacks 'image'"),
    ],
)
def test_mistakes_are_told_in_a_line(tmp_path, capsys, words, message):
    (tmp_path / "bad.json").write_text('{"vsr": [{"caption": "x"}]}')
    shards = write(tmp_path / "s", [("a", picture(format="JPEG"), {})])
    assert main(["data", "audit", *shards, *(word.format(tmp_path) for word in words)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_every_benchmark_of_the_help_text_is_known(capsys):
    assert main(["data", "audit", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split()).replace("- ", "-")
    assert ", ".join(BENCHMARKS) in text
