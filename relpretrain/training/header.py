"""What a run says before its first step, in five lines: model, parameters, data, steps, where things go."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelSummary
from lightning.pytorch.utilities.model_summary import get_human_readable_count
from torch import nn

from relpretrain.allocator import keep_freed_memory
from relpretrain.data.sampling.summary import RECORD, share_line
from relpretrain.showing import say
from relpretrain.threads import choose_threads


class RunHeader(ModelSummary):
    """Five lines on a run, in place of Lightning's table of modules.

    Args:
        folder: Where the run keeps its files; None where it keeps none.
        seed: Of the run; None leaves it out.
    """

    def __init__(self, folder: Path | None = None, seed: int | None = None) -> None:
        super().__init__()
        self.folder, self.seed = folder, seed
        self._done = 0

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Note the steps that are done: the trainer does not know them before all else is restored."""
        self._done = checkpoint.get("global_step", 0)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Print it, on the first process."""
        if trainer.is_global_zero:
            say("\n".join(header(trainer, pl_module, self.folder, self.seed, self._done)))


class Threads(pl.Callback):
    """Chooses the number of torch's threads before work begins, and keeps memory that steps on a CPU free.

    Args:
        number: How many; None for what `choose_threads` finds right.
    """

    def __init__(self, number: int | None = None) -> None:
        self.number = number
        self.line = ""
        """What was chosen, and why; "" where nothing was."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Choose: here, because Lightning sets a number itself when it starts several processes."""
        self.line = choose_threads(pl_module, self.number)
        if trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()


def header(trainer: Any, module: Any, folder: Path | None = None, seed: int | None = None, done: int = 0) -> list[str]:
    """The lines of `RunHeader`.

    Args:
        trainer: Lightning's trainer, about to fit.
        module: The `RelationModule` that it trains.
        folder: Where the run keeps its files; None where it keeps none.
        seed: Of the run; None leaves it out.
        done: Steps of the checkpoint that it goes on from.
    """
    lines = [("Model", _model(module)), ("Parameters", parameters(module)), ("Data", _data(trainer))]
    lines.append(("Steps", ", ".join(_steps(trainer, seed, done))))
    lines.append(("Run", "nothing is kept" if folder is None else f"{folder}: {_FILES}"))
    return [f"{name + ':':<12}{text}" for name, text in lines if text]


def parameters(module: Any) -> str:
    """How many parameters a module has, in all and by part: "474 K: XVLM 440 K, mrc 34.1 K"."""
    parts = {type(module.backbone).__name__: module.backbone, **dict(module.objectives.items())}
    sizes = {name: _count(part) for name, part in parts.items()}
    trained = _count(module, trained=True)
    total = _count(module)
    some = "" if trained == total else f", {_short(trained)} of them trained"
    return f"{_short(total)}{some}: " + ", ".join(f"{name} {_short(size)}" for name, size in sizes.items() if size)


def _model(module: Any) -> str:
    backbone = module.backbone
    pixels = getattr(getattr(backbone, "config", None), "image_size", None)
    images = "" if pixels is None else f", images of {pixels} pixels"
    return f"{type(backbone).__name__}{images}, trained with {', '.join(module.objectives)}"


def _data(trainer: Any) -> str:
    datamodule = getattr(trainer, "datamodule", None)
    schedule = getattr(datamodule, "schedule", None)
    if schedule is None:
        return ""
    passes = getattr(datamodule, "passes", None)
    return share_line(schedule, getattr(datamodule, "never_drawn", {}), {} if passes is None else passes())


def _steps(trainer: Any, seed: int | None, done: int) -> Iterator[str]:
    yield f"{trainer.max_steps:,}" if trainer.max_steps >= 0 else "without end"
    if done:
        yield f"from {done:,} on"
    if trainer.accumulate_grad_batches > 1:
        yield f"of {trainer.accumulate_grad_batches} batches each"
    if line := _validated(trainer):
        yield line
    if seed is not None:
        yield f"seed {seed}"
    kind = trainer.strategy.root_device.type
    name = "the CPU" if kind == "cpu" else torch.cuda.get_device_name() if kind == "cuda" else kind
    yield f"on {name}" if trainer.world_size == 1 else f"on {trainer.world_size} processes ({name})"
    yield str(trainer.precision)
    if line := next((c.line for c in trainer.callbacks if isinstance(c, Threads) and c.line), ""):
        yield line
    elif kind == "cpu":
        yield f"threads: {torch.get_num_threads()}"


def _validated(trainer: Any) -> str:
    """How often validation comes, in steps: Lightning counts batches, of which a step may have several."""
    every = trainer.val_check_interval
    validates = getattr(getattr(trainer, "datamodule", None), "validation", None) and trainer.limit_val_batches
    if not validates or not isinstance(every, int) or getattr(trainer, "_val_check_time_interval", None):
        return ""
    steps = f"{every / trainer.accumulate_grad_batches:,.1f}".removesuffix(".0")
    return f"validated every {steps}" + (f" ({every:,} batches)" if trainer.accumulate_grad_batches > 1 else "")


def quiet_devices() -> None:
    """Leave out Lightning's lines on seed, GPUs and TPUs, which the header says in its own."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda record: not str(record.msg).startswith(_SAID))
    logging.getLogger("lightning.fabric.utilities.seed").addFilter(lambda record: "Seed set to" not in str(record.msg))


_FILES = f"config.yaml, {RECORD} (the plan of the data), metrics.csv, checkpoints/"
_SAID = ("GPU available: False", "TPU available: False", "HPU available: False", "Seed set to ")


def _count(module: nn.Module, trained: bool = False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def _short(count: int) -> str:
    return str(get_human_readable_count(count)).strip()
