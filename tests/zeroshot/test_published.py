from dataclasses import replace

import pytest

from relpretrain.zeroshot.published import published_for, published_tables, reproduced
from relpretrain.zeroshot.scores import find_split, read_scores
from relpretrain.zeroshot.table import OVERALL
from relpretrain.zeroshot.tasks import TASKS, Source

MODELS = {"albef_14m": "ALBEF-14M", "x-vlm_16m": "X-VLM-16M"}
FILES = [(f"VALSE/{name}.jsonl", model, 12) for name, model in MODELS.items()]
FILES += [(f"VSR_random/{name}_{part}.jsonl", model, 8) for name, model in MODELS.items() for part in ("dev", "test")]


def table_of(realdata, file):
    path = realdata / "golden_scores" / file
    task = TASKS["valse" if file.startswith("VALSE") else "vsr"]
    records = read_scores(path)
    split, _ = find_split(records, task.items(Source(realdata)), path)
    return task.summarise(records, split)


@pytest.mark.realdata
@pytest.mark.parametrize(("file", "model", "figures"), FILES)
def test_published_scores_give_the_published_row(realdata, file, model, figures):
    table = table_of(realdata, file)
    published = next(row for row in published_for(table).rows if row.model == model)
    ours = {row.category: f"{100 * row.accuracy:.1f}" for row in table.rows}
    assert {name: f"{value:.1f}" for name, value in published.values.items()} == ours
    assert len(ours) == figures
    assert reproduced(table) == (model,)


@pytest.mark.realdata
def test_other_data_has_no_published_rows(realdata):
    table = table_of(realdata, "VSR_random/x-vlm_16m_test.jsonl")
    changed = replace(table.rows[0], n=2023, correct=1300)
    for other in (
        replace(table, split="random_v2/test"),
        replace(table, split="random_v1/dev"),
        replace(table, protocol="vsr-1t, given threshold: true if p(match) >= 0.3"),
        replace(table, rows=(changed, *table.rows[1:])),
        replace(table, rows=()),
    ):
        assert published_for(other) is None
        assert reproduced(other) == ()


@pytest.mark.realdata
def test_one_item_more_is_no_reproduction(realdata):
    table = table_of(realdata, "VALSE/x-vlm_16m.jsonl")
    last = table.rows[-1]
    better = replace(table, rows=(*table.rows[:-1], replace(last, correct=last.correct + 1)))
    assert published_for(better) is not None
    assert reproduced(better) == ()


def test_published_figures_are_whole():
    seen = set()
    for table in published_tables():
        assert table.columns[0] == OVERALL
        key = (table.task, table.split, table.protocol)
        assert key not in seen
        seen.add(key)
        assert len({row.model for row in table.rows}) == len(table.rows)
        for row in table.rows:
            assert OVERALL in row.values
            assert all(0 < value < 100 for value in row.values.values())
            assert row.address.startswith("https://")
            assert row.source
            assert row.where
            assert row.read
    assert {key[0] for key in seen} >= {"valse", "vsr"}
