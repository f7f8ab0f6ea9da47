"""The benchmarks' accuracies as torchmetrics, for use during training: they accumulate, and gather over ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from relpretrain.zeroshot.decisions import (
    auroc,
    calibration_error,
    count_by_category,
    pairwise_correct,
    probabilities,
    threshold_correct,
)


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
            state += count_by_category(hits, category, len(self.categories))

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
        scores, labels = probabilities(scores, labels)
        self.scores.append(scores)
        self.labels.append(labels.long())
        self.category.append(torch.full_like(labels, -1, dtype=torch.long) if category is None else category)

    @property
    def total(self) -> Tensor:
        """Number of items by category, overall last."""
        _, labels, category = self._all()
        return count_by_category(torch.ones_like(labels, dtype=torch.bool), category, len(self.categories))

    @property
    def correct(self) -> Tensor:
        """Number of right items by category, overall last."""
        scores, labels, category = self._all()
        return count_by_category(threshold_correct(scores, labels, self.threshold), category, len(self.categories))

    @property
    def positives(self) -> Tensor:
        """Number of true items by category, overall last."""
        _, labels, category = self._all()
        return count_by_category(labels.bool(), category, len(self.categories))

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
