"""What a run computes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import lightning.pytorch as pl
from torch.utils.flop_counter import FlopCounterMode


class Flops(pl.Callback):
    """Counts floating point operations: those of one step of each stream, times the steps that it was drawn."""

    def __init__(self) -> None:
        self.of_a_step: dict[str, int] = {}
        self.steps: Counter[str] = Counter()
        self._counter: Any = None  # a FlopCounterMode

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Count the first step of a stream, forward and backward."""
        if batch.stream not in self.of_a_step:
            self._counter = FlopCounterMode(display=False)
            self._counter.__enter__()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the step."""
        self.steps[batch.stream] += 1
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            self.of_a_step[batch.stream] = self._counter.get_total_flops()
            self._counter = None

    @property
    def tera(self) -> float:
        """Of all steps so far, in 10^12 operations: products of matrices and attention."""
        return sum(self.of_a_step[stream] * steps for stream, steps in self.steps.items()) / 1e12
