import math
import re
from pathlib import Path

import pytest

from relpretrain.zeroshot.command import main
from relpretrain.zeroshot.results.comparison import compare
from relpretrain.zeroshot.results.scores import (
    complete,
    find_split,
    models_of_files,
    read_scores,
    score_file_name,
    shared_files,
    split_of,
    task_of,
    tell_apart,
    write_scores,
)
from relpretrain.zeroshot.scorers import ConstantScorer
from relpretrain.zeroshot.tasks import TASKS, Source
from tests.zeroshot.folders import write_folders
from tests.zeroshot.helpers import write_benchmarks
from tests.zeroshot.more_folders import write_more_folders

VALSE, VSR = TASKS["valse"], TASKS["vsr"]
PUBLISHED_VALSE = {
    "x-vlm_16m": "74.50 83.6 78.7 71.5 72.0 74.8 73.1 79.2 64.6 60.0 49.0 91.9",
    "albef_14m": "69.44 69.5 76.0 61.5 61.0 64.5 70.7 77.6 60.5 55.9 61.5 96.1",
}
PUBLISHED_VSR = {
    ("x-vlm_16m", "dev"): "67.89",
    ("x-vlm_16m", "test"): "64.28",
    ("albef_14m", "dev"): "60.18",
    ("albef_14m", "test"): "58.35",
}


@pytest.mark.realdata
@pytest.mark.parametrize("model", PUBLISHED_VALSE)
def test_published_valse_figures(realdata, model):
    path = realdata / "golden_scores" / "VALSE" / f"{model}.jsonl"
    records = read_scores(path)
    assert task_of(records, path) == "valse"
    assert find_split(records, VALSE.items(Source(realdata)), path) == ("", ())
    table = VALSE.summarise(records)
    assert table.overall.n == 7702
    overall, *instruments = PUBLISHED_VALSE[model].split()
    assert f"{100 * table.overall.accuracy:.2f}" == overall
    assert [f"{100 * row.accuracy:.1f}" for row in table.rows[1:]] == instruments
    assert all(row.low <= row.accuracy <= row.high for row in table.rows)


@pytest.mark.realdata
@pytest.mark.parametrize(("model", "part"), PUBLISHED_VSR)
def test_published_vsr_figures(realdata, model, part):
    path = realdata / "golden_scores" / "VSR_random" / f"{model}_{part}.jsonl"
    records = read_scores(path)
    assert find_split(records, VSR.items(Source(realdata)), path) == (f"random_v1/{part}", ())
    table = VSR.summarise(records)
    assert table.overall.n == {"dev": 1012, "test": 2024}[part]
    assert f"{100 * table.overall.accuracy:.2f}" == PUBLISHED_VSR[model, part]
    assert table.overall.details["true"] == {"dev": 535 / 1012, "test": 1053 / 2024}[part]


@pytest.mark.realdata
def test_two_real_models_side_by_side(realdata):
    folder = realdata / "golden_scores" / "VALSE"
    first, second = (read_scores(folder / f"{name}.jsonl") for name in ("albef_14m", "x-vlm_16m"))
    result = compare(VALSE, first, second, ("ALBEF", "X-VLM"))
    overall = result.rows[0]
    assert (overall.n, len(result.rows)) == (7702, 12)
    assert overall.paired.difference == pytest.approx(overall.second - overall.first)
    assert overall.paired.low < 0.0506 < overall.paired.high
    assert overall.paired.p_value < 1e-10


def records_of(task, data, split, score=0.25):
    return [{**record, "score": score} for item in task.items(Source(data))[split] for record in item.records]


@pytest.fixture
def data(tmp_path):
    return write_benchmarks(tmp_path / "data")


def test_written_scores_are_read_back(tmp_path, data):
    records = records_of(VALSE, data, "", score=1 / 3)
    write_scores(tmp_path / "deep" / "scores.jsonl", records)
    assert read_scores(tmp_path / "deep" / "scores.jsonl") == records


def test_the_name_of_a_score_file_tells_its_split():
    assert score_file_name("valse", "") == "valse.jsonl"
    assert score_file_name("vsr", "random_v1/test") == "vsr.random_v1_test.jsonl"


def test_a_part_of_the_scores_needs_permission(tmp_path, data):
    splits, path = VSR.items(Source(data)), tmp_path / "x.jsonl"
    records = records_of(VSR, data, "synthetic/test")
    assert find_split(records, splits, path) == ("synthetic/test", ())
    with pytest.raises(ValueError, match=r"x.jsonl has 3 of the 4 scores of synthetic/test; --allow-missing"):
        find_split(records[:3], splits, path)
    split, notes = find_split(records[1:], splits, path, allow_missing=True)
    assert (split, notes) == ("synthetic/test", ("x.jsonl has 3 of the 4 scores of synthetic/test",))
    # the first two lines are all of dev and a part of test
    assert find_split(records[:2], splits, path) == ("synthetic/dev", ())


def test_scores_of_other_data_are_refused(tmp_path, data):
    records = records_of(VSR, data, "synthetic/test")
    records[1]["label"] = 1 - records[1]["label"]
    with pytest.raises(ValueError, match="belong to none of the annotated splits"):
        find_split(records, VSR.items(Source(data)), tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no scores"),
        ('{"id": 1\n', "line 1 is no JSON"),
        ("[1]\n", "Line 1 of .* is not a JSON object"),
        ('{"score": "high"}\n', "'score' must be a finite number, not 'high'"),
        ('{"score": 1e999}\n', "'score' must be a finite number, not inf"),
        ('{"score": ' + "9" * 400 + "}\n", "'score' must be a finite number, not 9999"),
        ('{"id": 1}\n{"id": [1]}\n', r"Line 2 of .*: 'id' must be a text or a number, not \[1\]"),
        ('{"subset": null}\n', "'subset' must be a text, not None"),
        ('{"rank": -1}\n', "'rank' must be a whole number or null, not -1"),
        ('{"text_tied": true}\n', "'text_tied' must be a whole number from 0, not True"),
        ('{"classes": 0}\n', "'classes' must be a whole number from 1, not 0"),
    ],
)
def test_what_is_wrong_with_a_score_file_is_said(tmp_path, text, message):
    (tmp_path / "s.jsonl").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_scores(tmp_path / "s.jsonl")
    with pytest.raises(ValueError, match="There is no score file"):
        read_scores(tmp_path / "other.jsonl")
    with pytest.raises(ValueError, match="is a folder: name a score file"):
        read_scores(tmp_path)
    with pytest.raises(ValueError, match=r"no score file or folder .*absent"):
        shared_files(tmp_path, tmp_path / "absent")
    with pytest.raises(ValueError, match="no score file of a known task: its lines have winner"):
        task_of([{"winner": 1}], tmp_path / "s.jsonl")


def test_incomplete_and_repeated_records_are_refused(data):
    records = records_of(VALSE, data, "")
    with pytest.raises(ValueError, match=r"VALSE item 0 needs one score for its caption and one for its foil"):
        VALSE.summarise(records[1:])
    with pytest.raises(ValueError, match=r"VALSE item 0 has two scores for its caption"):
        VALSE.summarise([*records, records[0]])
    with pytest.raises(ValueError, match=r"VSR item 0 has two scores"):
        VSR.summarise(records_of(VSR, data, "synthetic/dev") * 2)
    with pytest.raises(ValueError, match="not finite"):
        VALSE.summarise(records_of(VALSE, data, "", score=math.nan))
    with pytest.raises(ValueError, match=r"lacks 'score'"):
        VSR.summarise([{"id": 0, "label": 1, "relation": "in"}])


def test_a_comparison_is_of_the_same_items(data):
    first = records_of(VSR, data, "synthetic/test", score=0.9)
    second = records_of(VSR, data, "synthetic/test", score=0.1)
    result = compare(VSR, first, second[::-1], ("a", "b"))
    assert [(row.category, row.n, row.first, row.second) for row in result.rows] == [
        ("overall", 4, 0.75, 0.25),
        ("Topological", 1, 1.0, 0.0),
        ("Unallocated", 2, 0.5, 0.5),
    ]
    message = "a has 4 items, b 3, and they share 3"
    with pytest.raises(ValueError, match=message):
        compare(VSR, first, second[1:], ("a", "b"))
    shared = compare(VSR, first, second[1:], ("a", "b"), allow_missing=True)
    assert (shared.rows[0].n, shared.notes) == (3, (message,))
    with pytest.raises(ValueError, match=re.escape("they share 0")):
        compare(VSR, first[:1], second[1:], ("a", "b"), allow_missing=True)


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ("runs/a/report", "runs/b/report", ("a", "b")),
        ("x/scores/vsr.jsonl", "y/scores/vsr.jsonl", ("x", "y")),
        ("albef_14m.jsonl", "x-vlm_16m.jsonl", ("albef_14m", "x-vlm_16m")),
        ("same", "same", ("same", "same")),
    ],
)
def test_two_paths_are_told_apart(first, second, names):
    assert tell_apart(Path(first), Path(second)) == names


def test_the_score_files_of_a_report_are_of_one_model(tmp_path):
    files = ["a/scores/crepe.atom.jsonl", "a/scores/crepe.swap.jsonl", "b/scores/crepe.atom.jsonl", "out/x.jsonl"]
    tasks = ["crepe"] * 4
    assert models_of_files([tmp_path / file for file in files], tasks) == ["a", "a", "b", "x"]
    others = [tmp_path / "1" / files[0], tmp_path / "2" / files[0], tmp_path / "a" / "scores" / "mine.jsonl"]
    assert models_of_files(others, tasks[:3]) == [str(tmp_path / "1" / "a"), str(tmp_path / "2" / "a"), "mine"]


def test_averages_over_splits_are_made_again_from_score_files(tmp_path, capsys):
    data = write_more_folders(tmp_path / "data")
    assert main(["--constant", "--tasks", "crepe", "--data", str(data), "--out", str(tmp_path / "nothing")]) == 0
    assert "mean over kinds" in capsys.readouterr().out
    files = sorted(map(str, (tmp_path / "nothing" / "scores").iterdir()))
    assert len(files) > 1
    assert main(["--scores", *files]) == 0
    assert "mean over kinds" in capsys.readouterr().out


def test_split_of_inverts_the_name(tmp_path):
    assert split_of(tmp_path / "vsr.synthetic_test.jsonl", "vsr") == "synthetic_test"


PUBLISHED = {
    "svo": ("label", "score", "pos_triplet", "neg_triplet", "subj_neg", "verb_neg", "obj_neg"),
    "winoground": ("label", "score"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_lines_are_found_in_the_annotations_and_completed(tmp_path, name):
    folder, task = write_folders(tmp_path / "data"), TASKS[name]
    items = task.items(Source(folder))[""]
    ours = [{**record, "score": 0.1 * n} for n, record in enumerate(r for item in items for r in item.records)]
    path = tmp_path / "x.jsonl"
    write_scores(path, [{key: record[key] for key in PUBLISHED[name]} for record in ours])
    records = read_scores(path)
    assert find_split(records, {"": items}, path) == ("", ())
    assert complete(records, items) == ours
    assert [table.title for table in task.tables(complete(records, items))] == [t.title for t in task.tables(ours)]
    with pytest.raises(ValueError, match="belong to none of the annotated splits"):
        find_split([{**records[0], "label": records[0]["label"].replace("0_", "99_", 1)}], {"": items}, path)
    assert main(["--scores", str(path), "--data", str(folder)]) == 0


def test_lines_of_two_texts_need_no_annotation(tmp_path):
    source, task = Source(write_folders(tmp_path / "data")), TASKS["sugarcrepe_pp"]
    items, _ = task.locate(task.items(source)[""], source)
    records = task.score(ConstantScorer(), items)
    assert len(records) == 2 * 15 * 3
    assert find_split(records, {"": items}, tmp_path / "x") == ("", ())
    with pytest.raises(ValueError, match="has 44 of the 45 scores"):
        find_split(records[1:], {"": items}, tmp_path / "x")


def test_relation_classification_is_not_checked_against_files(tmp_path, capsys):
    folder = write_folders(tmp_path / "data")
    source, task = Source(folder), TASKS["predcls"]
    items, _ = task.locate(task.items(source)["vrd/all"], source)
    write_scores(tmp_path / "x.jsonl", task.score(ConstantScorer(), items))
    assert main(["--scores", str(tmp_path / "x.jsonl"), "--data", str(folder)]) == 0
    assert "not checked against" in capsys.readouterr().out
