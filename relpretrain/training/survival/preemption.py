"""Being told to stop: the step is finished, the run saved, and the scheduler told by the exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.plugins.environments import LightningEnvironment

from relpretrain.distributed import is_distributed, new_host_group

CODES = {signal.SIGTERM: 143, signal.SIGUSR1: 143, signal.SIGINT: 130}
"""Exit codes: a job that was preempted (143, to be queued again), or stopped by hand."""

_SHOW_CURSOR = b"\x1b[?25h"


class Stopped(SystemExit):
    """The end of a process that was told to stop, as all others were: all of them come to it after the same batch."""


class Preemption(pl.Callback):
    """On SIGTERM, SIGUSR1 or Ctrl-C: finishes the batch, saves `last.ckpt`, says how to go on, and ends the process.

    A second Ctrl-C ends it at once. Several processes agree, so that all of them save the same step: what one was told
    during a batch, all of them know at the end of the next one. Nothing waits for that. A checkpoint taken between two
    batches of a validation is that of the step before it; a run that goes on from there leaves this validation out.

    Args:
        path: The checkpoint to save.
        go_on: The command that goes on.
    """

    def __init__(self, path: Path, go_on: str) -> None:
        self.path, self.go_on = path, go_on
        self._told = 0  # number of the signal
        self._owner = 0
        self._group: Any = None
        self._asked: tuple[torch.Tensor, Any] | None = None  # under way: the largest number of all processes

    def on_sanity_check_start(self, trainer: Any, pl_module: Any) -> None:
        """Listen: Lightning's own handlers are in place now."""
        self._listen()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Listen."""
        self._listen()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop, if any process was told to."""
        self._stop(trainer)

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Stop, if any process was told to."""
        if self._owner:
            self._stop(trainer)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Let a checkpoint that is taken inside a validation be the one before it."""
        if trainer.validating and not trainer.sanity_checking and self._told:
            _before_validation(checkpoint)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Listen no more; the run is at its end anyway."""
        if self._asked is not None:
            self._asked[1].wait()
            self._asked = None
        self._owner = 0

    def _listen(self) -> None:
        if self._owner or threading.current_thread() is not threading.main_thread():
            return
        self._owner = os.getpid()
        for number in CODES:  # Lightning puts all handlers back at the end, whatever the end
            signal.signal(number, self._note)
        if is_distributed():
            self._group = new_host_group()  # on the hosts: the devices go on meanwhile

    def _note(self, number: int, frame: Any) -> None:
        if os.getpid() != self._owner:  # a data worker's copy
            return
        self._told = self._told or number
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            shown = _SHOW_CURSOR if sys.stderr.isatty() else b""
            os.write(2, shown + b"\nStopping after this batch; Ctrl-C again stops at once.\n")

    def _agreed(self) -> int:
        """The signal that all processes know of."""
        if self._group is None:
            return self._told
        before, number = self._asked, torch.tensor([self._told])
        self._asked = number, dist.all_reduce(number, dist.ReduceOp.MAX, group=self._group, async_op=True)
        if before is None:
            return 0
        before[1].wait()
        return int(before[0])

    def _stop(self, trainer: Any) -> None:
        told = self._agreed()
        if not told:
            return
        self._told = told
        name, step = signal.Signals(told).name, trainer.global_step
        if trainer.sanity_checking:
            lines = [f"Stopped by {name} before the first step; nothing had to be saved."]
        else:
            trainer.save_checkpoint(self.path, weights_only=False)
            lines = [f"Stopped by {name} at step {step:,}; saved {self.path}", f"Go on:      {self.go_on}"]
        if trainer.is_global_zero:
            print("\n".join(lines), flush=True)
        # Lightning watches the processes that it has started itself, and kills all if one ends with another code.
        environment = getattr(trainer.strategy, "cluster_environment", None)
        watched = isinstance(environment, LightningEnvironment) and trainer.local_rank > 0
        raise Stopped(0 if watched else CODES[signal.Signals(told)])


def _before_validation(checkpoint: dict[str, Any]) -> None:
    """Change a Lightning checkpoint of the middle of a validation into that of the batch before it."""
    loop = checkpoint["loops"]["fit_loop"]
    done, seen = loop["epoch_loop.batch_progress"], loop["epoch_loop.val_loop.batch_progress"]
    for count in (done["total"], done["current"]):
        count["completed"] = count["processed"] - 1  # as at the end of a batch, where Lightning saves
    batches = dict(seen["current"])
    for count in (seen["total"], seen["current"]):
        count.update({name: max(count[name] - batches["ready"], 0) for name in count})
