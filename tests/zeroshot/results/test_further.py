"""What stored scores say besides, without a model."""

import json
from dataclasses import replace

import numpy as np
import pytest

from relpretrain.zeroshot.command import main
from relpretrain.zeroshot.evaluate import evaluate, prepare
from relpretrain.zeroshot.results.further import adds, further
from relpretrain.zeroshot.results.items import Scored
from relpretrain.zeroshot.scorers import ConstantScorer
from relpretrain.zeroshot.scorers.blind import LengthScorer
from relpretrain.zeroshot.tasks import TASKS, Source
from tests.zeroshot.folders import write_folders
from tests.zeroshot.helpers import ColourScorer, write_benchmarks, write_images
from tests.zeroshot.more_folders import write_more_folders


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_more_folders(write_folders(tmp_path_factory.mktemp("further") / "data"))


def parts(data, scorer, *tasks, **more):
    ready, _ = prepare(tasks, Source(data, **more))
    return evaluate(scorer, ready)


def rows(table):
    return {row.category: row for row in table.rows}


def test_winoground_has_groupmatch():
    rng = np.random.default_rng(0)
    lines = [
        {"label": f"{n}_c{c}_i{i}", "score": float(rng.integers(4))} for n in range(80) for c in (0, 1) for i in (0, 1)
    ]
    s = {line["label"]: line["score"] for line in lines}
    right = sum(s[f"{n}_c0_i0"] + s[f"{n}_c1_i1"] > s[f"{n}_c0_i1"] + s[f"{n}_c1_i0"] for n in range(80))
    row = rows(further(Scored(TASKS["winoground"], "", lines)))["GroupMatch 2x2"]
    assert (row.n, row.correct, row.details["chance"]) == (80, right, 0.5)


def test_sets_of_four_are_matched_by_their_texts(tmp_path, data):
    from tests.zeroshot.folders import dump, paint

    texts = ["red", "blue", "green", "none"]
    items = []
    for n, kind in enumerate(("left_of", "right_of", "on", "under")):
        path = f"controlled_images/cup_{kind}_table.jpeg"
        items.append({"image_path": path, "caption_options": texts[n:] + texts[:n]})
        paint(tmp_path / "whatsup" / "images" / path, ("red", "blue", "green", "red")[n])
    dump(tmp_path / "whatsup" / "controlled_images_dataset.json", items)
    (part,) = parts(tmp_path, ColourScorer(), "whatsup", splits=("A",))
    row = rows(further(part))["GroupMatch 4x4"]
    assert (row.n, row.correct, row.details) == (1, 0, {"ties": 1, "chance": 1 / 24})  # two red images change places
    better = [r | {"score": 1.0} if r["id"] == "A/3" and r["option"] == "0" else r for r in part.records]
    assert rows(further(replace(part, records=better)))["GroupMatch 4x4"].correct == 1


def test_half_truths_are_texts_with_words_added():
    assert adds("a dog on grass", "A big dog, on grass.")
    assert not adds("a dog on grass", "a cat on grass by a dog")
    assert not adds("a dog", "a dog")
    task = TASKS["sugarcrepe"]
    from relpretrain.zeroshot.tasks.common.base import Item

    items, lines = [], []
    for n, (false, right) in enumerate((("a red dog", 0.9), ("a dog barks", 0.1), ("a cat", 0.9), ("a dog now", 0.5))):
        records = tuple(
            {"label": f"{n}_{o}", "task": "sugarcrepe", "file": "add_obj", "option": o, "id": n} for o in task.roles
        )
        items.append(Item(f"{n}.jpg", ("a dog", false), records))
        lines += [record | {"score": score} for record, score in zip(records, (right, 0.5), strict=True)]
    row = rows(further(Scored(task, "", lines, items=items)))["half-truth"]
    assert (row.n, row.correct) == (3, 1)  # "a cat" adds nothing; the last one ties


def test_ties_limits_and_calibration_are_told(data):
    (part,) = parts(data, ConstantScorer(), "sugarcrepe")
    found = rows(further(part))
    assert found["items that equal scores decide"].accuracy == 1.0
    assert found["probabilities of true and false texts"].details["calibration_error"] == pytest.approx(0.0)
    lines = [r | {"at_limit": True} if n < 7 else r for n, r in enumerate(part.records)]
    row = rows(further(Scored(part.task, "", lines)))["texts that reach the model's limit"]
    assert (row.n, row.correct) == (28, 7)


def test_the_true_text_in_other_words_is_true(data):
    (part, _) = parts(data, ColourScorer(), "hard_positives")
    said = {record["option"]: TASKS["hard_positives"].truth(record) for record in part.records}
    assert said == {"c0_i0": True, "c1_i0": True, "c2_i0": False}


def test_a_blind_model_stands_beside(data):
    (part,) = parts(data, ColourScorer(), "sugarcrepe")  # 7 of 14: "red" of blue images is wrong
    (blind,) = parts(data, LengthScorer(), "sugarcrepe", blind=True)  # "red" is shorter: all right
    found = rows(further(part, blind.records))
    assert (found["blind"].correct, found["not blind"].n) == (14, 0)
    assert found["blind"].details == {}
    other = [r | {"id": "x"} for r in blind.records[:2]]
    with pytest.raises(ValueError, match="none of its items"):
        further(part, other)


def test_the_command_shows_them(data, tmp_path, capsys):
    shared = ["--tasks", "cola", "colorswap", "--data", str(data), "--out"]
    assert main(["--blind", "length", *shared, str(tmp_path / "blind")]) == 0
    assert main(["--constant", "--beside-blind", str(tmp_path / "blind"), *shared, str(tmp_path / "a")]) == 0
    out = capsys.readouterr().out
    assert "cola further figures" in out
    assert "GroupMatch 2x2" in out
    assert "group blind" in out
    assert main(["--constant", "--tasks", "mmvp", "--data", str(data), "--beside-blind", str(tmp_path / "blind")]) == 2
    assert "holds no blind scores of mmvp" in capsys.readouterr().err


def test_blind_scores_of_stored_ones_are_found_by_their_split(tmp_path, capsys):
    data = write_benchmarks(tmp_path / "data")
    write_images(data / "images")
    for model, out in ((("--constant",), "rex"), (("--blind", "length"), "blind")):
        assert main([*model, "--tasks", "vsr", "--data", str(data), "--out", str(tmp_path / out)]) == 0
    made = tmp_path / "rex" / "scores" / "vsr.synthetic_test.jsonl"
    named = tmp_path / "mine.jsonl"
    named.write_bytes(made.read_bytes())
    beside = ["--beside-blind", str(tmp_path / "blind")]
    for known in ([str(named), "--data", str(data)], [str(made)]):  # by annotations, and by the name that was made so
        capsys.readouterr()
        assert main(["--scores", *known, *beside]) == 0
        assert "not blind" in capsys.readouterr().out
    assert main(["--scores", str(named), *beside]) == 2
    said = capsys.readouterr().err
    assert "holds blind scores of vsr by split (vsr.synthetic_dev.jsonl, vsr.synthetic_test.jsonl)" in said
    assert "give --data" in said
    lines = [json.loads(line) for line in made.read_text().splitlines()]
    named.write_text("".join(json.dumps(line | {"relation": "at"}) + "\n" for line in lines))
    (tmp_path / "blind" / "scores" / "vsr.jsonl").write_bytes(made.read_bytes())
    assert main(["--scores", str(named), *beside]) == 2
    assert "the model and the blind one are of different data" in capsys.readouterr().err
