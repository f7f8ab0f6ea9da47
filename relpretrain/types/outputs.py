"""What an objective gives."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class ObjectiveOutput:
    """Output of an objective.

    Args:
        loss: Weighted sum of `parts`, a scalar.
        parts: Each loss by name, scalars without the objective's own weight.
        count: Number of terms in the loss on this process; with 0 nothing is logged. A tensor where the CPU does not
            know it, so that nobody waits for the device.
        metrics: Further scalars to log, such as accuracies: means over `count` terms on this process.
        counts: Number of terms of those parts and metrics for which it is not `count`, by name.
        classes: By name of a macro-averaged accuracy: the class of each of n terms (-100 for none), (n,), and whether
            it was predicted correctly, (n,).
    """

    loss: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    count: int | Tensor = 0
    metrics: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int | Tensor] = field(default_factory=dict)
    classes: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
