import itertools
from collections import Counter

import pytest

from relpretrain.sources import read_hico
from relpretrain.sources.hico import few_shot, held_out
from relpretrain.sources.hico_names import OBJECTS, VERBS, gerund
from tests.sources.helpers import records, write_image, write_json

PERSON, BIKE, MUG = (
    {"bbox": b, "category_id": c} for b, c in (([1, 2, 20, 28], 1), ([5, 9, 30, 29], 2), ([2, 2, 9, 9], 47))
)


def verb(name):
    return VERBS.index(name) + 1


def image(name, pairs, boxes=(PERSON, BIKE, MUG)):
    told = [{"subject_id": s, "category_id": verb(v), "object_id": o, "hoi_category_id": 9} for s, v, o in pairs]
    return {"file_name": name, "img_id": 1, "annotations": list(boxes), "hoi_annotation": told}


@pytest.fixture
def folder(tmp_path):
    for name in "abc":
        write_image(tmp_path / f"{name}.jpg")
    return tmp_path


def triplets(record):
    labels = [entity["label"] for entity in record["entities"]]
    return [(labels[r["subject"]], r["relation"], labels[r["object"]]) for r in record["relations"]]


def read(folder, *items, **more):
    return records(read_hico, folder, write_json(folder / "test_hico.json", list(items)), **more)


def test_names():
    assert (len(VERBS), len(OBJECTS)) == (117, 80)
    assert (VERBS[0], VERBS[57], VERBS[116]) == ("adjust", "no_interaction", "zip")
    assert (OBJECTS[1], OBJECTS[13], OBJECTS[31], OBJECTS[47], OBJECTS[90]) == (
        *("person", "stop sign", "handbag", "cup", "toothbrush"),
    )
    assert [gerund(v) for v in ("ride", "sit_on", "lie_on", "tie", "cut_with", "pay", "no_interaction", "free")] == [
        *("riding", "sitting on", "lying on", "tying", "cutting with", "paying", "not interacting with", "freeing"),
    ]


def test_reads_graphs(folder):
    found, dropped = read(folder, image("a.jpg", [(0, "ride", 1), (0, "sit_on", 1), (0, "drink_with", 2)]))
    assert triplets(found[0]) == [
        ("person", "riding", "bicycle"), ("person", "sitting on", "bicycle"), ("person", "drinking with", "cup"),
    ]  # fmt: skip
    assert found[0]["entities"][1]["box"] == [5, 9, 30, 29]
    assert not +Counter(dropped)


def test_equal_boxes_are_one_entity_and_numbers_may_be_texts(folder):
    again = {**PERSON, "category_id": "1\n"}
    found, _ = read(folder, image("a.jpg", [(0, "ride", 1), (2, "hold", 1)], (PERSON, BIKE, again)))
    assert len(found[0]["entities"]) == 2
    assert triplets(found[0]) == [("person", "riding", "bicycle"), ("person", "holding", "bicycle")]


def test_what_is_dropped(folder):
    item = image("a.jpg", [(0, "ride", 1), (0, "ride", -1), (0, "ride", 9), (0, "ride", 2)])
    item["annotations"][2] = {"bbox": [0, 0, 5, 5], "category_id": 12}
    item["hoi_annotation"].append({"subject_id": 0, "object_id": 1, "category_id": 118})
    found, dropped = read(folder, item)
    assert triplets(found[0]) == [("person", "riding", "bicycle")]
    assert +Counter(dropped) == {"malformed_box": 1, "malformed_relation": 2, "relation_without_entity": 1}


@pytest.mark.parametrize(
    "pair", [(-1, 1, 1), (0, 0, 1), (0, -3, 1), (0, 1, float("inf")), (float("inf"), 1, 1), (float("nan"), 1, 1)]
)
def test_numbers_that_count_nothing_are_no_numbers_from_the_end(folder, pair):
    item = image("a.jpg", [(0, "ride", 1)])
    subject, number, object_ = pair
    item["hoi_annotation"].append({"subject_id": subject, "object_id": object_, "category_id": number})
    item["annotations"].append({"bbox": [0, 0, 5, 10**400], "category_id": 1})
    found, dropped = read(folder, item)
    assert triplets(found[0]) == [("person", "riding", "bicycle")]
    assert +Counter(dropped) == {"malformed_relation": 1, "malformed_box": 1}


@pytest.mark.parametrize("item", [[], "a", {"file_name": 3, "annotations": []}, {"file_name": "a.jpg"}])
def test_other_files_are_refused(folder, item):
    with pytest.raises(ValueError, match="not in HICO-DET's format"):
        read(folder, item)


COUNTS = Counter({("a", "x"): 9, ("a", "y"): 1, ("b", "x"): 2, ("b", "y"): 3, ("c", "z"): 1, ("c", "y"): 4})


@pytest.mark.parametrize(
    ("order", "expected"), [("rare-first", {("a", "y"), ("b", "x")}), ("non-rare-first", {("a", "x"), ("c", "y")})]
)
def test_held_out_by_frequency_with_every_part_seen(order, expected):
    found = held_out(COUNTS, order, 0.34)
    assert found == expected
    seen = set(COUNTS) - found
    for place in (0, 1):
        assert {c[place] for c in seen} == {c[place] for c in COUNTS}


def test_no_part_is_ever_lost():
    for order, share in itertools.product(("rare-first", "non-rare-first"), (0.2, 0.5, 1.0)):
        seen = set(COUNTS) - held_out(COUNTS, order, share)
        assert {p for c in seen for p in c} == {p for c in COUNTS for p in c}
    assert ("c", "z") not in held_out(COUNTS, "rare-first", 1.0)  # the only one with z


def test_few_shots_have_every_verb_and_object():
    images = [(f"{n}.jpg", [("riding", "horse")]) for n in range(200)] + [("rare.jpg", [("milking", "cow")])]
    some = few_shot(iter(images), 0.1)
    assert len(some) == 21
    assert "rare.jpg" in some
    assert some == few_shot(iter(images[::-1]), 0.1)
    assert len(few_shot(iter(images), 0.001)) == 2  # as many as all of them need


def test_splits_are_made_on_the_way_to_shards(folder):
    items = [image("a.jpg", [(0, "ride", 1)]), image("b.jpg", [(0, "hold", 1), (0, "hold", 2)]),
             image("c.jpg", [(0, "ride", 1), (0, "drink_with", 2), (0, "drink_with", 1)])]  # fmt: skip
    found, dropped = read(folder, *items, unseen="rare-first")
    kept = [t for record in found for t in triplets(record)]
    assert len(kept) == 5
    assert dropped["excluded_as_unseen"] == 1
    _, dropped = read(folder, *items, shots="1%")
    assert dropped["excluded_by_shots"] == 1  # the verbs need two images
