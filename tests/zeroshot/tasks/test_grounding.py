"""Referring expressions by where a model looks."""

import json
import pickle
import shutil

import pytest
import torch

from relpretrain.explain.maps.boxes import box_scores
from relpretrain.scene_graph import Box
from relpretrain.zeroshot.scorers import MatchScorer
from relpretrain.zeroshot.scorers.constant import ConstantScorer
from relpretrain.zeroshot.tasks import TASKS, Source
from relpretrain.zeroshot.tasks.relations.refer_files import corners, read_detections, read_expressions
from tests.explain.conftest import BLUE, RED, draw, make, picture, planted, tokenizer  # noqa: F401

TASK = TASKS["grounding"]
RED_BOX, BLUE_BOX, WALL = [0, 0, 16, 12], [48, 36, 16, 12], [0, 0, 64, 48]


def dump(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def refs():
    def ref(number, ann, split, *texts, image=7):
        sentences = [{"sent_id": 10 * number + i, "sent": text, "raw": text} for i, text in enumerate(texts)]
        return {"ref_id": number, "ann_id": ann, "image_id": image, "split": split, "sentences": sentences}

    return [
        ref(1, 100, "val", "the red square", "red on the left"),
        ref(2, 101, "val", "blue square"),
        ref(3, 100, "testA", "square of red"),
        ref(4, 101, "train", "left out"),
    ]


@pytest.fixture
def data(tmp_path):
    """One image; detected boxes lie a little beside the annotated ones, and one covers all."""
    folder = tmp_path / "grounding" / "refcoco+"
    folder.mkdir(parents=True)
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs(), protocol=2))
    images = [{"id": 7, "file_name": "a.png", "width": 64, "height": 48}]
    things = [{"id": 100 + i, "image_id": 7, "bbox": box} for i, box in enumerate((RED_BOX, BLUE_BOX, WALL))]
    dump(folder / "instances.json", {"images": images, "annotations": things})
    dump(folder / "dets.json", {"7": [[*WALL, 0.9, 1], [1, 0, 16, 12], [48, 30, 16, 18], [30, 30, 10, 10]]})
    draw((RED, (0, 0, 16, 12)), (BLUE, (48, 36, 64, 48))).save(folder / "a.png")
    return tmp_path


def run(scorer, data, split, **options):
    items = TASK.items(Source(data, **options))[split]
    located, _ = TASK.locate(items, Source(data, **options))
    return TASK.score(scorer, located)


def test_a_planted_model_finds_what_is_meant(data, planted):  # noqa: F811
    records = run(MatchScorer(planted.backbone, planted.preprocess), data, "refcoco+/val/detected")
    assert [r["label"] for r in records] == ["the red square", "red on the left", "blue square"]
    assert [r["id"] for r in records] == [10, 11, 20]
    assert [r["chosen"] for r in records] == [[1, 0, 17, 12]] * 2 + [[48, 30, 64, 48]]
    assert records[0]["overlap"] == pytest.approx(15 / 17)
    assert records[2]["overlap"] == pytest.approx(12 / 18)
    (table,) = TASK.tables(records, "refcoco+/val/detected")
    assert table.overall.accuracy == 1
    assert table.overall.details == pytest.approx({"chance": 0.25, "largest": 0.0, "reachable": 1.0})
    assert {key: own.correct for key, own in TASK.outcomes(records).items()} == {10: True, 11: True, 20: True}
    assert all("boxes" not in record and TASK.recognises(record) for record in records)


@pytest.mark.parametrize("by", ["itm", "itc"])
def test_the_box_with_the_best_score_is_chosen(data, tokenizer, by, picture):  # noqa: F811
    """By the recipe, with the map made by hand."""
    from relpretrain.explain import embedding_maps, text_maps

    loaded = make("albef", tokenizer)
    records = run(MatchScorer(loaded.backbone, loaded.preprocess, by=by), data, "refcoco+/val/detected")
    boxes = [Box(0, 0, 64, 48), Box(1, 0, 17, 12), Box(48, 30, 64, 48), Box(30, 30, 40, 40)]
    for record in records:
        if by == "itm":
            (found,) = text_maps(loaded, picture, [record["label"]])
            wanted = found.maps.mean(0)
        else:
            wanted = embedding_maps(loaded, picture, [record["label"]])[0].map
        assert record["chosen"] == list(boxes[box_scores(wanted, boxes, picture.size).argmax()])
        assert record["by"] == by


def test_splits_and_boxes(data):
    assert list(TASK.items(Source(data))) == ["refcoco+/val/detected", "refcoco+/testA/detected"]
    assert list(TASK.items(Source(data, splits=("val",)))) == ["refcoco+/val/detected"]
    assert list(TASK.items(Source(data, splits=("annotated",)))) == [
        "refcoco+/val/annotated",
        "refcoco+/testA/annotated",
    ]
    assert list(TASK.items(Source(data, splits=("refcoco+/val/annotated",)))) == ["refcoco+/val/annotated"]
    (data / "grounding/refcoco+/dets.json").unlink()
    splits = TASK.items(Source(data, splits=("testA",)))
    assert list(splits) == ["refcoco+/testA/annotated"]
    (item,) = splits["refcoco+/testA/annotated"]
    assert item.texts == ("square of red",)
    assert item.records[0]["boxes"] == [[0, 0, 16, 12], [48, 36, 64, 48], [0, 0, 64, 48]]


def test_a_data_set_without_detections_is_asked_beside_one_that_has_them(data):
    other = data / "grounding" / "refcoco"
    shutil.copytree(data / "grounding" / "refcoco+", other)
    (other / "dets.json").unlink()
    both = ["refcoco/val/annotated", "refcoco/testA/annotated", "refcoco+/val/detected", "refcoco+/testA/detected"]
    assert list(TASK.items(Source(data))) == both
    assert list(TASK.items(Source(data, splits=("val",)))) == both[::2]
    assert list(TASK.items(Source(data, splits=("refcoco",)))) == both[:2]
    assert list(TASK.items(Source(data, splits=("detected",)))) == both[2:]


def test_boxes_without_an_inside_are_passed_over(data):
    """As a few annotations of COCO have; what is referred to has an inside."""
    folder = data / "grounding/refcoco+"
    content = json.loads((folder / "instances.json").read_text())
    flat = {"id": 200365, "image_id": 7, "bbox": [3, 3, 1.03, 0.0]}
    dump(folder / "instances.json", content | {"annotations": [*content["annotations"], flat]})
    dump(folder / "dets.json", {"7": [[3, 3, 0, 5], RED_BOX]})
    splits = TASK.items(Source(data, splits=("val",))) | TASK.items(Source(data, splits=("annotated",)))
    boxes = {name: own[0].records[0]["boxes"] for name, own in splits.items()}
    assert boxes["refcoco+/val/detected"] == [[0, 0, 16, 12]]
    assert len(boxes["refcoco+/val/annotated"]) == 3
    content["annotations"][0]["bbox"] = [0, 0, 16, 0]
    dump(folder / "instances.json", content)
    with pytest.raises(ValueError, match=r"Reference 1 of .* is of annotation 100, .* whose box has no inside"):
        TASK.items(Source(data))


def test_both_scores_together_have_the_maps_of_matching(data, planted):  # noqa: F811
    records = run(MatchScorer(planted.backbone, planted.preprocess, by="both"), data, "refcoco+/val/detected")
    assert {record["by"] for record in records} == {"itm"}
    assert records == run(MatchScorer(planted.backbone, planted.preprocess), data, "refcoco+/val/detected")


def test_ties_and_empty_maps_choose_nothing_right(data, planted, monkeypatch):  # noqa: F811
    from relpretrain.zeroshot.tasks.relations import grounding

    scorer = MatchScorer(planted.backbone, planted.preprocess)
    monkeypatch.setattr(grounding, "_maps", lambda scorer, image, texts: [torch.zeros(4, 4) for _ in texts])
    assert {(r["overlap"], r["chosen"]) for r in run(scorer, data, "refcoco+/val/detected")} == {(0.0, None)}
    # Two equal boxes, and another one that is chosen as well: the worst of them counts.
    flat = torch.ones(4, 4)
    monkeypatch.setattr(grounding, "_maps", lambda scorer, image, texts: [flat for _ in texts])
    dump(data / "grounding/refcoco+/dets.json", {"7": [RED_BOX, BLUE_BOX]})
    assert [r["overlap"] for r in run(scorer, data, "refcoco+/val/detected")] == [0, 0, 0]
    dump(data / "grounding/refcoco+/dets.json", {})
    records = run(scorer, data, "refcoco+/val/detected")
    assert [(r["overlap"], r["candidates"], r["chance"]) for r in records] == [(0, 0, 0)] * 3


def test_files_of_other_forms(data, tmp_path):
    folder = data / "grounding/refcoco+"
    expressions, boxes = read_expressions(folder)
    (folder / "refs(unc).p").unlink()
    dump(folder / "refs.json", refs())
    assert read_expressions(folder) == (expressions, boxes)
    dump(tmp_path / "d.json", [{"image_id": 7, "box": RED_BOX, "score": 0.5}, {"image_id": 7, "box": WALL}])
    assert read_detections(tmp_path / "d.json") == {7: [(0, 0, 16, 12), (0, 0, 64, 48)]}


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_mistakes_are_told(data, planted, tmp_path, capsys):  # noqa: F811
    folder = data / "grounding/refcoco+"
    (folder / "refs(unc).p").write_bytes(pickle.dumps([Evil()]))
    with pytest.raises(ValueError, match=r"refs\(unc\).p cannot be read as plain lists and texts: it names .*print"):
        TASK.items(Source(data))
    assert capsys.readouterr().out == ""
    (folder / "refs(unc).p").write_bytes(b"\x80")
    with pytest.raises(ValueError, match="cannot be read as plain lists"):
        TASK.items(Source(data))
    broken = refs()
    broken[1]["ann_id"] = 5
    (folder / "refs(unc).p").write_bytes(pickle.dumps(broken))
    with pytest.raises(ValueError, match=r"Reference 2 of .* is of annotation 5, which .*instances.json lacks"):
        TASK.items(Source(data))
    (folder / "refs(unc).p").unlink()
    with pytest.raises(ValueError, match=r"holds none of refs\(unc\).p"):
        TASK.items(Source(data))
    (tmp_path / "other" / "grounding").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"holds none of the folders refcoco, refcoco\+, refcocog"):
        TASK.items(Source(tmp_path / "other"))
    for box in ([0, 0, 3], [0, 0, -1, 3], "box", [0, 0, float("inf"), 3], [0, "x", 2, 3]):
        with pytest.raises(ValueError, match="a box is"):
            corners(box, "Here")
    dump(tmp_path / "d.json", {"seven": []})
    with pytest.raises(ValueError, match="a list of boxes for each image number, got 'seven'"):
        read_detections(tmp_path / "d.json")


@pytest.mark.parametrize(
    ("part", "place", "value", "said"),
    [
        ("images", "id", None, "An image of .*: 'id' must be a finite number, not None"),
        ("images", "file_name", 3, "An image of .*: 'file_name' must be a text, not 3"),
        ("annotations", "id", [1], r"An annotation of .*: 'id' must be a finite number, not \[1\]"),
        ("annotations", "image_id", {}, "An annotation of .*: 'image_id' must be a finite number"),
        ("refs", "ann_id", [100], "Reference 1 of .*: 'ann_id' must be a finite number"),
        ("refs", "sentences", [{"sent_id": "a", "sent": "b"}], "Reference 1 of .*: 'sent_id' must be a finite number"),
        ("dets", "image_id", "7", "A detection of .*: 'image_id' must be a finite number, not '7'"),
    ],
)
def test_malformed_files_are_told(data, part, place, value, said):
    folder = data / "grounding/refcoco+"
    content = json.loads((folder / "instances.json").read_text()) | {"refs": refs()}
    content["dets"] = [{"image_id": 7, "box": RED_BOX}]
    content[part][0][place] = value
    dump(folder / "instances.json", {name: content[name] for name in ("images", "annotations")})
    (folder / "refs(unc).p").write_bytes(pickle.dumps(content["refs"]))
    dump(folder / "dets.json", content["dets"])
    with pytest.raises(ValueError, match=said):
        TASK.items(Source(data))


def test_other_scorers_are_refused(data):
    with pytest.raises(ValueError, match="takes --checkpoint of an ALBEF or X-VLM"):
        run(ConstantScorer(), data, "refcoco+/val/detected", blind=True)
