"""Batches by step: what data workers run."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from relpretrain.data.pipeline.collate import Example, collate
from relpretrain.data.pipeline.stages import Pipeline
from relpretrain.data.sampling.schedule import Plan, Row
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.errors import TooManyBadSamples
from relpretrain.identity import number_of
from relpretrain.types import Batch

TRIES = 1000
"""How many other samples are looked at to fill the place of a bad one."""

WATCH_SECONDS = 2.0
"""How often a worker looks whether its run is still there."""


class Batches:
    """Makes the batch of any step.

    In the place of a bad sample comes another one of its dataset, drawn by (seed, step, slot): a batch is always full,
    and the joint one is the same whatever the number of processes and workers.

    Args:
        plan: Which samples a step holds.
        shards: Indexes of the shards of each dataset, by stream.
        pipelines: By stream.
        pad_id: Id of the padding token.
        rank: Number of this process.
        world_size: Number of processes; each makes its slice of the joint batch.

    Raises:
        ValueError: If a joint batch cannot be divided evenly.
    """

    def __init__(
        self,
        plan: Plan,
        shards: Mapping[str, Mapping[str, Sequence[ShardIndex]]],
        pipelines: Mapping[str, Pipeline],
        pad_id: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        for name, stream in plan.streams.items():
            if stream.batch_size % world_size:
                raise ValueError(uneven(name, stream.batch_size, world_size))
        self.plan = plan
        self.shards = shards
        self.pipelines = pipelines
        self.pad_id = pad_id
        self.rank = rank
        self.world_size = world_size

    def __getitem__(self, step: int) -> Batch:
        """This process's batch of a step: a pure function of the plan, the step and the slice.

        Raises:
            TooManyBadSamples: If of the samples drawn for one place none is good.
        """
        name = self.plan.stream_of(step)
        stream = self.plan.streams[name]
        rows = self.plan.rows(step)
        size = len(rows) // self.world_size
        examples: list[Example] = []
        skipped: list[tuple[str, str, str]] = []
        for slot in range(self.rank * size, (self.rank + 1) * size):
            example, lost = self._example(name, rows[slot], [step, slot])
            skipped += lost
            others = self.plan.others(step, slot)
            for row in islice(others, TRIES) if example is None else ():
                example, lost = self._example(name, row, [step, slot, 1])
                if example is not None:
                    skipped += lost  # parts of it; a further bad sample in this place is not counted again
                    break
            if example is None:
                _, reason, place = skipped[-1]
                raise TooManyBadSamples(
                    f"Dataset {rows[slot].dataset!r}: of {TRIES:,} samples drawn for step {step} (stream {name!r}) "
                    f"none is good: {place} ({reason}), ... Look at it with `relpretrain data doctor`."
                )
            examples.append(example)
        return collate(
            stream.kind,
            examples,
            self.pad_id,
            stream=name,
            objectives=tuple(stream.objectives),
            step=step,
            skipped=tuple(skipped),
        )

    def _example(self, stream: str, row: Row, numbers: list[int]) -> tuple[Example | None, list[tuple[str, str, str]]]:
        """Lead a sample through its stream's pipeline, its random choices drawn by some numbers."""
        dataset, shard, number = row
        rng = np.random.default_rng([self.plan.seed, number_of("sample", stream), *numbers])
        index = self.shards[stream][dataset][shard]
        example, lost = self.pipelines[stream](dataset, index, number, rng)
        return example, [(dataset, reason, index.place(number)) for reason in lost]


def uneven(stream: str, batch_size: int, world_size: int) -> str:
    """One line on a batch that does not divide by the number of processes."""
    return (
        f"Stream {stream!r}: batch_size={batch_size} is the joint batch of all processes and must be a multiple of "
        f"their number, {world_size}."
    )


class StepDataset(IterableDataset[Batch]):
    """Batches in the order of their steps; worker w of W makes every W-th of them.

    Args:
        batches: Makes a step's batch.
        start: First step.
        stop: Step before which to end, or None to go on for ever.
    """

    repeat: int = 0
    """If not 0: steps repeat the batches of the first so many."""

    def __init__(self, batches: Batches, start: int = 0, stop: int | None = None) -> None:
        self.batches = batches
        self.stop = stop
        self.upcoming = start
        # Shared with the workers: they outlive an epoch, and the next one begins where training stands.
        self._start = torch.tensor(start, dtype=torch.long)
        self._start.share_memory_()  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        """Let the next iteration, and all its workers, begin at `upcoming`.

        Only this moves the start: a worker may look at it late, when others have made batches already.
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
    """A loader over a `StepDataset`; each iteration begins at the step that is then upcoming.

    `waited` counts the seconds for which its batches were waited for.
    """

    waited = 0.0

    def __iter__(self) -> Any:
        """Begin."""
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
    """Let a worker end when the process that it works for was killed.

    torch's own watch does not end a worker whose last batch nobody takes: it would wait, and hold its memory, for ever.
    Nor does it see the run end where a server forks the workers, for that is then their parent.
    """
    parent, forked_by = multiprocessing.parent_process(), os.getppid()

    def watch() -> None:
        while os.getppid() == forked_by and (parent is None or parent.is_alive()):
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
