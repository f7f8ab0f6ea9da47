"""Numbers that are not finite are found before the optimizer steps with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.utils import get_total_norm

from relpretrain.distributed import is_distributed
from relpretrain.errors import NotFinite
from relpretrain.showing import visible
from relpretrain.types import Batch, ObjectiveOutput

Policy = Literal["stop", "skip"]

MOST_SKIPPED = 10
"""Steps in a row that may be skipped: after more of them the weights, not the batches, are to blame."""

_SHOWN = 5
"""Samples named in a message."""


@dataclass(frozen=True)
class _Noted:
    """A batch of the step under way: where it comes from, and its losses on the device."""

    stream: str
    step: int
    keys: tuple[str, ...]
    loss: Tensor
    parts: dict[str, Tensor]


class FiniteGuard:
    """Judges each step by its losses and the norm of its gradients, the same on all processes.

    On a CPU, and with "skip", a step is judged before the optimizer takes it. With "stop" on a GPU the host must not
    wait: the step is judged one step later, or before anything is saved, so that no file ever holds its weights.

    Under a gradient scaler (precision 16-mixed), infinite gradients are the scaler's to skip, and losses alone count.

    Args:
        policy: Whether such a step stops the run, or is left out: no weight, moment or queue changes, the next batch is
            taken, and after `MOST_SKIPPED` in a row the run stops.
    """

    def __init__(self, policy: Policy = "stop") -> None:
        self.policy = policy
        self.norm: Tensor | None = None  # of the gradients of the last step, before clipping
        self.skipped = 0
        self._in_a_row = 0
        self._noted: list[_Noted] = []
        self._pending: tuple[Tensor, Any, list[_Noted]] | None = None  # verdict on its way to the host

    def note(self, batch: Batch, loss: Tensor, outputs: Mapping[str, ObjectiveOutput]) -> None:
        """Remember a batch until the optimizer steps."""
        parts = {name: output.loss.detach() for name, output in outputs.items()}
        self._noted.append(_Noted(batch.stream, batch.step, batch.keys, loss.detach(), parts))

    def passes(self, named: Iterable[tuple[str, Tensor]], scaled: bool = False) -> bool:
        """Judge the step. A collective call.

        Args:
            named: The parameters by name, with their gradients.
            scaled: Whether a gradient scaler is at work.

        Returns:
            Whether the optimizer may step.

        Raises:
            NotFinite: If it may not, and the policy is to stop.
        """
        self.settle()
        gradients = {name: parameter.grad for name, parameter in named if parameter.grad is not None}
        norm = get_total_norm(gradients.values())
        self.norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # of sharded parameters
        noted, self._noted = self._noted, []
        watched = [batch.loss for batch in noted] + ([] if scaled else [self.norm])
        bad = torch.stack([(~torch.isfinite(value)).float() for value in watched]).amax()
        if is_distributed():
            dist.all_reduce(bad, dist.ReduceOp.MAX)
        if bad.is_cuda and self.policy == "stop":
            self._pending = *_to_host(bad), noted
            return True
        if not bad:
            self._in_a_row = 0
            return True
        message = _message(noted, [name for name, gradient in gradients.items() if not gradient.isfinite().all()])
        if self.policy == "stop":
            raise NotFinite(f"{message}. {_REMEDY}")
        self.skipped += 1
        self._in_a_row += 1
        if self._in_a_row > MOST_SKIPPED:
            raise NotFinite(f"{message}, as were the {MOST_SKIPPED} steps before, which were skipped. {_REMEDY}")
        rank_zero_warn(visible(f"{message}: this step is skipped"))
        return False

    def settle(self) -> None:
        """Hear the verdict on the step before, if it is still on its way.

        Raises:
            NotFinite: If it was bad.
        """
        if self._pending is None:
            return
        verdict, arrived, noted = self._pending
        self._pending = None
        arrived.synchronize()
        if verdict:
            raise NotFinite(f"{_message(noted, [])}. {_REMEDY}")


def _to_host(value: Tensor) -> tuple[Tensor, Any]:
    """Copy a value to page-locked memory without waiting; the event says when it is there."""
    copy = torch.empty((), pin_memory=True).copy_(value, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()
    return copy, arrived


_REMEDY = (
    "The last checkpoint is from before it. Go on from there with a lower model.optimizer.lr, look at these samples, "
    "or leave such steps out by model.not_finite=skip"
)


def _message(noted: list[_Noted], gradients: list[str]) -> str:
    """What is not finite: losses of this process, gradients, or something on another process."""
    bad = [batch for batch in noted if not batch.loss.isfinite()]
    if bad:
        batch = bad[0]
        names = [name for name, value in batch.parts.items() if not value.isfinite()]
        what = f"the loss of {', '.join(names)}" if names else "the sum of the losses"
    elif gradients:
        batch = noted[0]
        more = f" and of {len(gradients) - 1} more weights" if len(gradients) > 1 else ""
        what = f"the gradient of {gradients[0]}{more}"
    else:
        batch, what = noted[0], "a loss of another process, or a gradient,"
    keys = ", ".join(batch.keys[:_SHOWN]) + (
        f" and {len(batch.keys) - _SHOWN} more" if len(batch.keys) > _SHOWN else ""
    )
    samples = f", samples {keys}" if keys else ""
    return f"step {batch.step} (stream {batch.stream!r}{samples}): {what} is not finite"
