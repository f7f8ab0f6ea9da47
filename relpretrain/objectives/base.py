"""Base classes of the objectives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from relpretrain.distributed import attach_unused_parameters, mean_over_ranks
from relpretrain.features import Features, View
from relpretrain.types import PARTS, Backbone, Batch, CaptionBatch, ObjectiveOutput, Pairs


def lacking(backbone: Backbone, parts: Iterable[str]) -> list[str]:
    """Which of some parts (`PARTS`) a backbone lacks, by its `provides`; which methods, if it has no such attribute."""
    stated = getattr(backbone, "provides", None)
    if stated is not None:
        return [part for part in parts if part not in stated]
    methods = ["encode_image", "encode_text", *(name for part in parts for name in PARTS[part])]
    return [name for name in dict.fromkeys(methods) if not callable(getattr(backbone, name, None))]


def served(objective: nn.Module, backbone: Backbone, needs: Mapping[str, str]) -> tuple[str, ...]:
    """Which parts of an objective can be computed on a backbone.

    Args:
        objective: For the message.
        backbone: The model.
        needs: For each part by name, the part of the backbone (`PARTS`) that it uses.

    Raises:
        ValueError: If none can be, or one cannot on a backbone that does not declare what it `provides`.
    """
    found = tuple(name for name, part in needs.items() if not lacking(backbone, [part]))
    lost = [absent for name, part in needs.items() if name not in found for absent in lacking(backbone, [part])]
    if lost and (getattr(backbone, "provides", None) is None or not found):
        lost = list(dict.fromkeys(lost))
        raise ValueError(
            f"{type(objective).__name__} cannot be computed on {title(backbone)}: it has no {', '.join(lost)}"
        )
    return found


def title(backbone: Backbone) -> str:
    """Name of a backbone for messages: its adapter's `name`, or its class."""
    return str(getattr(backbone, "name", "") or type(backbone).__name__)


def log_name(objective: str, part: str) -> str:
    """Name of an objective's part in logs and in the losses of an attached model: "itc", "vsg_itc", "mrc_accuracy"."""
    return part if part == objective or part.startswith(f"{objective}_") else f"{objective}_{part}"


class Objective(nn.Module):
    """A loss plugin that turns the features of a batch into a loss.

    A subclass sets `consumes` and defines `forward`; where the defaults do not fit, also `views`, `needs` and `attach`.
    It has no access to configuration, trainer, dataset or the concrete class of the backbone.

    Args:
        weight: Factor of the loss.
    """

    consumes: ClassVar[tuple[type[Batch], ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    """Parts of the backbone (`relpretrain.types.PARTS`) that the objective uses beside encoding images and texts."""

    needs_boxes: ClassVar[bool] = False
    """Whether, of a graph, only relations between two entities with boxes serve it."""

    weighs: ClassVar[bool] = False
    """Whether texts or triplets of less confidence count less (`confidence_weights` of a stream)."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def attach(self, backbone: Backbone) -> None:
        """Check the backbone, and build layers whose shape depends on it. Called once, before training.

        Raises:
            ValueError: If the backbone lacks a part that the objective needs.
        """
        missing = lacking(backbone, self.needs)
        if missing:
            raise ValueError(
                f"{type(self).__name__} cannot be computed on {title(backbone)}: it has no {', '.join(missing)}"
            )

    def views(self, batch: Batch) -> list[Pairs]:
        """The pairs of a batch whose features this objective uses."""
        return [batch.pairs]

    def forward(self, features: Features) -> ObjectiveOutput:
        """Compute the loss on a batch's features."""
        raise TypeError(f"{type(self).__name__} must define forward(features).")

    def output(
        self,
        parts: dict[str, Tensor],
        count: int | Tensor,
        metrics: dict[str, Tensor] | None = None,
        counts: dict[str, int | Tensor] | None = None,
    ) -> ObjectiveOutput:
        """Sum up named losses with the objective's weight, and connect the sum to all parameters of the objective."""
        loss = self.weight * sum(parts.values(), start=next(iter(parts.values())).new_zeros(()))
        return ObjectiveOutput(
            attach_unused_parameters(loss, self.parameters()), parts, count, metrics or {}, counts or {}
        )


@dataclass(frozen=True)
class Term:
    """A loss on one view.

    Args:
        loss: This process's part of the mean over the joint batch (`mean_over_ranks`), a scalar.
        count: Number of terms in it on this process.
        metrics: Further scalars to log, means over `count` terms.
        counts: Number of terms of those metrics for which it is not `count`, by name.
    """

    loss: Tensor
    count: int
    metrics: dict[str, Tensor]
    counts: dict[str, int | Tensor] = field(default_factory=dict)


def nothing(features: Features) -> Term:
    """The term of a view without pairs, which takes part in the collectives of processes that have some."""
    return Term(mean_over_ranks(features.zero, 0), 0, {})


class ViewObjective(Objective):
    """A loss on image-text pairs, the same for captions, region texts and verbalised graphs.

    It consumes caption batches; `VMA` and `VSG` compute it on regions and on graphs.
    """

    consumes: ClassVar[tuple[type[Batch], ...]] = (CaptionBatch,)

    def term(self, view: View) -> Term:
        """Compute the loss on a view of n pairs."""
        raise TypeError(f"{type(self).__name__} must define term(view).")

    def forward(self, features: Features) -> ObjectiveOutput:
        """Compute the loss on the batch's own pairs."""
        name = type(self).__name__.lower()
        term = self.term(features.view(features.batch.pairs))
        metrics = {f"{name}_{key}": value for key, value in term.metrics.items()}
        counts = {f"{name}_{key}": number for key, number in term.counts.items()}
        return self.output({name: term.loss}, term.count, metrics, counts)


class ViewSum(Objective):
    """A weighted sum of view losses on one type of batch.

    Args:
        terms: The losses by name.
        weight: Factor of their sum.
    """

    def __init__(self, terms: dict[str, ViewObjective], weight: float = 1.0) -> None:
        super().__init__(weight)
        self.terms = nn.ModuleDict(terms)
        self.served = tuple(terms)  # those that are computed

    def attach(self, backbone: Backbone) -> None:
        """Attach every loss in `served`."""
        for name in self.served:
            self.term(name).attach(backbone)

    def term(self, name: str) -> ViewObjective:
        """One of the losses."""
        objective = self.terms[name]
        assert isinstance(objective, ViewObjective)
        return objective

    def forward(self, features: Features) -> ObjectiveOutput:
        """Compute all losses on the batch's own pairs, each with its own count (such as of masked tokens)."""
        view = features.view(features.batch.pairs)
        parts: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        counts: dict[str, int | Tensor] = {}
        count = 0
        for name in self.served:
            objective = self.term(name)
            term = objective.term(view)
            parts[name] = objective.weight * term.loss
            counts[name] = term.count
            for key, value in term.metrics.items():
                metrics[f"{name}_{key}"], counts[f"{name}_{key}"] = value, term.counts.get(key, term.count)
            count = max(count, term.count)
        return self.output(parts, count, metrics, counts)


def in_parts(function: Callable[..., tuple[Tensor, Tensor]], size: int, *rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """A loss of n rows, `size` at a time, so that its memory does not grow with the number of rows.

    Where there are several parts, each is computed once more in the backward pass; value and gradient are the same.

    Args:
        function: Of the rows, to (n,) losses and whether each row was right, (n,).
        size: Rows at a time.
        *rows: The function's arguments, n rows each or None. The first is a tensor.
    """
    assert rows[0] is not None
    if len(rows[0]) <= size:
        return function(*rows)
    parts = zip(*(repeat(None) if t is None else torch.split(t, size) for t in rows), strict=False)
    results = [checkpoint(function, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    losses, right = zip(*results, strict=True)
    return torch.cat(losses), torch.cat(right)
