"""Decision rules: against loops, with hand-worked ties, and at chance for random scores."""

from itertools import permutations

import numpy as np
import pytest
import torch

from relpretrain.zeroshot.analysis.rules import GROUP, IMAGE, MATCH, ONE_SIDED, TEXT, recall, wins
from relpretrain.zeroshot.tasks.choices.hard_positives import AUGMENTED, BRITTLENESS
from relpretrain.zeroshot.tasks.choices.negbench import NegBench

TURNED = NegBench.rules[0]


def scores(items, texts, images, levels=10**6, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(levels, size=(items, texts, images)).astype(float))


def text_loop(s):
    k, m = s.shape
    return all(s[i, i] > s[j, i] for i in range(min(k, m)) for j in range(k) if j != i)


def image_loop(s):
    k, m = s.shape
    return all(s[i, i] > s[i, j] for i in range(min(k, m)) for j in range(m) if j != i)


def match_loop(s):
    own = sum(s[i, i] for i in range(len(s)))
    others = (order for order in permutations(range(len(s))) if order != tuple(range(len(s))))
    return all(own > sum(s[i, j] for i, j in enumerate(order)) for order in others)


LOOPS = {
    TEXT: text_loop,
    IMAGE: image_loop,
    GROUP: lambda s: text_loop(s) and image_loop(s),
    MATCH: match_loop,
}


@pytest.mark.parametrize("rule", LOOPS, ids=lambda rule: rule.name)
@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("levels", [2, 5])
def test_squares_of_any_size_are_those_of_a_loop(rule, size, levels):
    values = scores(200, size, size, levels)
    assert rule.judge(values).correct[:, 0].tolist() == [LOOPS[rule](s.numpy()) for s in values]


@pytest.mark.parametrize(("texts", "images"), [(5, 1), (1, 4), (2, 3)])
def test_choices_are_those_of_a_loop(texts, images):
    values = scores(200, texts, images, levels=4)
    assert TEXT.judge(values).correct[:, 0].tolist() == [text_loop(s.numpy()) for s in values]
    assert IMAGE.judge(values).correct[:, 0].tolist() == [image_loop(s.numpy()) for s in values]


@pytest.mark.parametrize("k", [1, 3, 5, 10])
def test_recall_is_that_of_a_sorted_list(k):
    values = scores(300, 6, 1, levels=8)
    ranks = [1 + sum(other >= s[0, 0] for other in s[1:, 0]) for s in values]  # a tied one is last
    assert recall(k).judge(values).correct[:, 0].tolist() == [rank <= k for rank in ranks]


CHANCE = [(TEXT, 2, 2), (IMAGE, 2, 2), (GROUP, 2, 2), (MATCH, 2, 2), (ONE_SIDED, 2, 2), (TEXT, 4, 1), (IMAGE, 1, 3)]
CHANCE += [(MATCH, 3, 3), (TEXT, 3, 3), (recall(3), 5, 1), (AUGMENTED, 3, 1), (BRITTLENESS, 3, 1), (wins("x", 2), 3, 1)]


@pytest.mark.parametrize(("rule", "texts", "images"), CHANCE, ids=lambda value: getattr(value, "name", str(value)))
def test_random_scores_are_at_chance(rule, texts, images):
    correct = rule.judge(scores(20_000, texts, images)).correct.double()
    assert float(correct.mean()) == pytest.approx(rule.chance(texts, images), abs=0.015)


def square(s00, s01, s10, s11):
    return torch.tensor([[[s00, s01], [s10, s11]]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("values", "right", "tied"),
    [
        ((3.0, 1.0, 2.0, 4.0), {"text", "image", "group", "GroupMatch"}, set()),
        ((3.0, 1.0, 3.0, 4.0), {"image", "GroupMatch"}, {"text", "group"}),
        ((3.0, 4.0, 1.0, 4.0), {"GroupMatch"}, {"text"}),  # 3 < 4 decides the image and the group score, no tie does
        ((5.0, 4.0, 3.0, 2.0), set(), {"GroupMatch"}),
        ((1.0, 1.0, 1.0, 1.0), set(), {"text", "image", "group", "GroupMatch"}),
    ],
)
def test_ties_are_wrong_and_told_where_they_decide(values, right, tied):
    found = {rule.name: rule.judge(square(*values)) for rule in LOOPS}
    assert {name for name, verdict in found.items() if verdict.correct.item()} == right
    assert {name for name, verdict in found.items() if verdict.tied.item()} == tied


def test_each_image_by_itself_gives_two_answers():
    verdict = ONE_SIDED.judge(torch.cat([square(3.0, 1.0, 2.0, 4.0), square(1.0, 0.0, 2.0, 0.0)]))
    assert verdict.correct.tolist() == [[True, True], [False, False]]
    assert verdict.tied.tolist() == [[False, False], [False, True]]


@pytest.mark.parametrize("turn", range(4))
def test_turned_ties_go_to_the_first_place(turn):
    """The options of an item stand at places turn, turn + 1, ... of four, going round."""
    rng = np.random.default_rng(turn)
    values = torch.from_numpy(rng.integers(2, size=(60, 4, 1)).astype(float))
    expected = []
    for s in values[:, :, 0].tolist():
        places = {(option + turn) % 4: score for option, score in enumerate(s)}
        first = max(range(4), key=lambda place: places[place])  # the first of the best
        expected.append(first == turn)
    assert TURNED.judge(values, torch.full((60,), turn)).correct[:, 0].tolist() == expected


@pytest.mark.parametrize(
    ("three", "augmented", "brittle"),
    [((3, 2, 1), 1, 0), ((3, 1, 2), 0, 1), ((1, 3, 2), 0, 1), ((1, 2, 3), 0, 0), ((2, 1, 2), 0, 0), ((2, 3, 2), 0, 0)],
)
def test_brittle_is_a_false_text_strictly_between(three, augmented, brittle):
    values = torch.tensor(three, dtype=torch.float64).reshape(1, 3, 1)
    assert (AUGMENTED.judge(values).correct.item(), BRITTLENESS.judge(values).correct.item()) == (augmented, brittle)


def test_scores_that_are_not_finite_are_refused():
    values = scores(3, 2, 2)
    values[1, 0, 1] = torch.nan
    with pytest.raises(ValueError, match="first: item 1 is nan"):
        GROUP.judge(values)
    with pytest.raises(ValueError, match="as many images as texts"):
        MATCH.judge(scores(1, 3, 2))
