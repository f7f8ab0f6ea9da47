"""What a run says before its first step: the model's size, and the threads that it computes with."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelSummary
from lightning.pytorch.utilities.model_summary import get_human_readable_count
from torch import nn

from relpretrain.threads import choose_threads


class ModelLine(ModelSummary):
    """The parameters of a model in one line, in all and by part, in place of Lightning's table of two rows."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Print it, on the first process."""
        if trainer.is_global_zero:
            print(describe(pl_module), flush=True)


class Threads(pl.Callback):
    """Chooses the number of torch's threads before work begins, and says so on the first process.

    Args:
        number: How many; None for what `choose_threads` finds right.
    """

    def __init__(self, number: int | None = None) -> None:
        self.number = number

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Choose: here, because Lightning sets a number itself when it starts several processes."""
        line = choose_threads(pl_module, self.number)
        if line and trainer.is_global_zero:
            print(line, flush=True)


def describe(module: Any) -> str:
    """The line on a module: "Model: 474 K parameters: XVLM 440 K, mrc 34.1 K"."""
    parts = {type(module.backbone).__name__: module.backbone, **dict(module.objectives.items())}
    sizes = {name: _count(part) for name, part in parts.items()}
    trained = _count(module, trained=True)
    total = _count(module)
    some = "" if trained == total else f", {_short(trained)} of them trained"
    listed = ", ".join(f"{name} {_short(size)}" for name, size in sizes.items() if size)
    return f"Model: {_short(total)} parameters{some}: {listed}"


def _count(module: nn.Module, trained: bool = False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def _short(count: int) -> str:
    return str(get_human_readable_count(count)).strip()
