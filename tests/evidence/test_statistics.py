import math

import pytest

from relpretrain.evidence.statistics import Estimate, hundredths, mean_over_seeds, paired_difference, t_quantile


@pytest.mark.parametrize(("freedom", "published"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262)])
def test_quantiles_are_those_of_printed_tables(freedom, published):
    assert t_quantile(0.95, freedom) == pytest.approx(published, abs=5e-4)


def test_quantiles_agree_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    for freedom in range(1, 60):
        for level in (0.5, 0.95, 0.999):
            assert t_quantile(level, freedom) == pytest.approx(stats.t.ppf((1 + level) / 2, freedom), rel=1e-9)


def test_mean_worked_by_hand():
    # values 0.5 0.6 0.7: mean 0.6, standard deviation 0.1, standard error 0.0577350, times 4.3026527
    mean, low, high, seeds = mean_over_seeds([0.7, 0.5, 0.6])
    assert (mean, seeds) == (pytest.approx(0.6), 3)
    assert (low, high) == (pytest.approx(0.6 - 0.2484138, abs=1e-6), pytest.approx(0.6 + 0.2484138, abs=1e-6))


def test_intervals_of_shares_stay_shares():
    assert mean_over_seeds([0.9, 1.0])[1:3] == (pytest.approx(0.95 - 12.7062 * 0.05, abs=1e-4), 1.0)
    assert mean_over_seeds([0.0, 0.1]).low == 0.0


def test_differences_are_paired_over_common_seeds():
    control, treatment = {1: 0.5, 2: 0.9, 3: 0.1, 7: 0.0}, {3: 0.3, 2: 1.0, 1: 0.8, 9: 0.0}
    found = paired_difference(control, treatment)
    assert tuple(found) == pytest.approx((0.2, 0.2 - 0.2484138, 0.2 + 0.2484138, 3), abs=1e-6)
    assert paired_difference(treatment, control).mean == pytest.approx(-0.2)
    assert paired_difference({1: 0.1, 2: 0.9}, {1: 0.2, 2: 1.0})[:3] == pytest.approx((0.1, 0.1, 0.1))


def test_one_seed_has_no_interval_and_none_no_mean():
    one, none = paired_difference({1: 0.5}, {1: 0.75}), paired_difference({1: 0.5}, {2: 0.75})
    assert (one.mean, one.seeds) == (0.25, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert one.points == "+25.0 (one seed)"
    assert math.isnan(none.mean)
    assert none.points == none.percent == "not run"
    assert math.isnan(mean_over_seeds([0.5]).low)


def test_words():
    assert Estimate(0.938, 0.9129, 0.96, 5).percent == "93.8 (91.3 to 96.0)"
    assert Estimate(0.012, -0.02, 0.044, 5).points == "+1.2 (-2.0 to +4.4)"
    assert [hundredths(-0.0004, sign) for sign in ("", "+")] == ["0.0", "+0.0"]
