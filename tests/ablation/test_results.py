import math
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.ablation.design import Run
from benchmarks.ablation.measures import Measure
from benchmarks.ablation.results import (
    Estimate,
    by_step,
    final,
    mean_over_seeds,
    paired_difference,
    percent,
    read_results,
    select,
    write_results,
)
from tests.ablation.made import table

RECORDED = Path(__file__).parents[2] / "docs" / "evidence" / "results.csv"
RUN = Run("ALBEF", "+both", 3, share=0.005, sort=False, mixture="1:1", world="long")
ONE = table([(RUN, 1200, "held_out_pairs/valse/relations", "accuracy", 2 / 3, 400)]).assign(seconds=0.1 + 0.2)
BASELINE = {"backbone": "ALBEF", "arm": "baseline"}


def row(probe="p", value=0.5, step=10, metric="accuracy", seed=1, **changes):
    return Run("ALBEF", "baseline", seed, **changes), step, probe, metric, value, 100


@pytest.fixture
def path(tmp_path):
    write_results(tmp_path / "new" / "results.csv", ONE)
    return tmp_path / "new" / "results.csv"


def test_a_table_comes_back_to_the_bit(path):
    pd.testing.assert_frame_equal(read_results(path), ONE, check_exact=True, check_dtype=False)
    assert [p.name for p in path.parent.iterdir()] == ["results.csv"]


def test_a_table_from_before_a_column_has_its_usual_value(path):
    recorded = read_results(RECORDED)
    assert "graphs" not in RECORDED.read_text().partition("\n")[0].split(",")
    assert set(recorded["graphs"]) == {"human"}
    write_results(path, recorded)
    pd.testing.assert_frame_equal(read_results(path), recorded, check_exact=True)


def test_the_order_of_columns_does_not_matter(path):
    path.write_text("\n".join(",".join(reversed(line.split(","))) for line in path.read_text().splitlines()))
    pd.testing.assert_frame_equal(read_results(path), ONE, check_dtype=False)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("share", "shares", r"has no column 'share', an unknown column 'shares'; did you mean 'share'\?.*anew"),
        (",step", ",step,step", "an unknown column 'step.1'"),
        ("1200", "12.5", "line 2 has '12.5' in the column 'step'; expected a whole number"),
        (",false,", ",False,", "line 2 has 'False' in the column 'sort'; expected true or false"),
        (",long", ",lon", "line 2 has 'lon' in the column 'world'; expected main or long"),
        (",400", "", "line 2 has .* in the column 'n'; expected a whole number"),
    ],
)
def test_other_tables_are_refused_in_a_line(path, old, new, message):
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as caught:
        read_results(path)
    assert "\n" not in str(caught.value)


def test_an_empty_file_is_refused(path):
    path.write_text("")
    with pytest.raises(ValueError, match=r"results\.csv is not a table of results"):
        read_results(path)


def test_selecting_by_values_and_by_last_step():
    results = table(row(seed=s, step=t, share=h) for s in (1, 2) for t in (5, 10) for h in (0.01, 0.05))
    assert select(results, seed=2, step=(5, 10), share=0.01).index.tolist() == [4, 6]
    assert select(results).equals(results)
    runs = table([row(step=t, budget=b) for b, t in (("compute", 5), ("compute", 20), ("steps", 5), ("steps", 10))])
    assert final(runs).index.tolist() == [1, 3]


def test_a_measure_is_a_mean_over_its_probes_within_a_run():
    several = [row("p", 0.2), row("q", 0.4), row("q", 0.9, seed=2), row("p", 0.6, step=5), row("r", 1)]
    several += [row("p", 0.1, metric="auroc"), row("q", 0.3, metric="auroc")]
    rows = Measure("both", ("p", "q")).rows(by_step(table(several)))
    assert rows[["seed", "step"]].to_numpy().tolist() == [[1, 10]]
    assert rows["value"].tolist() == pytest.approx([0.3])
    assert Measure("both", ("p", "s")).rows(by_step(table(several))).empty
    with pytest.raises(ValueError, match="duplicate"):
        by_step(table([row("p"), row("p", 0.7)]))


def test_values_by_seed_are_of_the_main_comparison_unless_said_otherwise():
    measure = Measure("it", ("p",))
    rows = by_step(table(row(value=0.1 * s, seed=s, share=h) for s in (2, 1) for h in (Run.share, 0.2)))
    assert measure.by_seed(rows, **BASELINE).to_dict() == {1: 0.1, 2: 0.2}
    assert measure.by_seed(rows, **BASELINE, share=0.01).empty
    assert measure.by_seed(by_step(table([row(value=math.nan)])), **BASELINE).empty
    with pytest.raises(ValueError, match=r"albef_baseline_seed-2 .* and albef_baseline_share-0.2"):
        measure.by_seed(rows, **BASELINE, share=(Run.share, 0.2))
    with pytest.raises(ValueError, match=r"seed-1 at step 5 and .*seed-1 at step 10"):
        measure.by_seed(by_step(table([row(), row(step=5)])), **BASELINE)


def test_mean_worked_by_hand():
    # values 0.5 0.6 0.7: mean 0.6, standard deviation 0.1, standard error 0.0577350, times 4.3026527
    assert mean_over_seeds([0.7, 0.5, 0.6]) == pytest.approx((0.6, 0.6 - 0.2484138, 0.6 + 0.2484138, 3), abs=1e-6)


def test_intervals_of_shares_stay_shares():
    assert mean_over_seeds([0.9, 1.0])[1:3] == (pytest.approx(0.95 - 12.7062 * 0.05, abs=1e-4), 1.0)
    assert mean_over_seeds([0.0, 0.1]).low == 0.0
    assert mean_over_seeds([1.0, 1.0, 1.0]) == (1.0, 1.0, 1.0, 3)


def test_differences_are_paired_over_common_seeds():
    control, treatment = pd.Series({1: 0.5, 2: 0.9, 3: 0.1, 7: 0.0}), pd.Series({3: 0.3, 2: 1.0, 1: 0.8, 9: 0.0})
    found = paired_difference(control, treatment)
    assert found == pytest.approx((0.2, 0.2 - 0.2484138, 0.2 + 0.2484138, 3), abs=1e-6)
    assert paired_difference(treatment, control).mean == pytest.approx(-0.2)


def test_one_seed_has_no_interval_and_none_no_mean():
    one = paired_difference(pd.Series({1: 0.5}), pd.Series({1: 0.75}))
    none = paired_difference(pd.Series({1: 0.5}), pd.Series({2: 0.75}))
    assert (one.mean, one.seeds) == (0.25, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert one.points == "+25.0 (one seed)"
    assert none.points == none.percent == "not run"
    assert math.isnan(mean_over_seeds([0.5]).low)


def test_words():
    assert Estimate(0.938, 0.9129, 0.96, 5).percent == "93.8 (91.3 to 96.0)"
    assert Estimate(0.012, -0.02, 0.044, 5).points == "+1.2 (-2.0 to +4.4)"
    assert [percent(-0.0004, sign) for sign in ("", "+")] == ["0.0", "+0.0"]
