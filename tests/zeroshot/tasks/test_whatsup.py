"""What'sUp: individual, pair and set accuracy against the loops of the official code."""

import numpy as np
import pytest

from relpretrain.zeroshot.tasks import TASKS, Source
from relpretrain.zeroshot.tasks.relations.whatsup import SUBSETS
from tests.zeroshot.folders import dump, write_whatsup

WHATSUP = TASKS["whatsup"]


def controlled(subset, sets, seed=0, levels=3, missing=()):
    prepositions = [name for pair in SUBSETS[subset].opposites for name in pair]
    rng = np.random.default_rng([seed, levels])
    cases = [(f"cup{n} table", p) for n in range(sets) for p in prepositions if (n, p) not in missing]
    return [
        {"label": f"{subset}/{n}_{o}", "score": float(rng.integers(levels)), "task": "whatsup", "subset": subset}
        | {"preposition": preposition, "things": things, "option": str(o), "id": f"{subset}/{n}"}
        for n, (things, preposition) in enumerate(cases)
        for o in range(4)
    ]


def official(records, opposites):
    """Right items, pairs and sets."""
    by_things, individual = {}, 0
    for start in range(0, len(records), 4):
        chosen = int(np.argmax([record["score"] for record in records[start : start + 4]]))
        individual += chosen == 0
        by_things.setdefault(records[start]["things"], {})[records[start]["preposition"]] = chosen == 0
    pairs = sets = 0
    for four in by_things.values():
        for a, b in opposites:
            pairs += bool(four.get(a) and four.get(b))
        sets += sum(four.values()) == 4
    return individual, pairs, sets


@pytest.mark.parametrize("subset", ["A", "B"])
@pytest.mark.parametrize("levels", [1, 2, 3, 1000])
def test_pairs_and_sets_are_those_of_a_loop(subset, levels):
    records = controlled(subset, 100, levels=levels)
    table = WHATSUP.summarise(records)
    individual, pairs, sets = official(records, SUBSETS[subset].opposites)
    assert [(row.category, row.n, row.correct) for row in table.rows[:3]] == [
        ("overall", 400, individual),
        ("pairs", 200, pairs),
        ("sets", 100, sets),
    ]
    assert sum(row.n for row in table.rows[3:]) == 400


def test_an_incomplete_set_is_never_right():
    records = controlled("A", 3, levels=1, missing={(0, "on")})
    table = WHATSUP.summarise(records)
    assert [(row.n, row.correct) for row in table.rows[:3]] == [(11, 11), (5, 5), (2, 2)]
    assert table.notes == ("pairs and sets that lack images count as wrong: 1 incomplete set",)


def test_prepositions_are_found_as_in_the_official_code(tmp_path):
    write_whatsup(tmp_path)
    splits = WHATSUP.items(Source(tmp_path))
    stated = {name: [item.records[0]["preposition"] for item in items] for name, items in splits.items()}
    assert stated == {
        "A": ["left", "right", "on", "under"],
        "B": ["left", "right"],
        "coco_one": ["left"],
        "coco_two": ["above"],
        "vg_one": ["left"],
        "vg_two": ["behind"],
    }
    assert splits["A"][0].records[0]["things"] == "cup table"
    assert splits["coco_one"][0].image == "val2017/000000000007.jpg"
    assert splits["vg_one"][0].image == "vg_images/8.jpg"
    assert list(WHATSUP.items(Source(tmp_path, splits=("B", "vg_two")))) == ["B", "vg_two"]


def test_no_pairs_outside_controlled_images():
    records = [
        {"label": f"{n}_{o}", "score": 1.0 - o, "task": "whatsup", "subset": "vg_two", "preposition": "left"}
        | {"option": str(o), "id": n}
        for n in range(3)
        for o in (0, 1)
    ]
    table = WHATSUP.summarise(records)
    assert [row.category for row in table.rows] == ["overall", "left"]
    assert table.overall.details["chance"] == 0.5


def test_what_is_wrong_with_annotations_is_said(tmp_path):
    write_whatsup(tmp_path)
    dump(tmp_path / "whatsup" / "coco_qa_one_obj.json", [[1, "a"]])
    with pytest.raises(ValueError, match=r"Item 0 of .*coco_qa_one_obj.json must be a list of an image and 2 texts"):
        WHATSUP.items(Source(tmp_path))
    dump(tmp_path / "whatsup" / "coco_qa_one_obj.json", [[1, " ", "a"]])
    with pytest.raises(ValueError, match=r"Item 0 of .*coco_qa_one_obj.json: the right text is empty"):
        WHATSUP.items(Source(tmp_path))
    bad = [{"image_path": "x.jpeg", "caption_options": ["a", "b", "c", "d"]}]
    dump(tmp_path / "whatsup" / "controlled_images_dataset.json", bad)
    with pytest.raises(ValueError, match=r"'x.jpeg' is not called <thing>_<preposition>_<thing>.jpeg"):
        WHATSUP.items(Source(tmp_path))
