"""Decision rules for items of several texts and images: what must score more than what.

A rule turns the scores of items, (items, texts, images), into margins, (items, answers, comparisons): how much more the
right one scores in each comparison of each answer. An answer is right if all its margins are above 0. Text i belongs to
image i; texts and images beyond the smaller number belong to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

Ties = Literal["wrong", "right", "turned"]
"""What an answer is in which the right one and the best wrong one score the same.

"turned": what the first of the best is, where the options of item n are moved on by n places, so that a constant scorer
is right as often as one that guesses.
"""

_LARGEST_MATCHING = 6  # 720 assignments


class Verdict(NamedTuple):
    """What a rule says of items.

    Args:
        correct: Whether each answer is right, (items, answers), bool.
        tied: Whether equal scores decided it, (items, answers), bool.
    """

    correct: Tensor
    tied: Tensor


@dataclass(frozen=True)
class Rule:
    """A named decision rule.

    Args:
        name: What its figure is called.
        margins: Scores (items, texts, images) to margins (items, answers, comparisons).
        chance: Share that scores drawn at random get, by number of texts and images; NaN where that is not known.
        ties: What ties mean.
        lower: Whether a lower figure is better.
    """

    name: str
    margins: Callable[[Tensor], Tensor]
    chance: Callable[[int, int], float]
    ties: Ties = "wrong"
    lower: bool = False

    def judge(self, scores: Tensor, turn: Tensor | None = None) -> Verdict:
        """Decide items.

        Args:
            scores: (items, texts, images).
            turn: How many places the options of each item are moved on, (items,), for ties that are "turned".

        Raises:
            ValueError: If an item has a score that is not finite.
        """
        import torch

        from relpretrain.zeroshot.analysis.decisions import require_finite

        rows = scores.flatten(1).double()
        require_finite(torch.where(torch.isfinite(rows).all(dim=1), rows[:, 0], torch.nan), "items' scores")
        margins = self.margins(scores.double())
        if not margins.shape[2]:
            return Verdict(*(torch.full(margins.shape[:2], value) for value in (True, False)))
        least = margins.amin(dim=2)
        tied = least == 0
        if self.ties == "wrong":
            return Verdict(least > 0, tied)
        if self.ties == "right":
            return Verdict(least >= 0, tied)
        assert turn is not None, "a rule whose ties are turned needs the turn of each item"
        options = 1 + torch.arange(margins.shape[2])
        later = (options + turn[:, None] < 1 + len(options))[:, None, :]  # (items, 1, comparisons)
        return Verdict(((margins > 0) | ((margins == 0) & later)).all(dim=2), tied)


def _together(parts: list[Tensor], like: Tensor) -> Tensor:
    """Comparisons (items,) each as those of one answer, (items, 1, comparisons)."""
    import torch

    return (torch.stack(parts, dim=1) if parts else like.new_zeros(len(like), 0))[:, None, :]


def _of_image(scores: Tensor, i: int) -> list[Tensor]:
    """Image i prefers its text to each other text."""
    return [scores[:, i, i] - scores[:, j, i] for j in range(scores.shape[1]) if j != i]


def _of_text(scores: Tensor, i: int) -> list[Tensor]:
    """Text i prefers its image to each other image."""
    return [scores[:, i, i] - scores[:, i, j] for j in range(scores.shape[2]) if j != i]


def _pairs(scores: Tensor) -> range:
    return range(min(scores.shape[1], scores.shape[2]))


def _each_image(scores: Tensor) -> Tensor:
    import torch

    return torch.cat([_together(_of_image(scores, i), scores) for i in _pairs(scores)], dim=1)


def _matching(scores: Tensor) -> Tensor:
    if scores.shape[1] != scores.shape[2] or scores.shape[1] > _LARGEST_MATCHING:
        raise ValueError(f"GroupMatch needs as many images as texts, {_LARGEST_MATCHING} at most; got "
                         f"{scores.shape[2]} and {scores.shape[1]}.")  # fmt: skip
    orders = list(permutations(range(scores.shape[1])))
    texts = list(range(scores.shape[1]))
    sums = [scores[:, texts, list(order)].sum(dim=1) for order in orders]
    return _together([sums[0] - other for other in sums[1:]], scores)


def _unknown(texts: int, images: int) -> float:
    return math.nan


TEXT = Rule(
    "text",
    lambda s: _together([m for i in _pairs(s) for m in _of_image(s, i)], s),
    lambda texts, images: (1 / texts) ** min(texts, images),
)
"""Every image prefers its text: Winoground's text score, and a choice among texts where there is one image."""

IMAGE = Rule(
    "image",
    lambda s: _together([m for i in _pairs(s) for m in _of_text(s, i)], s),
    lambda texts, images: (1 / images) ** min(texts, images),
)
"""Every text prefers its image: Winoground's image score, and a choice among images where there is one text."""

GROUP = Rule(
    "group",
    lambda s: _together([m for i in _pairs(s) for m in _of_image(s, i) + _of_text(s, i)], s),
    lambda texts, images: 1 / 6 if texts == images == 2 else math.nan,
)
"""Both of them: Winoground's group score. The four scores of a 2x2 item have two largest on the diagonal in 1 of 6."""

MATCH = Rule("GroupMatch", _matching, lambda texts, images: 1 / math.factorial(texts))
"""The sum of the right assignment is above that of any other (arXiv 2510.07632)."""

ONE_SIDED = Rule("one-sided", _each_image, lambda texts, images: 1 / texts)
"""Each image by itself prefers its text: twice as many answers as items where there are two images."""


def recall(k: int) -> Rule:
    """The right one of an image's texts, the first, is among the best k; a tied one is the last of its equals."""

    def margins(scores: Tensor) -> Tensor:
        return (scores[:, :1, 0] - scores[:, 1:, 0]).sort(dim=1).values[:, None, k - 1 :]

    return Rule(f"R@{k}", margins, lambda texts, images: min(1.0, k / texts))


def prefers(name: str, better: int, worse: int) -> Rule:
    """The only image prefers one of its texts to another one."""
    return Rule(name, lambda s: _together([s[:, better, 0] - s[:, worse, 0]], s), lambda texts, images: 1 / 2)


def one_image(name: str, i: int) -> Rule:
    """Image i of several prefers its text."""
    return Rule(name, lambda s: _together(_of_image(s, i), s), lambda texts, images: 1 / texts)


def one_text(name: str, i: int) -> Rule:
    """Text i of several prefers its image."""
    return Rule(name, lambda s: _together(_of_text(s, i), s), lambda texts, images: 1 / images)


def wins(name: str, option: int) -> Rule:
    """The only image prefers one of its texts, right or not, to all others."""

    def margins(scores: Tensor) -> Tensor:
        return _together(
            [scores[:, option, 0] - scores[:, j, 0] for j in range(scores.shape[1]) if j != option], scores
        )

    return Rule(name, margins, lambda texts, images: 1 / texts)
