import math

import numpy as np
import pytest

from relpretrain.zeroshot.statistics import best_threshold, bootstrap_interval, compare_paired, holm, mcnemar


def naive_bootstrap(values, samples=4000, seed=0):
    rng = np.random.default_rng(seed)
    means = [np.mean([values[rng.integers(len(values))] for _ in values]) for _ in range(samples)]
    return np.quantile(means, [0.025, 0.975])


@pytest.mark.parametrize("values", [[1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 1, 0], [0.2, 0.9, 0.4, 0.4, 0.7, 0.1, 0.8]])
def test_interval_agrees_with_a_loop_that_draws_items(values):
    interval = bootstrap_interval(values)
    assert interval.value == pytest.approx(np.mean(values))
    assert (interval.low, interval.high) == pytest.approx(naive_bootstrap(values), abs=0.03)


def test_interval_of_a_share_has_the_normal_width():
    values = np.arange(2000) % 4 == 0
    interval = bootstrap_interval(values)
    half = 1.96 * math.sqrt(0.25 * 0.75 / 2000)
    assert (interval.low, interval.high) == pytest.approx((0.25 - half, 0.25 + half), abs=0.002)


def test_interval_depends_on_nothing_but_values_and_seed():
    values = np.random.default_rng(0).random(50)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values[::-1], seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_interval_of_equal_values_is_a_point():
    assert bootstrap_interval([1, 1, 1]) == (1, 1, 1)


def test_interval_of_nothing_is_undefined_and_nan_is_refused():
    assert all(math.isnan(x) for x in bootstrap_interval([]))
    with pytest.raises(ValueError, match="finite"):
        bootstrap_interval([1.0, math.nan])


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 5), (2, 9), (12, 3), (31, 40)])
def test_mcnemar_agrees_with_counting_coin_throws(gained, lost):
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n
    assert mcnemar(gained, lost) == mcnemar(lost, gained) == pytest.approx(min(1, 2 * tail))


def test_mcnemar_of_thousands_of_items():
    assert mcnemar(2000, 2000) == 1
    assert 0 <= mcnemar(4000, 1000) < 1e-300


def test_paired_comparison_by_hand():
    first, second = [1, 1, 0, 0, 1, 0, 1, 0], [1, 0, 1, 1, 1, 1, 1, 0]
    first, second = first * 20, second * 20
    paired = compare_paired(first, second)
    assert (paired.gained, paired.lost) == (60, 20)
    assert paired.difference == pytest.approx(2 / 8)
    low, high = naive_bootstrap(np.array(second) - np.array(first), samples=1000)
    assert (paired.low, paired.high) == pytest.approx((low, high), abs=0.02)
    assert paired.p_value == mcnemar(60, 20)


def test_paired_comparison_is_sharper_than_two_intervals():
    rng = np.random.default_rng(0)
    first = rng.random(1000) < 0.6
    second = first | (rng.random(1000) < 0.08)
    paired = compare_paired(first, second)
    assert paired.low > 0
    assert bootstrap_interval(first).high > bootstrap_interval(second).low


def test_paired_comparison_needs_the_same_items():
    with pytest.raises(ValueError, match="same items"):
        compare_paired([1, 0], [1, 0, 1])


def naive_holm(p_values):
    """Step down: the smallest p-value times all, the next times all but one, never below the one before."""
    adjusted, floor, left = {}, 0.0, len(p_values)
    for index in sorted(range(left), key=lambda i: p_values[i]):
        floor = max(floor, min(1.0, left * p_values[index]))
        adjusted[index] = floor
        left -= 1
    return [adjusted[i] for i in range(len(p_values))]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
    assert holm([1.0, 0.9, 0.5]) == [1, 1, 1]


def test_holm_agrees_with_stepping_down():
    rng = np.random.default_rng(1)
    for _ in range(20):
        p_values = (rng.random(7) ** 3).round(2).tolist()
        assert holm(p_values) == pytest.approx(naive_holm(p_values))


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_holm_refuses_what_is_no_p_value(bad):
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, bad])


def accuracy_at(threshold, scores, labels):
    return sum((s >= threshold) == (y == 1) for s, y in zip(scores, labels, strict=True)) / len(scores)


@pytest.mark.parametrize("levels", [1, 3, 10, 1000])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_the_best_threshold_is_as_good_as_any(levels, share):
    rng = np.random.default_rng([levels, int(10 * share)])
    for _ in range(20):
        scores = rng.integers(0, levels + 1, 30) / levels
        labels = (rng.random(30) < share).astype(int)
        found = best_threshold(scores, labels)
        tried = [accuracy_at(t, scores, labels) for t in (*scores, 0.0, 0.5, 1.5)]
        assert found.accuracy == pytest.approx(max(tried))
        assert accuracy_at(found.value, scores, labels) == pytest.approx(found.accuracy)


def test_the_best_threshold_by_hand():
    assert best_threshold([0.1, 0.3, 0.8], [0, 1, 1]) == pytest.approx((0.2, 1.0))
    assert best_threshold([0.1, 0.6, 0.8], [0, 1, 1]) == (0.5, 1.0)  # 0.5 does as well as the middle, 0.35
    assert best_threshold([0.7, 0.9], [0, 1]) == pytest.approx((0.8, 1.0))
    nothing_is_true = best_threshold([1.0, 1.0], [0, 0])
    assert nothing_is_true.value > 1
    assert nothing_is_true.accuracy == 1
    assert best_threshold([0.0, 0.0], [1, 1]) == (0.0, 1.0)
    assert best_threshold([-3.0, 5.0, 7.0], [0, 0, 1]) == (6.0, 1.0)  # logits
    assert best_threshold([-3.0, 5.0], [0, 1], usual=0.0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("scores", "labels"), [([], []), ([0.5], [1, 0]), ([math.inf], [1]), ([math.nan], [1]), ([0.5], [2])]
)
def test_a_threshold_needs_scores_with_labels(scores, labels):
    with pytest.raises(ValueError, match="A threshold is chosen on"):
        best_threshold(scores, labels)
