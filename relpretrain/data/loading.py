"""The loader: batches in the order of their steps, in worker processes."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from relpretrain.data.batches import Batches
from relpretrain.types import Batch

WATCH_SECONDS = 2.0
"""Seconds between two checks of a worker that the process it works for is alive."""


class StepDataset(IterableDataset[Batch]):
    """Batches in the order of their steps; of W workers, worker w builds the steps start + w, start + w + W, ...

    Args:
        batches: Builds the batch of a step.
        start: First step.
        stop: Step before which to end; None for an endless stream of batches.
    """

    repeat: int = 0
    """Number of batches to repeat (the trainer's `overfit_batches`); 0 for no repetition."""

    def __init__(self, batches: Batches, start: int = 0, stop: int | None = None) -> None:
        self.batches = batches
        self.stop = stop
        self.upcoming = start
        # Shared with the workers: they outlive an epoch, and the next one begins where training stands.
        self._start = torch.tensor(start, dtype=torch.long)
        self._start.share_memory_()  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        """Let the next iteration, in all workers, begin at `upcoming`.

        Nothing else changes the shared start: a worker may read it late, when others have built batches already.
        """
        self._start.fill_(self.upcoming)

    def __iter__(self) -> Iterator[Batch]:
        """Yield this worker's batches."""
        worker, start = get_worker_info(), int(self._start)
        step, stride = (start, 1) if worker is None else (start + worker.id, worker.num_workers)
        while self.stop is None or step < self.stop:
            yield replace(self.batches[step % self.repeat], step=step) if self.repeat else self.batches[step]
            step += stride


class StepLoader(DataLoader[Batch]):
    """A loader over a `StepDataset`; each iteration begins at the dataset's `upcoming` step.

    `waited` is the total time in seconds that training waited for batches.
    """

    waited = 0.0

    def __iter__(self) -> Any:
        """Iterate from the upcoming step on."""
        if isinstance(self.dataset, StepDataset):
            self.dataset.begin()
        return self._timed(self._batches())

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def _batches(self) -> Iterator[Batch]:
        if self.num_workers == 0:
            return super().__iter__()
        gc.freeze()  # else a worker's garbage collector touches, and so copies, all that it shares with this process
        try:
            return super().__iter__()
        finally:
            gc.unfreeze()


def leave_with_parent(worker: int) -> None:
    """End a worker when the process that it works for is killed.

    torch's own watchdog does not end a worker that is blocked on handing over a batch; it would keep its memory for
    ever. Nor does it notice with the "forkserver" start method, where the server is the workers' parent.
    """
    parent, forked_by = multiprocessing.parent_process(), os.getppid()

    def watch() -> None:
        while os.getppid() == forked_by and (parent is None or parent.is_alive()):
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
