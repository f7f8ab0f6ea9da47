import pytest

from relpretrain.zeroshot.comparison import compare
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
