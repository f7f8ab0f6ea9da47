"""Checks of Lightning's trainer flags against endless data that is counted in steps.

An epoch is Lightning's here: the batches between two calls of its end-of-epoch hooks, not one of a dataset.
"""

from __future__ import annotations

from typing import Any

from relpretrain.data.sampling.schedule import BatchSchedule
from relpretrain.data.sampling.stream import Stop


def overfit_batches(trainer: Any) -> int:
    """Number of batches that every epoch repeats (`trainer.overfit_batches`); 0 for none."""
    asked = getattr(trainer, "overfit_batches", 0)
    return asked if isinstance(asked, int) else 0


def optimizer_steps(batches: int, accumulate: int) -> int:
    """Optimizer steps in so many batches; the last step may have fewer than the others."""
    return -(-batches // accumulate)


def problems(trainer: Any) -> list[str]:
    """Report unsupported values of the trainer's flags, one line each."""
    found = []
    for name in ("overfit_batches", "limit_train_batches", "limit_val_batches"):
        value = getattr(trainer, name, 0)
        if isinstance(value, float) and value not in (0.0, 1.0):
            found.append(f"trainer.{name}={value:g}: batches have no end to take a fraction of. Give a whole number.")
    if getattr(trainer, "overfit_batches", 0) == 1.0 and not overfit_batches(trainer):
        found.append("trainer.overfit_batches=1.0 would be all batches. Give a whole number.")
    return found


def notices(trainer: Any, stop: Stop, schedule: BatchSchedule, validates: bool) -> list[str]:
    """Warnings about flags whose effect may surprise, one line each.

    Args:
        trainer: Lightning's trainer.
        stop: The data module's stopping rule.
        schedule: The samples of every training step.
        validates: Whether there are validation streams.
    """
    found = []
    if repeated := overfit_batches(trainer):
        streams = ", ".join(dict.fromkeys(schedule.stream_of(step) for step in range(repeated)))
        found.append(f"overfit_batches={repeated}: every epoch repeats the first {repeated} batches (of {streams})")
    end = None if repeated or trainer.fast_dev_run else schedule.end(stop)
    steps = None if end is None else optimizer_steps(end, trainer.accumulate_grad_batches)
    if steps is not None and not 0 <= trainer.max_steps <= steps:
        found.append(
            f"stop={stop!r} ends training after {steps} steps, but the learning rate goes by trainer.max_steps="
            f"{trainer.max_steps}: give the Trainer max_steps={steps}, from datamodule.optimizer_steps()"
        )
    endless = stop == "max_steps" and not isinstance(trainer.limit_train_batches, int)  # an epoch
    if endless and (trainer.max_epochs or 0) > 0:
        last = f"ends at max_steps={trainer.max_steps}" if trainer.max_steps >= 0 else "goes on until it is stopped"
        found.append(
            f"trainer.max_epochs={trainer.max_epochs} ends nothing: the data has no end, and so an epoch has none. "
            f"Training {last}. For one epoch of every dataset set data.stop=all_exhausted; trainer.limit_train_batches "
            "says how many batches an epoch has"
        )
    by_time = getattr(trainer, "_val_check_time_interval", None) is not None
    by_batches = by_time or isinstance(trainer.val_check_interval, int)
    if validates and endless and trainer.limit_val_batches and not by_batches:
        found.append(
            "the validation streams are never looked at: validation comes at the end of an epoch, and an epoch has "
            "none. Set trainer.val_check_interval to a number of batches"
        )
    return found
