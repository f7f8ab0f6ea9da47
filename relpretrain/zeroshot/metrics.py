"""Metrics of the zero-shot benchmarks: decision rules as pure functions, and as torchmetrics that gather over ranks.

Categories are numbered; an item whose category is -1 counts overall and in no category.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


def require_finite(scores: Tensor, what: str = "scores") -> Tensor:
    """Return scores as float64, or refuse NaN and infinity, which would silently count as wrong answers.

    Raises:
        ValueError: Naming how many values are not finite, and the first.
    """
    scores = scores.double()
    bad = (~torch.isfinite(scores)).nonzero().flatten()
    if len(bad):
        first = int(bad[0])
        raise ValueError(f"{len(bad)} of {len(scores)} {what} are not finite numbers (first: item {first} is "
                         f"{float(scores[first])}); the model or the score file is broken.")  # fmt: skip
    return scores


def pairwise_correct(positive: Tensor, negative: Tensor) -> Tensor:
    """Whether the right text (or image) scores higher than the wrong one, strictly: a tie is not a win.

    Args:
        positive: Scores of the right ones, (items,).
        negative: Scores of the wrong ones, (items,).

    Returns:
        (items,), bool.
    """
    return require_finite(positive) > require_finite(negative)


def threshold_correct(scores: Tensor, labels: Tensor, threshold: float = 0.5) -> Tensor:
    """Whether a match probability is on its label's side of a threshold; exactly on it means "true" (VSR).

    Args:
        scores: Match probabilities, (items,).
        labels: 1 where the text is true of the image, else 0, (items,).
        threshold: Lowest score that means "true".

    Returns:
        (items,), bool.

    Raises:
        ValueError: If a score is not a probability, or a label neither 0 nor 1.
    """
    scores, labels = _probabilities(scores, labels)
    return (scores >= threshold) == labels


def auroc(scores: Tensor, labels: Tensor) -> Tensor:
    """Chance that a true item scores higher than a false one; equal scores count half.

    Args:
        scores: (items,).
        labels: 1 or 0, (items,).

    Returns:
        A scalar; NaN when a class is missing.
    """
    scores, labels = require_finite(scores), labels.bool()
    _, inverse, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    ends = counts.cumsum(0)
    ranks = (ends - (counts - 1) / 2)[inverse].double()  # ranks from 1, tied items share their mean rank
    positives, negatives = labels.sum(), (~labels).sum()
    wins = ranks[labels].sum() - positives * (positives + 1) / 2
    area: Tensor = wins / (positives * negatives)
    return area


def calibration_error(scores: Tensor, labels: Tensor, bins: int = 10) -> Tensor:
    """Expected calibration error: how far match probabilities are from the share of true items (Naeini et al., 2015).

    Args:
        scores: Match probabilities, (items,).
        labels: 1 or 0, (items,).
        bins: Number of bins of equal width over [0, 1].

    Returns:
        Mean distance between probability and share over the bins, weighted by items; NaN without items.
    """
    scores, labels = _probabilities(scores, labels)
    index = (scores * bins).long().clamp(max=bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64, device=scores.device).index_add_(0, index, scores - labels.double())
    return gap.abs().sum() / len(scores)


class PairwiseAccuracy(Metric):
    """Share of pairs whose right side scores strictly higher, overall (micro) and per category.

    `correct`, `ties` and `total` hold the counts, one per category and the overall ones last.

    Args:
        categories: Names of the categories.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    correct: Tensor
    ties: Tensor
    total: Tensor

    def __init__(self, categories: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.categories = tuple(categories)
        for name in ("correct", "ties", "total"):
            zeros = torch.zeros(len(self.categories) + 1, dtype=torch.long)
            self.add_state(name, default=zeros, dist_reduce_fx="sum")

    def update(self, positive: Tensor, negative: Tensor, category: Tensor | None = None) -> None:
        """Count pairs: scores of the right and of the wrong sides, and numbers of their categories, (items,) each."""
        correct = pairwise_correct(positive, negative)
        everything = torch.ones_like(correct)
        for name, hits in (("correct", correct), ("ties", positive == negative), ("total", everything)):
            state = getattr(self, name)
            state += _count(hits, category, len(self.categories))

    def compute(self) -> dict[str, Tensor]:
        """Shares by name: "accuracy", "ties", and "accuracy/<category>"; NaN where there was no pair."""
        shares = self.correct / self.total
        by_category = {f"accuracy/{name}": share for name, share in zip(self.categories, shares[:-1], strict=True)}
        return {"accuracy": shares[-1], "ties": self.ties[-1] / self.total[-1], **by_category}


class ThresholdAccuracy(Metric):
    """Accuracy of match probabilities against a threshold, overall and per category, with AUROC and calibration.

    Args:
        categories: Names of the categories.
        threshold: Lowest score that means "true".
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    scores: list[Tensor]
    labels: list[Tensor]
    category: list[Tensor]

    def __init__(self, categories: Sequence[str] = (), threshold: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.categories = tuple(categories)
        self.threshold = threshold
        for name in ("scores", "labels", "category"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, scores: Tensor, labels: Tensor, category: Tensor | None = None) -> None:
        """Add match probabilities, labels (1 or 0) and numbers of categories, (items,) each."""
        scores, labels = _probabilities(scores, labels)
        self.scores.append(scores)
        self.labels.append(labels.long())
        self.category.append(torch.full_like(labels, -1, dtype=torch.long) if category is None else category)

    @property
    def total(self) -> Tensor:
        """Number of items by category, overall last."""
        _, labels, category = self._all()
        return _count(torch.ones_like(labels, dtype=torch.bool), category, len(self.categories))

    @property
    def correct(self) -> Tensor:
        """Number of right items by category, overall last."""
        scores, labels, category = self._all()
        return _count(threshold_correct(scores, labels, self.threshold), category, len(self.categories))

    @property
    def positives(self) -> Tensor:
        """Number of true items by category, overall last."""
        _, labels, category = self._all()
        return _count(labels.bool(), category, len(self.categories))

    def compute(self) -> dict[str, Tensor]:
        """Figures by name: "accuracy", "auroc", "calibration_error", "accuracy/<category>"; NaN where undefined."""
        scores, labels, _ = self._all()
        shares = self.correct / self.total
        by_category = {f"accuracy/{name}": share for name, share in zip(self.categories, shares[:-1], strict=True)}
        return {
            "accuracy": shares[-1],
            "auroc": auroc(scores, labels),
            "calibration_error": calibration_error(scores, labels),
            **by_category,
        }

    def _all(self) -> tuple[Tensor, Tensor, Tensor]:
        if not self.scores:
            empty = torch.zeros(0, dtype=torch.long, device=self.device)
            return empty.double(), empty, empty
        return dim_zero_cat(self.scores), dim_zero_cat(self.labels), dim_zero_cat(self.category)


def _probabilities(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    scores = require_finite(scores)
    outside = (scores < 0) | (scores > 1)
    if outside.any():
        raise ValueError(f"Match probabilities lie between 0 and 1; found {float(scores[outside][0])}. Logits need a "
                         "softmax first.")  # fmt: skip
    if not ((labels == 0) | (labels == 1)).all():
        raise ValueError(f"Labels must be 0 or 1; found {sorted(set(labels.tolist()))}.")
    return scores, labels.bool()


def _count(hits: Tensor, category: Tensor | None, number: int) -> Tensor:
    """Number of hits per category, and overall at the end: (number + 1,), int64."""
    counts = torch.zeros(number + 1, dtype=torch.long, device=hits.device)
    counts[-1] = hits.sum()
    if category is not None:
        counts[:-1] = torch.bincount(category[hits & (category >= 0)], minlength=number)
    return counts
