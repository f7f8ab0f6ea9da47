"""The loader: batches in the order of their steps, in worker processes."""

from __future__ import annotations

import contextlib
import gc
import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from multiprocessing.util import Finalize
from typing import Any, cast

import torch
from torch.utils.data import ChainDataset, DataLoader, IterableDataset, get_worker_info
from torch.utils.data._utils import signal_handling

from relpretrain.data.batches import Batches
from relpretrain.data.workers import TOLD, Failure, Notes, died, stuck, worker_of
from relpretrain.errors import WorkerError
from relpretrain.types import Batch

WATCH_SECONDS = 2.0
"""Seconds between two checks of a worker that the process it works for is alive."""

_GRACE = 5.0
"""Seconds after which a worker is killed that is late and answers nothing: torch would wait for it without end."""

_TOLD = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""What a group of processes may be told."""


class StepDataset(IterableDataset[Batch]):
    """Batches in the order of their steps; of W workers, worker w builds the steps start + w, start + w + W, ...

    Args:
        batches: Builds the batch of a step.
        start: First step.
        stop: Step before which to end; None for an endless stream of batches.
    """

    repeat: int = 0
    """Number of batches to repeat (the trainer's `overfit_batches`); 0 for no repetition."""

    notes: Notes | None = None
    """Where workers write what they are at."""

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
            if worker is None:
                yield self._batch(step)
            else:
                yield self._handed_over(step, worker.id)
            step += stride

    def _batch(self, step: int) -> Batch:
        return replace(self.batches[step % self.repeat], step=step) if self.repeat else self.batches[step]

    def _handed_over(self, step: int, worker: int) -> Batch:
        """A worker's batch, or what stands in its place."""
        if self.notes is not None:
            where = f"step {step} (stream {self.batches.schedule.stream_of(step)!r})"
            self.notes.write(worker, where)
            for pipeline in self.batches.pipelines.values():
                pipeline.note = partial(_noted, self.notes, worker, where)
        try:
            return self._batch(step)
        except TOLD as error:
            return cast(Batch, Failure(error))


def _noted(notes: Notes, worker: int, where: str, place: str) -> None:
    notes.write(worker, f"{where}, sample {place}")


class StepLoader(DataLoader[Batch]):
    """A loader over a `StepDataset` or a chain of them; each iteration begins at the dataset's `upcoming` step.

    It takes what every `DataLoader` takes, for Lightning makes such loaders anew; `step_loader` makes one. `waited` is
    the total time in seconds that training waited for batches.
    """

    waited = 0.0

    def __iter__(self) -> Any:
        """Iterate from the upcoming step on.

        Raises:
            WorkerError: If a worker is stuck or dies.
            TooManyBadSamples: As in the worker; likewise errors of settings and of files.
        """
        if isinstance(self.dataset, StepDataset):
            self.dataset.begin()
        return self._timed(self._batches())

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for number in itertools.count():
            start = time.perf_counter()
            try:
                batch = self._next(batches, number)
            except Exception as error:
                said, late = f"{error} {error.__cause__}", 0 < self.timeout <= time.perf_counter() - start
                told = self._told(said, number, batches, late) if late or isinstance(error, RuntimeError) else None
                self._end(batches)
                if told is None:
                    raise
                raise told from None
            self.waited += time.perf_counter() - start
            if batch is None:
                return
            if isinstance(batch, Failure):
                self._end(batches)
                raise batch.error
            yield batch

    def _next(self, batches: Any, number: int) -> Batch | None:
        """The batch of a number. While a worker is stopped, what it has handed over cannot be taken, either."""
        if not self.timeout:
            return next(batches, None)
        late = threading.Timer(self.timeout + _GRACE, batches._workers[number % self.num_workers].kill)
        late.daemon = True
        late.start()
        try:
            return next(batches, None)
        finally:
            late.cancel()

    def _end(self, batches: Any) -> None:
        """End the workers now: left to the garbage collector, each is waited for in vain, one after the other."""
        if self.num_workers:
            batches._worker_pids_set = False
            _kill(batches._workers, id(batches))
            batches._shutdown_workers()
            self._iterator = None

    def _told(self, text: str, number: int, batches: Any, late: bool) -> WorkerError | None:
        """What torch's error means, in the place of the batch of this number; its cause names the signal."""
        notes = next((part.notes for part in _parts(self.dataset) if part.notes is not None), None)
        if late:
            worker = number % self.num_workers  # they take turns
            return stuck(worker, self.num_workers, self.timeout, "" if notes is None else notes.read(worker))
        processes = getattr(batches, "_workers", ())
        dead = worker_of(text, processes)
        if dead is None:
            return died(text)
        return died(text, "" if notes is None else notes.read(dead), processes[dead].exitcode)

    def _batches(self) -> Any:
        if self.num_workers == 0:
            return super().__iter__()
        gc.freeze()  # else a worker's garbage collector touches, and so copies, all that it shares with this process
        try:
            batches: Any = super().__iter__()
        finally:
            gc.unfreeze()
        # At its end Python asks workers to end and waits for them, for ever where one is stopped: this comes before.
        Finalize(batches, _kill, (batches._workers, id(batches)), exitpriority=0)
        return batches


def _kill(workers: Iterable[Any], loader: int) -> None:
    with contextlib.suppress(ValueError):  # they have ended already
        signal_handling._remove_worker_pids(loader)  # type: ignore[attr-defined]  # else torch takes their end for a fault
    for process in workers:
        process.kill()


def step_loader(
    dataset: IterableDataset[Batch],
    workers: int,
    prefetch: int = 2,
    timeout: float = 0.0,
    finish: Callable[[Any], Any] | None = None,
) -> StepLoader:
    """A loader whose batches come in pinned memory where there is a CUDA device, and whose workers stay.

    Args:
        dataset: The batches in order: a `StepDataset`, or a chain of them.
        workers: Processes that build them; 0 for this one.
        prefetch: Batches that each worker prepares in advance.
        timeout: Seconds after which a worker that gives no batch ends the iteration, by name; 0 waits for ever.
        finish: What workers do to each batch at last.
    """
    notes = Notes(workers)
    for part in _parts(dataset):
        part.notes = notes
    return StepLoader(
        dataset,
        batch_size=None,
        num_workers=workers,
        collate_fn=partial(_finished, finish),  # type: ignore[arg-type]  # without batch_size it gets single items
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=leave_with_parent,
        prefetch_factor=prefetch if workers > 0 else None,
        timeout=timeout if workers > 0 else 0,
    )


def _parts(dataset: Any) -> list[StepDataset]:
    """The datasets of a chain, or the one."""
    parts = dataset.datasets if isinstance(dataset, ChainDataset) else [dataset]
    return [part for part in parts if isinstance(part, StepDataset)]


def _finished(finish: Callable[[Any], Any] | None, batch: Any) -> Any:
    return batch if finish is None or isinstance(batch, Failure) else finish(batch)


def leave_with_parent(worker: int) -> None:
    """End a worker when the process that it works for is killed or tells it to, and at no other signal.

    torch's own watchdog does not end a worker that is blocked on handing over a batch; it would keep its memory for
    ever. Nor does it notice with the "forkserver" start method, where the server is the workers' parent. And what a
    scheduler or Ctrl-C tells a whole group of processes is for training to answer, which still needs its workers.
    """
    parent, forked_by = multiprocessing.parent_process(), os.getppid()
    served = {forked_by, forked_by if parent is None else parent.pid}
    signal.pthread_sigmask(signal.SIG_BLOCK, _TOLD)  # before the thread begins, which takes them instead

    def watch() -> None:
        while os.getppid() == forked_by and (parent is None or parent.is_alive()):
            told = signal.sigtimedwait(_TOLD, WATCH_SECONDS)
            if told is not None and told.si_signo == signal.SIGTERM and told.si_pid in served:
                break
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
