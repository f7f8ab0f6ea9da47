"""Every task on a made folder: what a constant scorer gets, that files and images are missed by name, and the cards."""

import json
import math
import shutil

import pytest
import torch

from relpretrain.zeroshot.evaluate import evaluate, prepare, summarise
from relpretrain.zeroshot.report.terminal import Report
from relpretrain.zeroshot.results.scores import read_scores, task_of, write_scores
from relpretrain.zeroshot.scorers import ConstantScorer
from relpretrain.zeroshot.tasks import TASKS, Source
from tests.zeroshot.folders import write_folders
from tests.zeroshot.helpers import ColourScorer

CONSTANT = {
    "vsr synthetic/dev": 0.5,
    "vsr synthetic/test": 0.75,
    "valse": 0.0,
    "svo": 0.0,
    "svo official": 0.5,
    "winoground": 0.0,
    "winoground by tag": 0.0,
    "aro relation": 0.0,
    "aro attribution": 0.0,
    "aro coco_order": 1.0,
    "aro flickr30k_order": 1.0,
    "sugarcrepe": 0.0,
    "sugarcrepe averages": 0.0,
    "sugarcrepe_pp": 0.0,
    "sugarcrepe_pp text only": 0.0,
    "whatsup A": 1.0,
    "whatsup B": 1.0,
    "whatsup coco_one": 1.0,
    "whatsup coco_two": 1.0,
    "whatsup vg_one": 1.0,
    "whatsup vg_two": 1.0,
    "predcls vrd/all with graph constraint": 0.0,
    "predcls vrd/all without graph constraint": 0.5,  # one of the two images has 4 predictions in all
    "predcls vrd/all by relation": 0.0,
}
"""The headline figure of every table for a scorer that gives all pairs the same logits."""

COLOURS = {
    "svo": 0.8,
    "svo official": (1 + 3 / 4) / 2,
    "winoground": 1 / 3,
    "aro relation": 3 / 4,  # "on" 1 of 2, "in" 1 of 1, "by" left out
    "aro attribution": 1.0,
    "aro coco_order": 1.0,  # a tie with "one red"
    "aro flickr30k_order": 0.0,
    "sugarcrepe": 0.5,
    "sugarcrepe_pp": 1 / 3,
    "whatsup A": 0.75,
    "whatsup coco_one": 1.0,
    "whatsup vg_one": 0.0,
    "whatsup vg_two": 1.0,  # a tie
}
"""Some of them for a scorer that finds the image's colour in the text, worked out by hand."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_folders(tmp_path_factory.mktemp("tasks") / "data")


def names(data):
    return [name for name in TASKS if (data / name).is_dir()]


def headlines(data, scorer, wanted=None):
    ready, _ = prepare(wanted or names(data), Source(data))
    return {table.title: table.overall.accuracy for table in summarise(evaluate(scorer, ready))}


@pytest.mark.parametrize("logits", [(0.0, 0.0), (-3.0, -3.0)])
def test_a_constant_scorer_gets_its_known_value_on_every_task(data, logits):
    found = headlines(data, ConstantScorer(logits))
    assert {title: value for title, value in found.items() if title in CONSTANT} == pytest.approx(CONSTANT)
    assert {title.split()[0] for title in CONSTANT} <= {title.split()[0] for title in found}


def test_a_scorer_of_colours_gets_what_was_worked_out_by_hand(data):
    found = headlines(data, ColourScorer())
    assert {title: found[title] for title in COLOURS} == pytest.approx(COLOURS)


def test_ties_are_counted_on_every_task_that_ranks(data):
    ready, _ = prepare(["valse", "svo", "winoground", "aro", "sugarcrepe", "sugarcrepe_pp", "whatsup"], Source(data))
    for table in summarise(evaluate(ConstantScorer(), ready)):
        counted = [row for row in table.rows if "ties" in row.details]
        assert counted or "official" in table.title or "averages" in table.title
        assert all(row.details["ties"] == row.n for row in counted), table.title


def test_where_a_tie_is_right_the_strict_accuracy_stands_beside_it(data):
    ready, _ = prepare(["aro", "whatsup"], Source(data, splits=()))
    tables = {table.title: table for table in summarise(evaluate(ConstantScorer(), ready))}
    for title in ("aro coco_order", "aro flickr30k_order", "whatsup A", "whatsup vg_two"):
        assert tables[title].overall.details["strict"] == 0.0
    assert "strict" not in tables["aro relation"].overall.details


def shown(task, records, split):
    return [table.to_dict() for table in task.tables(records, split)]


def test_score_files_are_known_by_their_lines_and_give_the_same_tables(data, tmp_path):
    ready, _ = prepare(names(data), Source(data))
    for part in evaluate(ConstantScorer(), ready):
        path = tmp_path / f"{part.task.name}.jsonl"
        write_scores(path, part.records)
        records = read_scores(path)
        assert task_of(records, path) == part.task.name
        assert shown(part.task, records, part.split) == shown(part.task, part.records, part.split)
        assert part.task.outcomes(records) == part.task.outcomes(part.records)


class Uncalibrated(ColourScorer):
    calibrated = False

    def score(self, image_features, index, texts):
        return super().score(image_features, index, texts) * 100 + torch.tensor([0, 300])  # probabilities would be 1


def test_scores_that_are_no_probabilities_rank_but_have_no_threshold(data):
    ready, _ = prepare(["vsr", "svo", "sugarcrepe"], Source(data))
    tables = {table.title: table for table in summarise(evaluate(Uncalibrated(), ready))}
    assert tables["svo"].overall.accuracy == 0.8
    assert tables["sugarcrepe"].overall.accuracy == 0.5
    for title, area in (("svo official", 0.875), ("vsr synthetic/test", 5 / 6)):
        table = tables[title]
        assert math.isnan(table.overall.accuracy)
        assert table.overall.details["auroc"] == pytest.approx(area)
        assert any("0.5 means nothing" in note for note in table.notes)
    report = Report(tuple(tables.values()))
    assert json.loads(report.to_json())["tables"][0]["rows"][0]["accuracy"] is None


FILES = {
    "svo": ["svo_probes.csv"],
    "winoground": ["examples.jsonl"],
    "aro": ["visual_genome_relation.json", "visual_genome_attribution.json"],
    "sugarcrepe": ["swap_obj.json", "add_att.json"],
    "sugarcrepe_pp": ["swap_att.json"],
    "whatsup": ["controlled_clevr_dataset.json"],
}


@pytest.mark.parametrize("task", FILES)
def test_missing_files_are_named(data, tmp_path, task):
    shutil.copytree(data / task, tmp_path / task)
    shutil.copytree(data / "images", tmp_path / "images")
    for file in FILES[task]:
        (tmp_path / task / file).unlink()
    with pytest.raises(ValueError, match=FILES[task][0]):
        TASKS[task].items(Source(tmp_path))
    if task in ("svo", "winoground"):
        return
    (part, *_), _ = prepare([task], Source(tmp_path, allow_missing=True))
    assert any(f"{len(FILES[task])} of the" in note and FILES[task][0] in note for note in part.notes)


@pytest.mark.parametrize("task", ["svo", "winoground", "aro", "sugarcrepe", "sugarcrepe_pp", "whatsup", "predcls"])
def test_no_file_at_all_is_an_error_whatever_is_allowed(tmp_path, task):
    (tmp_path / task).mkdir()
    with pytest.raises(ValueError, match=str(tmp_path / task)):
        TASKS[task].items(Source(tmp_path, allow_missing=True))


@pytest.mark.parametrize(
    ("task", "image", "left"),
    [
        ("svo", "svo/images/3.jpg", 2),  # rows 0 and 2 do without the third image
        ("winoground", "winoground/images/ex_1_img_0.png", 2),
        ("sugarcrepe", "images/blue.png", 7),
        ("whatsup", "whatsup/images/controlled_images/cup_on_table.jpeg", 3),
        ("predcls", "predcls/images/b.png", 12),
    ],
)
def test_missing_images_are_named_and_leave_out_whole_items(data, tmp_path, task, image, left):
    for folder in (task, "images"):
        shutil.copytree(data / folder, tmp_path / folder)
    (tmp_path / image).unlink()
    with pytest.raises(ValueError, match=rf"1 of \d+ images of {task} were not found.*--allow-missing"):
        prepare([task], Source(tmp_path))
    ready, _ = prepare([task], Source(tmp_path, allow_missing=True))
    part = evaluate(ConstantScorer(), ready[:1])[0]
    assert sum(part.task.count(part.records).values()) == left
    assert any("items left out, n = " in note for note in part.notes)


def test_a_model_that_gives_nan_is_refused_by_every_task(data):
    ready, _ = prepare(names(data), Source(data))
    for part in ready:
        with pytest.raises(ValueError, match="not finite"):
            summarise(evaluate(ConstantScorer((float("nan"), 0.0)), [part]))


@pytest.mark.parametrize("name", ["sugarcrepe", "winoground"])
def test_two_items_of_one_id_are_refused_by_the_task(data, name):
    task = TASKS[name]
    (items,) = task.items(Source(data)).values()
    task.check(items)
    label = items[0].records[0]["label"]
    with pytest.raises(ValueError, match=f"{task.card.title}: 2 items have the same id, that of the line '{label}'"):
        task.check([*items, items[0]])
