import csv
import json
from dataclasses import replace

import pytest

from relpretrain.zeroshot.command import main
from relpretrain.zeroshot.evaluate import evaluate, prepare
from relpretrain.zeroshot.results.items import Scored, disagreements, item_results, read_items, write_items
from relpretrain.zeroshot.results.scores import write_scores
from relpretrain.zeroshot.scorers import ConstantScorer
from relpretrain.zeroshot.tasks import TASKS, Source
from tests.zeroshot.helpers import ColourScorer, write_benchmarks, write_images
from tests.zeroshot.more_folders import write_more_folders


@pytest.fixture
def data(tmp_path):
    folder = write_benchmarks(tmp_path / "data")
    write_images(folder / "images")
    return folder


def scored(data, name, split="", turn=False):
    task, source = TASKS[name], Source(data)
    items = task.items(source)[split]
    located, _ = task.locate(items, source)
    records = task.score(ColourScorer(), located)
    if turn:
        records = [{**record, "score": 1 - record["score"]} for record in records]
    return Scored(task, split, records, items=items)


def test_every_item_has_its_texts_scores_and_outcome(data):
    part = scored(data, "valse")
    results = item_results(replace(part, model="colours"))
    by_text = {r.texts: r for r in results}
    assert len(results) == 3
    first = by_text["a red thing", "a blue thing"]
    assert (first.model, first.task, first.category, first.image) == ("colours", "valse", "foil-it", "red.png")
    assert first.right
    assert first.scores[0] > 0.8 > 0.3 > first.scores[1]
    assert sum(r.right for r in results) == part.task.summarise(part.records).overall.correct


def test_scores_stand_beside_their_texts_whatever_the_order_of_the_file(data):
    part = scored(data, "valse")
    turned = Scored(part.task, "", part.records[::-1], items=part.items)
    key = lambda r: r.id  # noqa: E731
    assert sorted(item_results(part), key=key) == sorted(item_results(turned), key=key)


def test_scores_stand_beside_their_texts_where_one_of_them_reaches_the_limit(data):
    part = scored(data, "valse")
    plain = {result.id: result for result in item_results(part)}
    long = [{**record, "at_limit": True} if record["type"] == "caption" else record for record in part.records]
    assert {result.id: result for result in item_results(replace(part, records=long))} == plain
    assert all(len(result.scores) == 2 for result in plain.values())


def test_prompts_of_all_classes_are_not_repeated_for_every_image(tmp_path):
    data = write_more_folders(tmp_path / "data")
    ready, _ = prepare(["classification"], Source(data))
    (part,) = evaluate(ConstantScorer(), ready)
    results = item_results(part)
    assert len(results) == 2 * len(part.items) > 0
    assert all(result.image and not result.texts for result in results)


def test_without_annotations_there_are_scores_only(data):
    part = scored(data, "vsr", "synthetic/test")
    results = item_results(Scored(part.task, part.split, part.records))
    assert [(r.image, r.texts, len(r.scores)) for r in results] == [("", (), 1)] * 4
    assert [r.right for r in results] == [r.right for r in item_results(part)]


def test_the_table_of_items_is_read_back(data, tmp_path):
    results = item_results(scored(data, "valse")) + item_results(scored(data, "vsr", "synthetic/test"))
    write_items(tmp_path / "deep" / "items.csv", results)
    assert read_items(tmp_path / "deep" / "items.csv") == results
    with (tmp_path / "deep" / "items.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {"task", "split", "category", "id", "texts", "scores", "right"} <= set(rows[0])
    assert json.loads(rows[0]["texts"]) == list(results[0].texts)
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"x\.csv is no table of items"):
        read_items(tmp_path / "x.csv")


def test_the_command_writes_the_items_of_a_report(world, checkpoint, tmp_path):
    out = tmp_path / "out"
    arguments = ["--checkpoint", str(checkpoint), "--tasks", "vsr", "valse", "graphs", "--data", str(world)]
    assert main([*arguments, "--out", str(out)]) == 0
    results = read_items(out / "items.csv")
    assert {r.model for r in results} == {str(checkpoint)}
    tables = json.loads((out / "zero_shot.json").read_text())["tables"]
    for table in tables:
        mine = [r for r in results if (r.task, r.split) == (table["task"], table["split"])]
        rows = table["rows"] if table["task"] == "graphs" else table["rows"][:1]
        assert len(mine) == sum(row["n"] for row in rows) > 0
        assert sum(r.right for r in mine) == sum(row["correct"] for row in rows)
        assert all((r.texts and r.scores and r.image) or r.task == "graphs" for r in mine)


def test_texts_of_a_report_do_not_decide_for_a_comparison(data, tmp_path, capsys):
    part = scored(data, "vsr", "synthetic/test")
    folders = []
    for name, shift in (("a", 0.0), ("b", 0.1)):
        records = [{**record, "score": record["score"] * (1 - shift)} for record in part.records]
        write_scores(tmp_path / name / "scores" / "vsr.synthetic_test.jsonl", records)
        results = item_results(replace(part, records=records))
        write_items(tmp_path / name / "items.csv", results)
        folders.append(str(tmp_path / name))
    best = max(record["score"] for record in part.records)
    between = ["--threshold", str(best * 0.95)]  # the same at 0.5, but not here
    assert main(["--compare", *folders, *between, "--out", str(tmp_path / "out")]) == 0
    state = json.loads((tmp_path / "out" / "zero_shot.json").read_text())["comparisons"][0]
    paired = state["rows"][0]["paired"]
    sides = {side: state["disagreements"][side] for side in ("gained", "lost")}
    assert sides == {side: paired[side] for side in sides}
    assert sum(sides.values()) > 0


def test_disagreements_are_a_seeded_sample_of_all(data):
    part = scored(data, "vsr", "synthetic/test")
    first, second = item_results(part), item_results(scored(data, "vsr", "synthetic/test", turn=True))
    found = disagreements(first, second[::-1])
    assert found.total == 4 == len(found.shown)
    assert all(a.key == b.key and a.right != b.right for a, b in found.shown)
    assert disagreements(first, first).total == 0
    many = [r.__class__(**{**vars(r), "id": str(i)}) for i in range(50) for r in first[:1]]
    turned = [r.__class__(**{**vars(r), "right": not r.right}) for r in many]
    sample = disagreements(many, turned, limit=10, seed=1)
    assert (sample.total, len(sample.shown)) == (50, 10)
    assert sample == disagreements(many, turned, limit=10, seed=1) != disagreements(many, turned, limit=10, seed=2)
    assert disagreements(many[:5], turned, limit=10).total == 5
