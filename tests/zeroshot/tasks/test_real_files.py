"""The authors' own files of the newer tasks: counts, versions, and outcomes that give the published rows."""

import pytest

from relpretrain.zeroshot.report.published import published_for, reproduced
from relpretrain.zeroshot.results.scores import read_scores, task_of
from relpretrain.zeroshot.results.versions import version_of_items
from relpretrain.zeroshot.tasks import TASKS, Source

pytestmark = pytest.mark.realdata

COUNTS = {
    "cola": {"": 210},
    "vl_checklist": {"relation/vg_spatial": 30650, "relation/vg_action": 12733},
    "hard_positives": {"relations": 16868, "attributes": 10575},
    "fgovd": {"hard": 3545},
}


@pytest.mark.parametrize("name", COUNTS)
def test_official_counts_and_digests(realdata, name):
    task = TASKS[name]
    splits = task.items(Source(realdata))
    assert {s: task.count([r for i in items for r in i.records])[""] for s, items in splits.items()} == COUNTS[name]
    for split, items in splits.items():
        assert version_of_items(task, split, items)
        assert not version_of_items(task, split, [*items[1:], items[0]])  # other content, same number


def constant(task, items):
    return task.tables([r | {"score": 0.5} for item in items for r in item.records])


def test_equal_pairs_of_vl_checklist_are_told_and_the_first_thousand_named(realdata):
    task = TASKS["vl_checklist"]
    items = task.items(Source(realdata, splits=("relation/vg_action",)))["relation/vg_action"]
    main, first = constant(task, items)
    assert main.notes == ("28 of 12,733 items have two equal texts, and are wrong whatever a model says",)
    assert (main.overall.n, main.overall.correct) == (12733, 0)
    assert (first.title, first.overall.n) == ("vl_checklist relation/vg_action first 1,000", 1000)


def test_a_perfect_scorer_of_fgovd_has_all_and_a_constant_one_too(realdata):
    task = TASKS["fgovd"]
    items = task.items(Source(realdata))["hard"]
    (table,) = constant(task, items)
    assert (table.overall.accuracy, table.overall.details["strict"]) == (1.0, 0.0)
    assert "37 items with fewer than 11 texts" in table.notes
    right = [r | {"score": float(r["option"] == "c0_i0")} for item in items for r in item.records]
    assert task.summarise(right).overall.details["strict"] == 1.0


PUBLISHED = {
    "ViT-B-32": ((75.83, 52.40, 49.06), (84.32, 89.50, 69.21, 82.82), (57.27, 13.65, 39.58)),
    "CLIP_TROHN-Text": ((78.18, 62.19, 57.48), None, None),
}


@pytest.mark.parametrize("model", PUBLISHED)
def test_outcomes_item_by_item_give_the_published_rows(realdata, model):
    path = realdata / "golden_scores" / "BiVLC" / f"BiVLC_{model}.csv"
    records = read_scores(path)
    assert task_of(records, path) == "bivlc"
    main, by_category = TASKS["bivlc"].tables(records)
    found = {row.category: round(100 * row.accuracy, 2) for row in (*main.rows, *by_category.rows)}
    scores, sides, types = PUBLISHED[model]
    assert tuple(found[name] for name in ("I2T", "T2I", "group")) == scores
    if sides is not None:
        assert tuple(found[name] for name in ("Ipos2T", "Ineg2T", "Tpos2I", "Tneg2I")) == sides
        assert tuple(found[f"{name} (all)"] for name in ("replace", "swap", "add")) == types
    assert main.overall.n == 2933
    assert not any("ties" in row.details for table in (main, by_category) for row in table.rows)  # not told
    assert "GroupMatch" not in found
    assert published_for(main) is not None
    assert reproduced(main) == ({"ViT-B-32": "CLIP-B/32", "CLIP_TROHN-Text": "CLIP TROHN-Text"}[model],)


def test_by_category_is_a_plain_count(realdata):
    records = read_scores(realdata / "golden_scores" / "BiVLC" / "BiVLC_ViT-B-32.csv")
    table = TASKS["bivlc"].tables(records)[1]
    for kind, subtype in (("replace", "rel"), ("swap", "obj")):
        chosen = [r for r in records if (r["type"], r["subtype"]) == (kind, subtype)]
        row = next(row for row in table.rows if row.category == f"{kind} {subtype}")
        assert (row.n, row.correct) == (len(chosen), sum(r["group_score"] == "True" for r in chosen))
        assert row.details["I2T"] == sum(r["text_score"] == "True" for r in chosen) / len(chosen)
