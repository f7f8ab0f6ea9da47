"""Versions of data: known ones are recognised, others are shown as such, and none are mixed."""

import json
import shutil

import pytest

from relpretrain.zeroshot.command import main
from relpretrain.zeroshot.evaluate import prepare
from relpretrain.zeroshot.results.scores import write_scores
from relpretrain.zeroshot.results.versions import (
    GENERATED,
    refuse_other_version,
    version_note,
    version_of_items,
    version_of_scores,
)
from relpretrain.zeroshot.tasks import TASKS, Source
from relpretrain.zeroshot.tasks.common.base import Item
from relpretrain.zeroshot.tasks.common.card import Card, Version, digest

KNOWN = [("vsr", 6), ("valse", 1), ("sugarcrepe", 1)]


@pytest.mark.realdata
@pytest.mark.parametrize(("task", "splits"), KNOWN)
def test_the_real_files_are_known_by_number_and_content(realdata, task, splits):
    task = TASKS[task]
    found = task.items(Source(realdata))
    names = {split: version_of_items(task, split, items) for split, items in found.items()}
    assert len(names) == splits
    assert all(names.values())
    versions = {version.split: version for version in task.card.versions}
    for split, items in found.items():
        assert versions[split].digest == digest(items)
        assert versions[split].n == sum(task.count([r for item in items for r in item.records]).values())


@pytest.mark.realdata
def test_a_changed_text_makes_data_unknown(realdata, tmp_path):
    shutil.copytree(realdata / "sugarcrepe", tmp_path / "sugarcrepe")
    path = tmp_path / "sugarcrepe" / "add_obj.json"
    state = json.loads(path.read_text())
    state["0"]["negative_caption"] += "!"
    path.write_text(json.dumps(state))
    task = TASKS["sugarcrepe"]
    items = task.items(Source(tmp_path))[""]
    assert version_of_items(task, "", items) == ""
    assert version_note(task, "", "", 7511) == "data: no version that is known (7,511 items; known: 0047054 with 7,511)"


def test_splits_that_nobody_published_and_generated_items_are_called_so(world):
    note = version_note(TASKS["vsr"], "mine/test", "", 400)
    assert note.startswith("data: 400 items of a split that is none of the published ones (random_v1/dev, ")
    assert "random split of TACL with 1,097 or 2,195, " in version_note(TASKS["vsr"], "", "", 400)
    for place in (world, world / "benchmarks"):
        ready, _ = prepare(["vsr", "valse"], Source(place))
        assert {part.version for part in ready} == {GENERATED}
    assert version_note(TASKS["vsr"], "synthetic/test", GENERATED, 400) == f"data: {GENERATED}"


def test_data_of_which_nobody_has_published_any_are_not_called_unknown():
    assert version_note(TASKS["graphs"], "", "", 600) == "data: 600 items, which have no published versions"


@pytest.mark.realdata
def test_files_missing_from_valse_are_named(realdata, tmp_path):
    shutil.copytree(realdata / "valse", tmp_path / "valse")
    (tmp_path / "valse" / "plurals.json").unlink()
    with pytest.raises(ValueError, match=r"1 of the 11 files of VALSE are not there \(plurals.json\).*--allow-missing"):
        TASKS["valse"].items(Source(tmp_path))
    items = TASKS["valse"].items(Source(tmp_path, allow_missing=True))[""]
    assert len(items) == 7702 - 851
    assert version_of_items(TASKS["valse"], "", items) == ""


def vsr_records(n, relation="on", label=1):
    return [{"label": label, "score": 0.5, "relation": relation, "id": i} for i in range(n)]


def test_score_files_are_known_by_their_numbers():
    assert version_of_scores(TASKS["vsr"], "", vsr_records(2024)) == "random split of the preprint"
    assert version_of_scores(TASKS["vsr"], "", vsr_records(2195)) == "random split of TACL"
    assert version_of_scores(TASKS["vsr"], "", vsr_records(2000)) == ""
    assert version_of_scores(TASKS["vsr"], "zeroshot/test", vsr_records(2024)) == ""


def test_two_known_versions_are_not_compared():
    with pytest.raises(
        ValueError, match=r"different versions of VSR cannot be compared: a of 'random split of the prep"
    ):
        refuse_other_version(TASKS["vsr"], "ab", vsr_records(2024), vsr_records(2195))


def test_lines_that_differ_on_the_same_items_are_of_different_data():
    first, second = vsr_records(9), vsr_records(7, relation="under")
    with pytest.raises(ValueError, match=r"a and b are of different data: 7 lines.*relation is 'on' and 'under'"):
        refuse_other_version(TASKS["vsr"], "ab", first, second)
    with pytest.raises(ValueError, match=r"label is 1 and 0"):
        refuse_other_version(TASKS["vsr"], "ab", first, vsr_records(9, label=0))
    refuse_other_version(TASKS["vsr"], "ab", first, vsr_records(7))  # a part of the same data is another matter


def test_options_of_one_item_are_not_taken_for_each_other():
    records = [{"label": f"1_{o}", "score": 0.1, "id": 1, "option": o, "file": "x"} for o in ("caption", "negative")]
    refuse_other_version(TASKS["sugarcrepe"], "ab", records, records[::-1])
    winoground = [{"label": f"0_c{c}_i{i}", "score": 0.1, "id": 2 * c + i} for c in (0, 1) for i in (0, 1)]
    refuse_other_version(TASKS["winoground"], "ab", winoground, [{**r, "id": 3 - r["id"]} for r in winoground])


def test_compare_refuses_other_versions_even_where_items_may_be_missing(tmp_path, capsys):
    write_scores(tmp_path / "a.jsonl", vsr_records(2024))
    write_scores(tmp_path / "b.jsonl", vsr_records(2195))
    assert main(["--compare", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"), "--allow-missing"]) == 2
    assert "cannot be compared" in capsys.readouterr().err


@pytest.mark.realdata
def test_scores_of_one_version_are_refused_with_the_annotations_of_another(realdata, tmp_path, capsys):
    (tmp_path / "vsr").mkdir()
    (tmp_path / "vsr" / "random").symlink_to(realdata / "vsr" / "random")
    scores = realdata / "golden_scores" / "VSR_random"
    file = next(scores.rglob("x-vlm_16m*test.jsonl"))
    assert main(["--scores", str(file), "--data", str(tmp_path)]) == 2
    assert "belong to none of the annotated splits" in capsys.readouterr().err
    assert main(["--scores", str(file)]) == 0
    assert "data: random split of the preprint" in capsys.readouterr().out


def test_versions_are_told_apart_by_parts_split_and_digest():
    both = (Version("one", "a", {"x": 2, "y": 3}, "d1"), Version("two", "b", {"": 5}))
    card = Card("t", "T", "?", "", "", (), "", "", "t-1", "", "", "", "", both)
    assert card.identify("a", {"x": 2, "y": 3}, "d1") == "one"
    assert card.identify("a", {"x": 2, "y": 3}, "d2") == ""
    assert card.identify("a", {"x": 3, "y": 2}) == ""
    assert card.identify("", {"": 5}) == "two"
    assert card.identify("a", {"": 5}) == ""
    assert card.identify("b", {"": 5}, "anything") == "two"


def retrieval(names, folder="val2014/"):
    """A line of retrieval for each image."""
    ranks = {f"cosine_{way}_{what}": 1 for way in ("text", "image") for what in ("rank", "tied")}
    shared = {"task": "coco_retrieval", "caption": 0, **ranks}
    return [{"label": f"{n}_0", **shared, "id": n, "image": f"{folder}{name}.jpg"} for n, name in enumerate(names)]


def test_numbers_alone_do_not_make_two_images_one():
    """Val and test of COCO have as many images and captions, numbered alike."""
    task = TASKS["coco_retrieval"]
    refuse_other_version(task, "ab", retrieval("xyz"), retrieval("xyz", "elsewhere/"))
    with pytest.raises(ValueError, match=r"2 lines on the same items differ.*image is 'val2014/y.jpg' and 'val2014/z"):
        refuse_other_version(task, "ab", retrieval("xyz"), retrieval("xzy"))


@pytest.mark.parametrize(
    ("task", "line", "other"),
    [
        ("predcls", {"id": 0, "image": "a.jpg", "relation": "on", "pairs": "all"}, {"pairs": "annotated"}),
        ("grounding", {"id": 0, "image": "a.jpg", "candidates": 9}, {"candidates": 4}),
        ("classification", {"id": "a.jpg", "class": 3, "templates": 80}, {"templates": 1}),
    ],
)
def test_questions_of_one_number_that_were_asked_otherwise_are_not_compared(task, line, other):
    refuse_other_version(TASKS[task], "ab", [line], [dict(line)])
    with pytest.raises(ValueError, match=f"a and b are of different data.*{next(iter(other))} is"):
        refuse_other_version(TASKS[task], "ab", [line], [line | other])


def test_content_is_not_hashed_where_no_known_version_has_a_digest(monkeypatch):
    """The prompts of ImageNet are megabytes, and every image has them."""
    monkeypatch.setattr("relpretrain.zeroshot.results.versions.digest", lambda items: 1 / 0)
    record = {"label": "0", "id": "0"}
    task = TASKS["classification"]
    assert version_of_items(task, "imagenet", [Item("a.jpg", ("x", "y"), (record,))]) == ""
    many = [Item("a.jpg", ("x", "y"), (record | {"id": str(n)},)) for n in range(50000)]
    assert version_of_items(task, "imagenet", many) == "ILSVRC 2012 validation"
