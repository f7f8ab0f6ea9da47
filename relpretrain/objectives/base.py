"""What every objective is."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from relpretrain.distributed import touch
from relpretrain.features import Features
from relpretrain.types import Batch, ObjectiveOutput, Pairs


class Objective(nn.Module):
    """A loss plugin: says which batches it consumes, and turns features into a loss.

    A subclass sets `consumes`, and writes `views` and `forward`. It sees no config, trainer, dataset or concrete
    backbone.

    Args:
        weight: Factor of the loss.
    """

    consumes: ClassVar[tuple[type[Batch], ...]] = ()

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def views(self, batch: Batch) -> list[Pairs]:
        """The pairs of a batch that this objective looks at."""
        return [batch.pairs]

    def forward(self, features: Features) -> ObjectiveOutput:
        """Compute the loss of a step."""
        raise TypeError(f"{type(self).__name__} must define forward(features).")

    def output(
        self, parts: dict[str, Tensor], count: int, metrics: dict[str, Tensor] | None = None
    ) -> ObjectiveOutput:
        """Add up named losses, weighted, tied to this objective's own parameters."""
        loss = self.weight * sum(parts.values(), start=next(iter(parts.values())).new_zeros(()))
        return ObjectiveOutput(touch(loss, self.parameters()), parts, count, metrics or {})
