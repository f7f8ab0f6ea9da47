from dataclasses import replace

import numpy as np
import pytest

from relpretrain.zeroshot.analysis.table import Table, make_row
from relpretrain.zeroshot.command import main
from relpretrain.zeroshot.report.published import published_for, published_line, published_tables, reproduced
from relpretrain.zeroshot.report.terminal import read_report
from relpretrain.zeroshot.results.scores import find_split, read_scores, write_scores
from relpretrain.zeroshot.results.versions import GENERATED
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
        key = (table.task, table.split, table.protocol)
        assert key not in seen
        seen.add(key)
        assert len({row.model for row in table.rows}) == len(table.rows)
        for row in table.rows:
            assert table.columns[0] in row.values
            assert all(0 < value < 100 for value in row.values.values())
            assert row.address.startswith("https://")
            assert row.source
            assert row.where
            assert row.read
    assert {key[0] for key in seen} >= {"valse", "vsr", "winoground", "coco_retrieval", "bivlc", "mmvp", "colorswap"}


def test_published_tables_name_rows_and_protocols_of_the_tasks():
    rng = np.random.default_rng(0)
    squares = [{"label": f"{i}_c{c}_i{k}", "score": rng.random()} for i in range(400) for c in (0, 1) for k in (0, 1)]
    ranks = [
        {"task": "coco_retrieval", "id": i, "image": str(i), "caption": c, "k_test": 256}
        | {f"{p}{d}_{w}": 1 for p in ("", "cosine_") for d in ("text", "image") for w in ("rank", "tied")}
        for i in range(5000)
        for c in range(5)
    ]
    for task, records, split in (("winoground", squares, ""), ("coco_retrieval", ranks, "test")):
        table = TASKS[task].summarise(records, split)
        published = published_for(table)
        assert published is not None
        assert set(published.columns) <= {row.category for row in table.rows}
    known = {(task.name, task.protocol.partition(":")[0]) for task in TASKS.values()}
    assert {(table.task, table.protocol) for table in published_tables()} <= known
    sizes = {(t.name, v.split): v.parts.get("images", v.n) for t in TASKS.values() for v in t.card.versions}
    for table in published_tables():
        split = table.split.removesuffix(" first 1,000")
        size = 1000 if split != table.split else sizes.get((table.task, split.removesuffix("by category")))
        assert table.n in (None, 251048 if table.task == "eqben" else size), table.split  # all of EqBen, not our part


NONE = {"aro", "sugarcrepe_pp", "rocketscience", "hard_positives", "snare", "docci", "predcls", "graphs", "half_truth"}
NONE |= {"hico_relations", "open_images_relations", "grounding"}
"""Tasks of which no figure could be read at its source, or none that may stand beside ours."""


def test_a_card_says_whose_figures_are_at_hand():
    with_figures = {table.task for table in published_tables()}
    assert with_figures | NONE == set(TASKS)
    assert not with_figures & NONE
    for name in TASKS:
        assert ("none that could be read" in published_line(name)) == (name in NONE)
    assert "10 models of vl_compo" not in published_line("urban1k")
    assert published_line("urban1k").endswith(
        "1 model of beta-CLIP, 2025; 5 models of Wu et al. (LoTLIP), NeurIPS 2024\n"
    )


def test_figures_by_category_stand_beside_the_table_by_category():
    rng, parts = np.random.default_rng(0), TASKS["vismin"].card.versions[0].parts
    records = [
        {"id": f"vismin/{part}/{n}", "category": part, "option": f"c{c}_i{i}", "score": rng.random()}
        for part, size in parts.items()
        for n in range(size)
        for c in (0, 1)
        for i in (0, 1)
    ]
    whole, by_category = TASKS["vismin"].tables(records)
    assert published_for(whole) is None
    assert set(published_for(by_category).columns) == {row.category for row in by_category.rows} - {"group"}


def test_generated_items_have_no_published_rows_beside_them():
    """SVO-Probes' publication does not say its number of items: by that, any would fit."""
    table = Table("svo", "", TASKS["svo"].protocol, (make_row("overall", 10, 5),))
    assert published_for(table) is not None
    assert published_for(replace(table, version=GENERATED)) is None


def test_scores_alone_of_a_generated_world_have_no_published_rows_beside_them(tmp_path):
    """Without --data, nothing says what items scores are of but their number, which SVO-Probes' rows lack."""
    flags = dict.fromkeys(("subj_neg", "verb_neg", "obj_neg"), False) | {"verb_neg": True}
    lines = [{"label": f"{n}_{role[0]}", "score": n / 9, "type": role, "caption": "a", "id": n, **flags}
             for n in range(3) for role in ("positive", "negative")]  # fmt: skip
    write_scores(tmp_path / "svo.jsonl", lines)
    assert main(["--scores", str(tmp_path / "svo.jsonl"), "--out", str(tmp_path / "out")]) == 0
    table = read_report(tmp_path / "out" / "zero_shot.json").tables[0]
    assert (table.task, table.version) == ("svo", "")
    assert published_for(table) is None
    assert published_for(replace(table, notes=())) is not None
