"""Decision rules against loops over Python numbers, on random scores with many ties and on hand-worked cases."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, binary_calibration_error

from relpretrain.zeroshot.analysis.decisions import (
    auroc,
    calibration_error,
    choice_correct,
    choice_tied,
    square_correct,
    threshold_correct,
)


def scores(seed, items, options, levels):
    """Scores of few levels, so that there are ties of every kind."""
    return torch.from_numpy(np.random.default_rng([seed, options]).integers(0, levels, (items, options)) / levels)


@pytest.mark.parametrize("levels", [1, 2, 5, 10**6])
@pytest.mark.parametrize("options", [2, 3, 4, 5])
def test_choices_are_those_of_a_loop(options, levels):
    given = scores(0, 300, options, levels)
    for row, strict, lenient, tied in zip(
        given.tolist(),
        choice_correct(given).tolist(),
        choice_correct(given, ties_win=True).tolist(),
        choice_tied(given).tolist(),
        strict=True,
    ):
        assert strict == all(row[0] > other for other in row[1:])
        assert lenient == (row.index(max(row)) == 0)  # argmax takes the first
        assert tied == (row[0] == max(row[1:]))


@pytest.mark.parametrize("levels", [1, 2, 4, 10**6])
def test_squares_are_those_of_a_loop(levels):
    given = scores(1, 500, 4, levels)
    for row, *found in zip(given.tolist(), *map(torch.Tensor.tolist, square_correct(given)), strict=True):
        s00, s01, s10, s11 = row
        text, image = s00 > s10 and s11 > s01, s00 > s01 and s11 > s10
        assert found == [text, image, text and image]


def test_a_square_by_hand():
    #                          s00  s01  s10  s11
    cases = torch.tensor([[0.9, 0.1, 0.2, 0.8], [0.9, 0.95, 0.1, 0.99], [0.9, 0.1, 0.95, 0.99], [0.5, 0.1, 0.5, 0.9]])
    text, image, both = square_correct(cases)
    assert text.tolist() == [True, True, False, False]
    assert image.tolist() == [True, False, True, True]
    assert both.tolist() == [True, False, False, False]


def test_guessing_gets_a_quarter_and_a_sixth():
    text, image, both = square_correct(torch.from_numpy(np.random.default_rng(0).random((200_000, 4))))
    assert text.double().mean() == pytest.approx(1 / 4, abs=0.005)
    assert image.double().mean() == pytest.approx(1 / 4, abs=0.005)
    assert both.double().mean() == pytest.approx(1 / 6, abs=0.005)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_not_finite_is_refused_by_item(bad, place):
    given = torch.full((5, 2), 0.5, dtype=torch.float64)
    given[3, place] = bad
    for rule in (choice_correct, lambda s: choice_correct(s, True), lambda s: square_correct(s.repeat(1, 2))):
        with pytest.raises(ValueError, match=r"1 of 5 scores are not finite numbers \(first: item 3"):
            rule(given)


def labelled(levels, positives):
    """Scores in [0, 1] of few levels, and labels."""
    rng = np.random.default_rng([levels, int(100 * positives)])
    return torch.from_numpy(rng.integers(0, levels + 1, 150) / levels), torch.from_numpy(rng.random(150) < positives)


def naive_auroc(values, labels):
    pairs = [(p, n) for p, true in zip(values, labels, strict=True) if true
             for n, other in zip(values, labels, strict=True) if not other]  # fmt: skip
    return sum((p > n) + (p == n) / 2 for p, n in pairs) / len(pairs) if pairs else math.nan


def naive_calibration(values, labels, bins=10):
    total = 0.0
    for b in range(bins):
        inside = [
            value - label
            for value, label in zip(values, labels, strict=True)
            if b / bins <= value < (b + 1) / bins or (value == 1 and b == bins - 1)
        ]
        total += abs(sum(inside)) / len(values)
    return total


@pytest.mark.parametrize("levels", [1, 4, 1 << 20])
@pytest.mark.parametrize("positives", [0.0, 0.4, 1.0])
def test_figures_of_probabilities_are_those_of_a_loop(levels, positives):
    values, labels = labelled(levels, positives)
    expected = naive_auroc(values.tolist(), labels.tolist())
    assert float(auroc(values, labels)) == pytest.approx(expected, nan_ok=True)
    assert float(auroc(50 * values - 20, labels)) == pytest.approx(expected, nan_ok=True)  # knows no scale
    assert float(calibration_error(values, labels)) == pytest.approx(
        naive_calibration(values.tolist(), labels.tolist())
    )


@pytest.mark.parametrize("levels", [4, 1 << 20])
def test_torchmetrics_says_the_same_of_probabilities_below_one(levels):
    """It is no substitute: it takes the sigmoid of other scores, has 1 in a bin of its own, and knows no NaN."""
    values, labels = labelled(levels, 0.4)
    values = values.clamp(0.01, 0.99)
    assert float(auroc(values, labels)) == pytest.approx(float(binary_auroc(values, labels.long())), abs=1e-6)
    other = binary_calibration_error(values, labels.long(), n_bins=10)
    assert float(calibration_error(values, labels)) == pytest.approx(float(other), abs=1e-6)


def test_right_and_wrong_certainty_are_the_ends_of_calibration():
    labels = torch.tensor([1, 0, 1])
    assert calibration_error(labels.double(), labels) == 0
    assert calibration_error(1 - labels.double(), labels) == 1


def test_exactly_half_means_true():
    assert threshold_correct(torch.tensor([0.5, 0.5]), torch.tensor([1, 0])).tolist() == [True, False]


def test_logits_and_odd_labels_are_refused():
    with pytest.raises(ValueError, match=r"between 0 and 1; found 1\.5"):
        threshold_correct(torch.tensor([1.5]), torch.tensor([1]))
    with pytest.raises(ValueError, match="Labels must be 0 or 1"):
        threshold_correct(torch.tensor([0.5]), torch.tensor([2]))
