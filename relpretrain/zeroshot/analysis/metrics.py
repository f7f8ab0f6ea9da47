"""The benchmarks' accuracies as torchmetrics, for use during training: they accumulate, and gather over ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from relpretrain.zeroshot.analysis.decisions import (
    auroc,
    calibration_error,
    choice_correct,
    choice_tied,
    count_by_category,
    pairwise_correct,
    probabilities,
    square_correct,
    threshold_correct,
)


class _Counted(Metric):
    """Shares of right and tied items out of all, overall (micro), per category, and as their plain mean (macro).

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

    def compute(self) -> dict[str, Tensor]:
        """Shares by name: "accuracy", "macro", "ties", and "accuracy/<category>"; NaN where there was no item.

        The macro figure leaves out categories without items.
        """
        shares = self.correct / self.total
        return {"accuracy": shares[-1], "ties": self.ties[-1] / self.total[-1], **_by_category(self.categories, shares)}

    def _count(self, correct: Tensor, tied: Tensor, category: Tensor | None) -> None:
        for name, hits in (("correct", correct), ("ties", tied), ("total", torch.ones_like(correct))):
            state = getattr(self, name)
            state += count_by_category(hits, category, len(self.categories))


class PairwiseAccuracy(_Counted):
    """Share of pairs whose right side scores strictly higher, overall (micro), per category and their mean (macro).

    Args:
        categories: Names of the categories.
    """

    def update(self, positive: Tensor, negative: Tensor, category: Tensor | None = None) -> None:
        """Count pairs: scores of the right and of the wrong sides, and numbers of their categories, (items,) each."""
        self._count(pairwise_correct(positive, negative), positive == negative, category)


class ChoiceAccuracy(_Counted):
    """Share of items whose right option scores best of several, overall (micro), per category and their mean (macro).

    Args:
        categories: Names of the categories.
        ties_win: Whether the right option wins where another scores the same.
    """

    def __init__(self, categories: Sequence[str] = (), ties_win: bool = False, **kwargs: Any) -> None:
        super().__init__(categories, **kwargs)
        self.ties_win = ties_win

    def update(self, scores: Tensor, category: Tensor | None = None) -> None:
        """Count items: scores (items, options), the right option first, and numbers of their categories (items,)."""
        self._count(choice_correct(scores, self.ties_win), choice_tied(scores), category)


class SquareAccuracy(Metric):
    """Winoground's text, image and group scores."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    correct: Tensor
    total: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("correct", default=torch.zeros(3, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("total", default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, scores: Tensor) -> None:
        """Count items of two captions and two images: scores (items, 4) as `decisions.square_correct` takes them."""
        self.correct += torch.stack([hits.sum() for hits in square_correct(scores)])
        self.total += len(scores)

    def compute(self) -> dict[str, Tensor]:
        """Shares by name: "text", "image" and "group"; NaN without items."""
        return dict(zip(("text", "image", "group"), self.correct / self.total, strict=True))


class RecallAtK(Metric):
    """Share of queries whose best right candidate is among the first k.

    Args:
        ks: The k.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    found: Tensor
    total: Tensor

    def __init__(self, ks: Sequence[int] = (1, 5, 10), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ks = tuple(ks)
        self.add_state("found", default=torch.zeros(len(self.ks), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("total", default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, ranks: Tensor) -> None:
        """Count queries: ranks from 1 (`ranking.best_right`), 0 where no right candidate was ranked, (queries,)."""
        self.found += torch.stack([((ranks > 0) & (ranks <= k)).sum() for k in self.ks])
        self.total += len(ranks)

    def compute(self) -> dict[str, Tensor]:
        """Shares by name: "R@1" and so on; NaN without queries."""
        return {f"R@{k}": share for k, share in zip(self.ks, self.found / self.total, strict=True)}


class ThresholdAccuracy(Metric):
    """Accuracy of match probabilities against a threshold, with AUROC and calibration.

    Overall (micro), per category, and the categories' plain mean (macro).

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
        """Figures by name; NaN where undefined.

        They are "accuracy", "macro", "auroc", "calibration_error" and "accuracy/<category>".
        """
        scores, labels, _ = self._all()
        shares = self.correct / self.total
        return {
            "accuracy": shares[-1],
            "auroc": auroc(scores, labels),
            "calibration_error": calibration_error(scores, labels),
            **_by_category(self.categories, shares),
        }

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather over processes, of which some may have seen no item: their lists must be of the others' types."""
        if len(self.scores) == 0:
            for name, empty in zip(("scores", "labels", "category"), self._all(), strict=True):
                getattr(self, name).append(empty)
        super().sync(*args, **kwargs)

    def _all(self) -> tuple[Tensor, Tensor, Tensor]:
        if len(self.scores) == 0:  # a list, and after `sync` a tensor
            empty = torch.zeros(0, dtype=torch.long, device=self.device)
            return empty.double(), empty, empty
        return dim_zero_cat(self.scores), dim_zero_cat(self.labels), dim_zero_cat(self.category)


def _by_category(names: Sequence[str], shares: Tensor) -> dict[str, Tensor]:
    """The categories' shares and their mean; the last share is that over all."""
    found = {f"accuracy/{name}": share for name, share in zip(names, shares[:-1], strict=True)}
    return {"macro": shares[:-1].nanmean() if names else shares.new_tensor(float("nan")), **found}
