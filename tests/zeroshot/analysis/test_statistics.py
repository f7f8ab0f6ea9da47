import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest

from relpretrain.zeroshot.analysis.statistics import (
    best_threshold,
    compare_paired,
    effective_items,
    holm,
    linked,
    mcnemar,
    mean_share_interval,
    share_interval,
    wilson_interval,
)


def naive_bootstrap(values, samples=4000, seed=0):
    rng = np.random.default_rng(seed)
    means = [np.mean([values[rng.integers(len(values))] for _ in values]) for _ in range(samples)]
    return np.quantile(means, [0.025, 0.975])


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [  # Brown, Cai and DasGupta (2001), Newcombe (1998) and Agresti and Coull (1998)
        (18, 18, 0.8241, 1.0),
        (0, 20, 0.0, 0.1611),
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_the_known_ones(right, n, low, high):
    found = wilson_interval(right / n, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert share_interval([1] * right + [0] * (n - right)) == pytest.approx(tuple(found))


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_intervals_are_those_of_scipy(level):
    for n in (1, 7, 40):
        for right in range(n + 1):
            expected = binomtest(right, n).proportion_ci(level, "wilson")
            assert tuple(wilson_interval(right / n, n, level))[1:] == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 18, 10_000])
def test_all_right_or_none_is_never_a_point(n):
    for outcome in (0, 1):
        for images in (None, range(n), ["one"] * n):
            value, low, high = share_interval([outcome] * n, images)
            assert value == outcome == (high if outcome else low)
            assert 0.0001 < high - low < 1
    assert mean_share_interval([[1] * n, [1] * n]).low < 1


@pytest.mark.parametrize(("p", "n"), [(0.97, 50), (0.5, 30), (0.9, 100), (0.02, 40)])
def test_intervals_cover_the_true_share(p, n):
    chance = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    covered = [low <= p <= high for _, low, high in (wilson_interval(k / n, n) for k in range(n + 1))]
    assert sum(c for c, hit in zip(chance, covered, strict=True) if hit) >= 0.93


def drawn(rng, images, likeness, p):
    """Items of images, of one to seven each, whose outcomes within an image correlate by `likeness`."""
    sizes = rng.integers(1, 8, images)
    a = 1 / likeness - 1
    chance = rng.beta(p * a, (1 - p) * a, images)
    image = np.repeat(np.arange(images), sizes)
    return rng.random(len(image)) < chance[image], image


@pytest.mark.parametrize(
    ("images", "likeness", "p"), [(100, 0.5, 0.9), (60, 0.9, 0.97), (60, 0.01, 0.95), (20, 0.5, 0.7)]
)
def test_intervals_of_items_that_share_images_cover_the_true_share(images, likeness, p):
    rng = np.random.default_rng(0)
    clustered = plain = 0
    for _ in range(400):
        right, image = drawn(rng, images, likeness, p)
        _, low, high = share_interval(right, image)
        _, tight, wide = share_interval(right)
        clustered += low <= p <= high
        plain += tight <= p <= wide
    assert clustered >= 0.92 * 400
    if likeness >= 0.5:
        assert plain < 0.87 * 400  # what was wrong with taking items as independent


def test_items_of_one_image_count_at_least_as_one_and_at_most_as_all():
    images = np.repeat(np.arange(10), 4)
    alike = np.repeat([1, 0] * 5, 4)
    assert effective_items(alike, images) == pytest.approx(10, abs=0.5)
    assert effective_items([1, 0] * 20, images) == pytest.approx(40)  # every image has two of each: no clustering
    assert effective_items([1] * 40, images) == pytest.approx(10, abs=0.5)
    assert effective_items([1, 0] * 20, range(40)) == pytest.approx(40)
    assert effective_items([1, 0] * 20, [None] * 40) == pytest.approx(40)
    assert effective_items([]) == 0
    mixed = np.random.default_rng(0).random(40) < 0.6
    assert 10 <= effective_items(mixed, images) <= 40


def test_weights_make_every_image_count_alike():
    right, images = [1, 1, 1, 0, 1], ["a", "a", "a", "b", "c"]
    value, low, high = share_interval(right, images, [1 / 3, 1 / 3, 1 / 3, 1, 1])
    assert value == pytest.approx(2 / 3)
    assert low < value < high


def test_the_interval_of_a_mean_of_shares():
    rng = np.random.default_rng(0)
    one = rng.random(50) < 0.8
    assert mean_share_interval([one]) == pytest.approx(tuple(share_interval(one)))
    hits, narrower = 0, 0
    for _ in range(400):
        parts = [rng.random(n) < p for n, p in ((40, 0.95), (80, 0.6), (15, 0.9))]
        _, low, high = mean_share_interval(parts)
        hits += low <= (0.95 + 0.6 + 0.9) / 3 <= high
        narrower += high - low < max(x.high - x.low for x in map(share_interval, parts))
    assert hits >= 0.92 * 400
    assert narrower >= 390


def test_parts_about_the_same_images_are_not_independent():
    rng = np.random.default_rng(0)
    right = rng.random(60) < 0.7
    images = [f"image {i}" for i in range(60)]
    _, low, high = mean_share_interval([right, right], [images, images])
    assert (low, high) == pytest.approx((share_interval(right).low, share_interval(right).high))
    _, tight, wide = mean_share_interval([right, right], [images, [f"other {i}" for i in range(60)]])
    assert wide - tight == pytest.approx((high - low) / math.sqrt(2), rel=0.01)


def test_nothing_has_no_interval_and_other_than_right_or_wrong_is_refused():
    assert all(math.isnan(x) for x in (*share_interval([]), *mean_share_interval([]), *mean_share_interval([[1], []])))
    for bad in ([1.0, math.nan], [0.5], [[1, 0]]):
        with pytest.raises(ValueError, match="right \\(1\\) or wrong"):
            share_interval(bad)
    with pytest.raises(ValueError, match="got 1"):
        share_interval([1, 0], ["a"])
    with pytest.raises(ValueError, match="between 0 and 1"):
        wilson_interval(1.2, 5)


def one_by_one(gained, lost):
    return mcnemar([1] * gained + [-1] * lost)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 5), (2, 9), (12, 3), (31, 40)])
def test_mcnemar_agrees_with_counting_coin_throws(gained, lost):
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n
    assert one_by_one(gained, lost) == one_by_one(lost, gained) == pytest.approx(min(1, 2 * tail))


@pytest.mark.parametrize("sums", [[3], [2, 2], [2, -1, 0, 1], [5, -2, -2, 1, 1, 3], [4, 4, -1, -1, -1, 2, -3]])
def test_mcnemar_by_images_agrees_with_all_signs(sums):
    """Exchanging the two models on an image turns its sign round."""
    signs = itertools.product((1, -1), repeat=len(sums))
    totals = [abs(sum(a * b for a, b in zip(sign, sums, strict=True))) for sign in signs]
    assert mcnemar(sums) == pytest.approx(sum(total >= abs(sum(sums)) for total in totals) / len(totals))


def test_items_of_one_image_prove_less_than_as_many_images():
    first, second = [0] * 12, [1] * 12
    apart = compare_paired(first, second).p_value
    together = compare_paired(first, second, clusters=["a"] * 6 + ["b"] * 6).p_value
    assert (apart, together) == pytest.approx((2 / 2**12, 2 / 2**2))


def test_p_values_by_images_hold_their_level():
    """Of models that are equally good, whose items are right or wrong by images, 5 % come out below 0.05, not more."""
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(30), 5).tolist()
    found = []
    for _ in range(400):
        a, b = (np.repeat(rng.random(30) < 0.5, 5) ^ (rng.random(150) < 0.05) for _ in range(2))
        found.append(compare_paired(a, b, clusters=images, samples=10).p_value)
    assert sum(p < 0.05 for p in found) <= 0.08 * 400


def test_items_are_linked_by_the_images_they_share():
    assert linked([["a", "b"], ["c", "d"], ["b", "e"], [], ["d"], ["f"], ["e", "f"]]) == [0, 1, 0, None, 1, 0, 0]


def test_mcnemar_of_thousands_of_items():
    assert one_by_one(2000, 2000) == 1
    assert 0 <= one_by_one(4000, 1000) < 1e-300


def test_paired_comparison_by_hand():
    first, second = [1, 1, 0, 0, 1, 0, 1, 0], [1, 0, 1, 1, 1, 1, 1, 0]
    first, second = first * 20, second * 20
    paired = compare_paired(first, second)
    assert (paired.gained, paired.lost) == (60, 20)
    assert paired.difference == pytest.approx(2 / 8)
    low, high = naive_bootstrap(np.array(second) - np.array(first), samples=1000)
    assert (paired.low, paired.high) == pytest.approx((low, high), abs=0.02)
    assert paired.p_value == one_by_one(60, 20)


def test_paired_comparison_is_sharper_than_two_intervals():
    rng = np.random.default_rng(0)
    first = rng.random(1000) < 0.6
    second = first | (rng.random(1000) < 0.08)
    paired = compare_paired(first, second)
    assert paired.low > 0
    assert share_interval(first).high > share_interval(second).low


def test_models_that_never_differ_on_a_few_items_may_still_differ():
    paired = compare_paired([1] * 18, [1] * 18)
    assert paired.difference == 0
    assert -0.2 < paired.low < -0.05
    assert 0.05 < paired.high < 0.2
    assert compare_paired([0] * 18, [1] * 18).low < 1
    assert abs(compare_paired([1] * 5000, [1] * 5000).low) < 0.001


def test_paired_comparison_depends_on_nothing_but_outcomes_and_seed():
    first, second = np.random.default_rng(0).random((2, 60)) < 0.5
    assert compare_paired(first, second, 3) == compare_paired(first[::-1], second[::-1], 3)
    assert compare_paired(first, second, 3, samples=99) != compare_paired(first, second, 4, samples=99)


def test_paired_comparison_draws_images_with_all_their_items():
    rng = np.random.default_rng(0)
    gains = rng.random(60) < 0.5
    first, second = np.zeros(240, bool), np.repeat(gains, 4)
    alone = compare_paired(gains * 0, gains)
    both = compare_paired(first, second, clusters=np.repeat(np.arange(60), 4).tolist())
    assert (both.low, both.high) == pytest.approx((alone.low, alone.high), abs=0.01)
    plain = compare_paired(first, second)
    assert plain.high - plain.low == pytest.approx((both.high - both.low) / 2, rel=0.1)


def test_paired_intervals_cover_the_true_difference():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        u = rng.random(50)
        paired = compare_paired(u < 0.95, u < 0.98, samples=1000)
        hits += paired.low <= 0.03 <= paired.high
    assert hits >= 0.93 * 300


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
