import json

import pytest

from relpretrain.zeroshot.comparison import compare
from relpretrain.zeroshot.main import main
from relpretrain.zeroshot.scores import read_scores
from relpretrain.zeroshot.statistics import holm
from relpretrain.zeroshot.tasks import TASKS


@pytest.mark.realdata
def test_categories_are_corrected_together(realdata):
    folder = realdata / "golden_scores" / "VSR_random"
    first, second = (read_scores(folder / f"{name}_test.jsonl") for name in ("albef_14m", "x-vlm_16m"))
    result = compare(TASKS["vsr"], first, second, ("ALBEF", "X-VLM"))
    overall, *categories = result.rows
    assert overall.p_holm is None
    assert len(categories) == 7
    assert [row.p_holm for row in categories] == holm([row.paired.p_value for row in categories])
    assert all(row.p_holm >= row.paired.p_value for row in categories)
    assert result.notes == ("Holm p: McNemar p corrected for the 7 categories; overall is a test of its own",)
    assert [row["p_holm"] for row in result.to_dict()["rows"]] == [row.p_holm for row in result.rows]


@pytest.mark.realdata
def test_two_models_at_a_given_threshold(realdata, tmp_path, capsys):
    folder = realdata / "golden_scores" / "VSR_random"
    files = [str(folder / f"{name}_test.jsonl") for name in ("albef_14m", "x-vlm_16m")]
    rest = ["--data", str(realdata), "--out", str(tmp_path)]
    assert main(["--compare", *files, *rest, "--threshold", "0.3"]) == 0
    state = json.loads((tmp_path / "zero_shot.json").read_text())
    row = state["comparisons"][0]["rows"][0]
    for name, path in zip(("first", "second"), files, strict=True):
        records = read_scores(type(tmp_path)(path))
        assert row[name] == pytest.approx(sum((r["score"] >= 0.3) == r["label"] for r in records) / 2024)
    assert state["comparisons"][0]["notes"][0].startswith("protocol vsr-1t: true if the score >= 0.3 (given)")
    assert sum(key.startswith("scores ") for key in state["metadata"]) == 2
    assert row["paired"]["gained"] + row["paired"]["lost"] == sum(
        state["comparisons"][0]["disagreements"][side] for side in ("gained", "lost")
    )
    capsys.readouterr()
    assert main(["--compare", *files, *rest, "--threshold", "dev"]) == 2
    assert "--compare takes a number" in capsys.readouterr().err
