"""Decision rules against loops over Python numbers, on random scores with many ties and on hand-worked cases."""

import math

import numpy as np
import pytest
import torch

from relpretrain.zeroshot.analysis.decisions import choice_correct, choice_tied, square_correct


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
