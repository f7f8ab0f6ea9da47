import json
from pathlib import Path

import pytest

from relpretrain.zeroshot.analysis.statistics import best_threshold
from relpretrain.zeroshot.command import main
from relpretrain.zeroshot.results.items import Scored
from relpretrain.zeroshot.results.thresholds import with_threshold
from relpretrain.zeroshot.tasks import TASKS

VSR, VALSE = TASKS["vsr"], TASKS["valse"]


def part(split, scores, labels, **extra):
    pairs = enumerate(zip(scores, labels, strict=True))
    return Scored(VSR, split, [{"label": y, "score": s, "relation": "in", "id": i, **extra} for i, (s, y) in pairs])


def accuracy(scored):
    table = scored.task.summarise(scored.records, scored.split)
    return table.overall.correct / table.overall.n, table


def test_dev_chooses_for_test_and_never_for_itself():
    dev = part("v/dev", [0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1])
    test = part("v/test", [0.1, 0.26, 0.9, 0.95], [0, 1, 0, 0])
    other = part("w/test", [0.1], [1])
    assert accuracy(test)[0] == 0.25
    found_test, found_dev = with_threshold([test, dev], "dev")
    assert found_dev is dev
    share, table = accuracy(found_test)
    assert share == 0.5  # 0.25, the middle of dev's gap; test's own best threshold would reach 0.75
    assert best_threshold([0.1, 0.26, 0.9, 0.95], [0, 1, 0, 0]).accuracy == 0.75
    assert table.protocol == "vsr-1t: true if the score >= 0.25 (chosen on v/dev), micro average"
    assert found_test.notes == ("threshold 0.25 chosen on v/dev (n = 4, 100.00 % there)",)
    changed = part("v/test", [0.1, 0.26, 0.9, 0.95], [1, 0, 1, 1])  # other labels of test change nothing
    assert with_threshold([changed, dev], "dev")[0].task.threshold == found_test.task.threshold
    with pytest.raises(ValueError, match="several scores of vsr v/dev could choose the threshold"):
        with_threshold([dev, test, part("v/dev", [0.5], [1])], "dev")
    with pytest.raises(ValueError, match="vsr w/test needs the dev part of the same split"):
        with_threshold([other, dev], "dev")


def test_scores_that_are_no_probabilities_need_a_threshold():
    dev = part("v/dev", [-3.0, 2.0, 4.0], [0, 0, 1], calibrated=False)
    test = part("v/test", [-3.0, 2.0, 4.0], [0, 1, 1], calibrated=False)
    found = with_threshold([dev, test], "dev")[1]
    assert found.task.threshold == 3.0
    assert accuracy(found)[0] == pytest.approx(2 / 3)
    assert [o.correct for o in found.task.outcomes(found.records).values()] == [True, False, True]


def test_a_given_threshold_is_another_protocol():
    found = with_threshold([part("", [0.3, 0.29], [1, 1])], 0.3)[0]
    share, table = accuracy(found)
    assert share == 0.5
    assert table.protocol.startswith("vsr-1t: true if the score >= 0.3 (given)")
    assert accuracy(part("", [0.3, 0.29], [1, 1]))[1].protocol.startswith("vsr-1: ")


def test_a_sweep_decides_as_before_and_shows_an_oracle():
    before = part("x/test", [0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1])
    share, table = accuracy(with_threshold([before], "sweep")[0])
    assert share == accuracy(before)[0] == 0.5
    assert table.overall.details["oracle"] == 1
    assert table.overall.details["oracle_threshold"] == 0.25
    assert table.overall.details["auroc"] == 1
    assert any(note.startswith("oracle: ") and note.endswith("not a result") for note in table.notes)
    assert table.protocol == VSR.protocol


def test_other_tasks_have_no_threshold():
    valse = Scored(VALSE, "", [])
    assert with_threshold([valse], None) == [valse]
    with pytest.raises(ValueError, match=r"none of the tasks scored \(valse\) decides by a threshold"):
        with_threshold([valse], 0.4)
    assert with_threshold([valse, part("", [0.5], [1])], 0.4)[0] is valse


@pytest.mark.realdata
def test_the_command_chooses_on_dev_what_test_uses(realdata, tmp_path, capsys):
    folder = realdata / "golden_scores" / "VSR_random"
    files = {name: str(folder / f"x-vlm_16m_{name}.jsonl") for name in ("dev", "test")}
    rest = ["--data", str(realdata), "--threshold", "dev", "--out", str(tmp_path)]
    assert main(["--scores", *files.values(), *rest]) == 0
    dev, test = json.loads((tmp_path / "zero_shot.json").read_text())["tables"]
    assert (dev["rows"][0]["correct"], dev["protocol"][:6]) == (687, "vsr-1:")  # 67.89 %, as published
    lines = {name: list(map(json.loads, Path(path).read_text().splitlines())) for name, path in files.items()}
    chosen = best_threshold([r["score"] for r in lines["dev"]], [r["label"] for r in lines["dev"]]).value
    right = sum((r["score"] >= chosen) == r["label"] for r in lines["test"])
    assert test["rows"][0]["correct"] == right != 1301
    assert main(["--scores", files["test"], *rest]) == 2
    assert "vsr random_v1/test needs the dev part" in capsys.readouterr().err
    assert main(["--scores", files["test"], *rest[:2], "--threshold", "nan"]) == 2
    assert "must be a number, dev or sweep, not 'nan'" in capsys.readouterr().err
