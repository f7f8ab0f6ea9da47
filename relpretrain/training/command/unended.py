"""A run that was killed between its last checkpoint and its end: what it left undone is done, or told."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from relpretrain.checkpoints import checkpoint as checkpoints
from relpretrain.errors import CheckpointError
from relpretrain.training.command.resuming import METRICS, SETTINGS, rows_up_to
from relpretrain.training.command.run_folder import CHECKPOINTS, LAST, RunFolder, newest
from relpretrain.writing import folder_aside, replace_folder


def ended(checkpoint: Path, done: int, run: Path, trainer: Mapping[str, Any], validates: bool) -> Iterator[str]:
    """Make `last.ckpt` where the run came to its last step and not to its end; what to say of that.

    Args:
        checkpoint: That of the last step.
        done: Its steps.
        run: The run's folder.
        trainer: The recipe's.
        validates: Whether there are data to validate with.

    Raises:
        ConfigError: If another process is at work in the folder: it may be about to end the run itself.
        OSError: If the file cannot be written.
    """
    last = run / CHECKPOINTS / LAST
    if checkpoint == last or _step(last) >= done or newest(run) != checkpoint:
        return
    held = RunFolder(run)
    try:
        written = folder_aside(last)
        (shutil.copytree if checkpoint.is_dir() else shutil.copyfile)(checkpoint, written)
        replace_folder(written, last)
    finally:
        held.teardown(None, None, "fit")
    yield f"Ended:      the run was stopped before its end; the checkpoint is {last}, too, now"
    if validates and _due(done, trainer) and not _validated(run / METRICS, done):
        command = f"relpretrain validate -c {shlex.quote(str(run / SETTINGS))} --ckpt_path={shlex.quote(str(last))}"
        yield f"Validate:   {command}   # that of step {done:,} is missing"


def _step(path: Path) -> int:
    """The steps of a checkpoint; -1 without a whole one."""
    try:
        return int(checkpoints.read(path).get("global_step", -1))
    except CheckpointError:
        return -1


def _due(done: int, trainer: Mapping[str, Any]) -> bool:
    """Whether validation comes after a step: Lightning counts batches, of which a step may have several."""
    every = trainer.get("val_check_interval")
    if not isinstance(every, int) or every < 1 or trainer.get("limit_val_batches") == 0:
        return False
    return done * int(trainer["accumulate_grad_batches"]) % every == 0


def _validated(metrics: Path, step: int) -> bool:
    """Whether its losses are logged: Lightning gives those of validation the step before."""
    try:
        rows = rows_up_to(metrics, step)
    except ValueError:
        return False
    return any(row["step"] >= step - 1 and any(name.startswith("val/") for name in row) for row in rows)
