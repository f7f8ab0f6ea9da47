"""Hard positives and attributes of the generated world: what is true is seen in the image, what is false is not."""

import json

import pytest
from PIL import Image

from relpretrain.synthetic import generate
from relpretrain.synthetic.relations import INVERSE
from relpretrain.zeroshot.evaluate import evaluate, prepare
from relpretrain.zeroshot.scorers import ConstantScorer
from relpretrain.zeroshot.tasks import Source
from tests.synthetic.reading import KINDS, relation_of, seen_in, true

FOLDERS = ("benchmarks", "held_out_pairs", "held_out_combinations")
FEW = {"images_captions": 10, "images_regions": 0, "images_graphs": 10, "images_validation": 4}
FEW |= {"items_vsr": 3, "items_valse": 2, "image_size": 48}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    asked = {"items_hard_positives": 40, "items_attribution": 30}
    held_out = {"hold_out_pairs": 0.1, "hold_out_combinations": 0.2}
    return generate(tmp_path_factory.mktemp("world"), **FEW, **asked, **held_out, **KINDS)


def rows(folder, path):
    return json.loads((folder / path).read_text())


@pytest.mark.parametrize("name", FOLDERS)
def test_hard_positives_are_true_from_both_sides_and_false(folder, name):
    first, second = (
        rows(folder / name / "hard_positives", f"{part}/vl_checklist_relations.json")
        for part in ("data", "swapped_data")
    )
    assert len(first) == len(second) == 40
    swapped = 0
    for one, other in zip(first, second, strict=True):
        seen = seen_in(Image.open(folder / name / "images" / one["image_path"]))
        (subject, relation, object_), false = (relation_of(one[k]) for k in ("true_caption", "false_caption"))
        assert true(seen, subject, relation, object_)
        assert relation_of(other["true_caption"]) == (object_, INVERSE[relation], subject)
        assert not true(seen, *false)
        swapped += false[0] == object_
    assert 8 < swapped < 32


def test_attributes_are_exchanged(folder):
    found = rows(folder, "benchmarks/aro/visual_genome_attribution.json")
    assert len(found) == 30
    for row in found:
        seen = set(seen_in(Image.open(folder / "benchmarks" / "images" / row["image_path"])))
        true_things, false_things = (set(row[f"{key}_caption"].split(" and ")) for key in ("true", "false"))
        assert true_things == seen
        assert not false_things & seen
        words = [{word for label in things for word in label.split()} for things in (true_things, false_things)]
        assert words[0] == words[1]


def test_the_harness_reads_them_and_a_constant_scorer_wins_nothing(folder):
    for task, split, number in (("hard_positives", "relations", 40), ("aro", "attribution", 30)):
        ready, _ = prepare([task], Source(folder / "benchmarks", splits=(split,)))
        (part,) = evaluate(ConstantScorer(), ready)
        assert part.task.count(part.records) == {"": number}
        assert not any(outcome.correct for outcome in part.task.outcomes(part.records).values())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"items_attribution": 3}, "0 of 3 items on attributes were found: things must differ in colour and shape"),
        ({"items_hard_positives": 3, "relations": ("on", "below")}, "0 of 3 hard positives were found: relations need"),
    ],
)
def test_a_world_without_such_items_is_refused(tmp_path, asked, message):
    with pytest.raises(ValueError, match=message):
        generate(tmp_path / "world", **FEW, **asked)
