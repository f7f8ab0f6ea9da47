"""What every objective is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from relpretrain.distributed import touch
from relpretrain.features import Features, View
from relpretrain.types import Backbone, Batch, CaptionBatch, ObjectiveOutput, Pairs


class Objective(nn.Module):
    """A loss plugin: says which batches it consumes, and turns features into a loss.

    A subclass sets `consumes` and writes `forward`; `views`, `needs` and `attach` where the defaults do not fit.
    It sees no config, trainer, dataset or concrete backbone.

    Args:
        weight: Factor of the loss.
    """

    consumes: ClassVar[tuple[type[Batch], ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ("encode_image", "encode_text", "fuse")
    """Methods of the backbone that the objective calls."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def attach(self, backbone: Backbone) -> None:
        """Build what depends on the model's sizes. Called once, before training.

        Raises:
            ValueError: If the backbone lacks a method that the objective calls.
        """
        missing = [name for name in self.needs if not callable(getattr(backbone, name, None))]
        if missing:
            raise ValueError(
                f"{type(self).__name__} cannot be computed on {type(backbone).__name__}: it has no {', '.join(missing)}"
            )

    def views(self, batch: Batch) -> list[Pairs]:
        """The pairs of a batch that this objective looks at."""
        return [batch.pairs]

    def forward(self, features: Features) -> ObjectiveOutput:
        """Compute the loss of a step."""
        raise TypeError(f"{type(self).__name__} must define forward(features).")

    def output(self, parts: dict[str, Tensor], count: int, metrics: dict[str, Tensor] | None = None) -> ObjectiveOutput:
        """Add up named losses, weighted, tied to this objective's own parameters."""
        loss = self.weight * sum(parts.values(), start=next(iter(parts.values())).new_zeros(()))
        return ObjectiveOutput(touch(loss, self.parameters()), parts, count, metrics or {})


@dataclass(frozen=True)
class Term:
    """A loss on one view.

    Args:
        loss: This process's share of the mean over the joint batch, a scalar.
        count: Rows that went into it on this process.
        metrics: Further scalars worth logging.
    """

    loss: Tensor
    count: int
    metrics: dict[str, Tensor]


class ViewObjective(Objective):
    """A loss on texts paired with images: the same on captions, region texts and verbalised graphs.

    Consumes captions; `VMA` and `VSG` compute the same terms on regions and on graphs.
    """

    consumes: ClassVar[tuple[type[Batch], ...]] = (CaptionBatch,)

    def term(self, view: View) -> Term:
        """Compute the loss on a view of n pairs."""
        raise TypeError(f"{type(self).__name__} must define term(view).")

    def forward(self, features: Features) -> ObjectiveOutput:
        """Compute the loss on the batch's own pairs."""
        name = type(self).__name__.lower()
        term = self.term(features.view(features.batch.pairs))
        return self.output({name: term.loss}, term.count, {f"{name}_{k}": v for k, v in term.metrics.items()})


class ViewSum(Objective):
    """Several view losses on one type of batch, added up with a weight for each.

    Args:
        terms: The losses by name.
        weight: Factor of their sum.
    """

    def __init__(self, terms: dict[str, ViewObjective], weight: float = 1.0) -> None:
        super().__init__(weight)
        self.terms = nn.ModuleDict(terms)

    def attach(self, backbone: Backbone) -> None:
        """Attach every term."""
        for term in self.terms.values():
            assert isinstance(term, ViewObjective)
            term.attach(backbone)

    def forward(self, features: Features) -> ObjectiveOutput:
        """Compute all terms on the batch's own pairs."""
        view = features.view(features.batch.pairs)
        parts: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        count = 0
        for name, objective in self.terms.items():
            assert isinstance(objective, ViewObjective)
            term = objective.term(view)
            parts[name] = objective.weight * term.loss
            metrics.update({f"{name}_{key}": value for key, value in term.metrics.items()})
            count = max(count, term.count)
        return self.output(parts, count, metrics)
