"""Winoground: the three scores from published score files, tags by equality."""

import numpy as np
import pytest

from relpretrain.zeroshot.tasks import TASKS, Source
from tests.zeroshot.folders import write_winoground

WINOGROUND = TASKS["winoground"]


def lines(seed, items=60, levels=6, **tags):
    rng = np.random.default_rng([seed, levels])
    return [
        {"label": f"{n}_c{c}_i{i}", "score": float(rng.integers(levels)), "id": 4 * n + 2 * c + i}
        | {tag: values[n % len(values)] for tag, values in tags.items()}
        for n in range(items)
        for c in (0, 1)
        for i in (0, 1)
    ]


@pytest.mark.parametrize("levels", [1, 3, 10**6])
def test_scores_are_those_of_a_loop(levels):
    records = lines(0, levels=levels)
    score = {record["label"]: record["score"] for record in records}
    expected = {"text": 0, "image": 0, "group": 0}
    for n in range(60):
        s = {k: score[f"{n}_{k}"] for k in ("c0_i0", "c0_i1", "c1_i0", "c1_i1")}
        text = s["c0_i0"] > s["c1_i0"] and s["c1_i1"] > s["c0_i1"]
        image = s["c0_i0"] > s["c0_i1"] and s["c1_i1"] > s["c1_i0"]
        for name, right in (("text", text), ("image", image), ("group", text and image)):
            expected[name] += right
    table = WINOGROUND.summarise(records)
    assert {row.category: row.correct for row in table.rows} == expected
    shuffled = [records[i] for i in np.random.default_rng(0).permutation(len(records))]
    assert WINOGROUND.summarise(shuffled) == table


def test_the_number_is_in_the_label_and_not_the_line():
    records = lines(1)
    assert WINOGROUND.recognises(records[0])
    assert not WINOGROUND.recognises({"label": "0_c", "instrument": "x"})
    assert WINOGROUND.count(records) == {"": 60}
    assert len(WINOGROUND.outcomes(records)) == 180
    assert ("group", "59") in WINOGROUND.outcomes(records)


def test_tags_must_be_equal():
    records = lines(2, secondary_tag=["Symbolic", "Symbolic, Series", "", "Series"], collapsed_tag=["Object"])
    _, by_tag = WINOGROUND.tables(records)
    assert {row.category: row.n for row in by_tag.rows} == {
        "collapsed_tag: Object": 60,
        "secondary_tag: Series": 15,
        "secondary_tag: Symbolic": 15,
        "secondary_tag: Symbolic, Series": 15,
    }
    chosen = [r for r in records if r["secondary_tag"] == "Symbolic"]
    row = next(row for row in by_tag.rows if row.category == "secondary_tag: Symbolic")
    assert row.correct == WINOGROUND.summarise(chosen).overall.correct
    assert row.details["text"] == WINOGROUND.summarise(chosen).rows[1].accuracy


def test_without_tags_there_is_no_table_by_tag():
    (table,) = WINOGROUND.tables(lines(3))
    assert table.notes == ("no table by tag: the score file has no tags",)


def test_four_scores_make_an_item():
    with pytest.raises(ValueError, match="Winoground item 0 needs one score for its c0_i0 and one for its c0_i1"):
        WINOGROUND.summarise(lines(4)[1:])
    with pytest.raises(ValueError, match="Winoground item 0 has two scores for its c0_i1"):
        WINOGROUND.summarise([*lines(4), lines(4)[1]])


def test_images_with_alpha_are_read(tmp_path):
    from PIL import Image

    write_winoground(tmp_path)
    path = tmp_path / "winoground" / "images" / "ex_0_img_0.png"
    Image.open(path).convert("RGBA").save(path)
    items, _ = WINOGROUND.locate(WINOGROUND.items(Source(tmp_path))[""], Source(tmp_path))
    from tests.zeroshot.helpers import ColourScorer

    records = WINOGROUND.score(ColourScorer(), items)  # refuses images that are not RGB
    assert len(records) == 12
    assert {"collapsed_tag", "num_main_preds", "secondary_tag"} <= records[0].keys()
