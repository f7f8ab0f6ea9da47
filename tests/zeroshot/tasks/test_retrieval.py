"""Retrieval tasks: reading every form of annotations, recalls against a naive loop, real captions and pixels."""

import json

import numpy as np
import pytest
import torch

from relpretrain.checkpoints.checkpoint import load
from relpretrain.zeroshot.scorers import ConstantScorer, MatchScorer
from relpretrain.zeroshot.tasks import TASKS
from relpretrain.zeroshot.tasks.common.base import read_image
from relpretrain.zeroshot.tasks.common.source import Source
from relpretrain.zeroshot.tasks.retrieval.karpathy import read_captions
from relpretrain.zeroshot.tasks.retrieval.retrieval import COCO, RECALLS, Retrieval
from tests.zeroshot.helpers import COLOURS, write_images

CAPTIONS = {"red.png": ["a red thing", "red"], "blue.png": ["blue it is"], "green.png": ["green", "so green"]}


def write_lists(folder, name="coco"):
    folder.mkdir(parents=True)
    listed = [{"image": image, "caption": texts} for image, texts in CAPTIONS.items()]
    (folder / f"{name}_test.json").write_text(json.dumps(listed))
    (folder / f"{name}_val.json").write_text(json.dumps([{"image": "red.png", "caption": "red"}]))


def write_karpathy(folder):
    folder.mkdir(parents=True)
    parts = ["test", "restval", "test", "val"]
    images = [
        {"filepath": "val2014", "filename": name, "split": split, "sentences": [{"raw": text} for text in texts]}
        for split, (name, texts) in zip(parts, [*CAPTIONS.items(), ("x.png", ["x"])], strict=True)
    ]
    (folder / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))


def write_coco(folder):
    folder.mkdir(parents=True)
    images = [{"id": i, "file_name": name} for i, name in enumerate(CAPTIONS)]
    texts = [{"image_id": i, "caption": text} for i, texts in enumerate(CAPTIONS.values()) for text in texts]
    (folder / "captions_val2014.json").write_text(json.dumps({"images": images, "annotations": texts}))


def test_every_form_of_annotations_is_read(tmp_path):
    write_lists(tmp_path / "a")
    assert read_captions(tmp_path / "a") == {"test": CAPTIONS, "val": {"red.png": ["red"]}}
    write_karpathy(tmp_path / "b")
    test = {f"val2014/{name}": CAPTIONS[name] for name in ("red.png", "green.png")}
    assert read_captions(tmp_path / "b") == {"test": test, "val": {"val2014/x.png": ["x"]}}
    write_coco(tmp_path / "c")
    assert read_captions(tmp_path / "c") == {"captions_val2014": CAPTIONS}
    (tmp_path / "c" / "karpathy_test_images.txt").write_text("val2014/green.png 2\nval2014/red.png 0\n")
    assert list(read_captions(tmp_path / "c")["test"].items()) == list(reversed(test.items()))


def test_broken_annotations_get_one_line(tmp_path):
    write_coco(tmp_path / "c")
    (tmp_path / "c" / "karpathy_test_images.txt").write_text("val2014/green.png 2\nother.png 7\n")
    with pytest.raises(ValueError, match=r"1 of the 2 images of test have no caption in .*captions_val2014.json: 7"):
        read_captions(tmp_path / "c")
    (tmp_path / "c" / "karpathy_test_images.txt").write_text("green.png\n")
    with pytest.raises(ValueError, match=r'Line 1 of .* is not of the form "path id"'):
        read_captions(tmp_path / "c")
    write_lists(tmp_path / "a")
    for content, message in [
        ([], "holds no list"),
        ([{"image": "a"}], "Image 0 of .* lacks 'caption'"),
        ([{"image": "a", "caption": "x"}] * 2, "has the image a twice"),
        ([{"image": "a", "caption": [" "]}], "has no caption, or an empty one"),
    ]:
        (tmp_path / "a" / "coco_test.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            read_captions(tmp_path / "a")
    (tmp_path / "d").mkdir()
    with pytest.raises(ValueError, match="holds no captions"):
        read_captions(tmp_path / "d")


class Colours(ConstantScorer):
    """Cosine 1 where the text names the image's colour."""

    fuses = False

    def encode_images(self, images):
        return [list(COLOURS.values()).index(image.getpixel((0, 0))) for image in images]

    def embed_images(self, image_features):
        return torch.eye(3)[image_features]

    def embed_texts(self, texts):
        return torch.tensor([[float(name in text) for name in COLOURS] for text in texts])


def shares(table):
    return {row.category: row.accuracy for row in table.rows}


def test_a_scorer_that_knows_finds_everything_and_one_that_does_not_finds_nothing(tmp_path):
    write_lists(tmp_path / "coco_retrieval")
    write_images(tmp_path / "images")
    task = TASKS["coco_retrieval"]
    items, _ = task.locate(task.items(Source(tmp_path))["test"], Source(tmp_path))
    records = task.score(Colours(), items)
    assert set(shares(task.summarise(records)).values()) == {1.0}
    assert len(task.tables(records)) == 1
    reranked, cosines = task.tables(task.score(ConstantScorer(), items), "test")
    assert (reranked.title, cosines.title) == ("coco_retrieval test", "coco_retrieval test without re-ranking")
    # Three wrong images, and three or four wrong captions, go first.
    assert shares(reranked) == {"r_mean": 4 / 6, "TR@1": 0, "TR@5": 1, "TR@10": 1, "IR@1": 0, "IR@5": 1, "IR@10": 1}
    assert [row.details["ties"] for row in reranked.rows[1:]] == [3, 0, 0, 5, 0, 0]
    assert task.count(records) == {"images": 3, "captions": 5}


def random_records(rng, images=40):
    """Lines of a score file, with captions of uneven number."""
    records = []
    for image in range(images):
        text = {"text_rank": int(rng.integers(0, 14)), "text_tied": 0}
        for caption in range(int(rng.integers(1, 5))):
            image_rank = {"image_rank": int(rng.integers(0, 14)), "image_tied": 0}
            ranks = text | image_rank
            records.append({"id": image, "caption": caption, "k_test": 5} | ranks)
            records[-1] |= {f"cosine_{name}": value + 1 for name, value in ranks.items()}
    return records


@pytest.mark.parametrize("seed", range(3))
def test_recalls_are_those_of_a_naive_loop(seed):
    records = random_records(np.random.default_rng([seed, 5]))
    task = Retrieval(COCO, 5)
    for table, prefix in zip(task.tables(records), ("", "cosine_"), strict=True):
        found, naive = shares(table), {}
        for k in RECALLS:
            by_image = {r["id"]: r[f"{prefix}text_rank"] for r in records}
            naive[f"TR@{k}"] = sum(1 <= rank <= k for rank in by_image.values()) / len(by_image)
            naive[f"IR@{k}"] = sum(1 <= r[f"{prefix}image_rank"] <= k for r in records) / len(records)
        naive["r_mean"] = sum(naive.values()) / 6
        assert found == pytest.approx(naive)
        mean = table.overall
        assert mean.low < mean.accuracy < mean.high
    outcomes = task.outcomes(records)
    for name in found:
        if name != "r_mean":
            right = [o.correct for key, o in outcomes.items() if key[0] == name]
            assert sum(right) / len(right) == pytest.approx(shares(task.summarise(records))[name])


def test_ties_are_counted_where_they_decide():
    record = {"id": 0, "caption": 0, "cosine_image_rank": 1, "cosine_image_tied": 0}
    task = Retrieval(COCO, 5)
    for rank, tied, expected in [(1, 0, [0, 0, 0]), (2, 1, [1, 0, 0]), (7, 2, [0, 1, 0]), (20, 19, [1, 1, 1])]:
        table = task.summarise([record | {"cosine_text_rank": rank, "cosine_text_tied": tied}])
        assert [row.details["ties"] for row in table.rows[1:4]] == expected


def test_missing_images_take_their_captions_along(tmp_path):
    write_lists(tmp_path / "coco_retrieval")
    write_images(tmp_path / "images", ["red", "blue"])
    task, source = TASKS["coco_retrieval"], Source(tmp_path, allow_missing=True)
    items, notes = task.locate(task.items(source)["test"], source)
    assert "1 of 3 images of coco_retrieval were not found (green.png)" in notes[0]
    assert task.count(task.score(Colours(), items)) == {"images": 2, "captions": 3}


@pytest.mark.realdata
def test_the_karpathy_lists_are_complete(realdata, tmp_path):
    folder = tmp_path / "coco_retrieval"
    folder.mkdir()
    lists = {split: realdata / "karpathy" / f"karpathy_{split}_images.txt" for split in ("test", "val")}
    ids = {split: [int(line.split()[1]) for line in path.read_text().splitlines()] for split, path in lists.items()}
    assert {split: len(set(found)) for split, found in ids.items()} == {"test": 5000, "val": 5000}
    assert not set(ids["test"]) & set(ids["val"])
    captions = json.loads((realdata / "coco_mini/annotations/captions_val2017_full5000.json").read_text())
    shared = set(ids["test"]) & {image["id"] for image in captions["images"]}
    (folder / "captions_val2017.json").write_text(json.dumps(captions))
    lines = [line for line in lists["test"].read_text().splitlines() if int(line.split()[1]) in shared]
    (folder / "karpathy_test_images.txt").write_text("\n".join(lines))
    items = TASKS["coco_retrieval"].items(Source(tmp_path))["test"]
    assert len(items) == len(shared) > 100
    of_image = {}
    for record in captions["annotations"]:
        of_image.setdefault(record["image_id"], []).append(record["caption"])
    assert [item.texts for item in items] == [tuple(of_image[int(line.split()[1])]) for line in lines]


@pytest.mark.realdata
def test_real_photos_are_ranked_as_one_pair_at_a_time_would(realdata, checkpoint, tmp_path):
    annotations = realdata / "coco_mini/annotations/captions_val2017_159imgs.json"
    state = json.loads(annotations.read_text())
    kept = {image["id"] for image in state["images"][:12]}
    state["images"] = state["images"][:12]
    state["annotations"] = [record for record in state["annotations"] if record["image_id"] in kept]
    (tmp_path / "coco_retrieval").mkdir()
    (tmp_path / "coco_retrieval" / "captions_val2017.json").write_text(json.dumps(state))
    source = Source(tmp_path, (realdata / "coco_mini" / "val2017",))
    task = TASKS["coco_retrieval"].with_k_test(1000)
    items, _ = task.locate(task.items(source)["captions_val2017"], source)
    loaded = load(checkpoint)
    scorer = MatchScorer(loaded.backbone, loaded.preprocess)
    records = task.score(scorer, items)
    assert task.count(records) == {"images": 12, "captions": len(state["annotations"])}
    texts = [text for item in items for text in item.texts]
    features = [scorer.encode_images([read_image(item.image)]) for item in items]
    matrix = np.stack([scorer.score(f, [0] * len(texts), texts)[:, 1].numpy() for f in features])
    owner = np.array([number for number, item in enumerate(items) for _ in item.texts])
    for t, record in enumerate(records):
        column, row = matrix[:, t], matrix[owner[t]]
        clear = np.abs(np.delete(column, owner[t]) - column[owner[t]]).min() > 1e-5
        assert not clear or record["image_rank"] == 1 + (np.delete(column, owner[t]) >= column[owner[t]]).sum()
        own = owner == owner[t]
        clear = np.abs(row[~own] - row[own].max()).min() > 1e-5
        assert not clear or record["text_rank"] == 1 + (row[~own] >= row[own].max()).sum()
