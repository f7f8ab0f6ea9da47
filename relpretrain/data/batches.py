"""Builds the batch of any step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np

from relpretrain.data.pipeline.collate import collate
from relpretrain.data.pipeline.stages import EXCLUDED, Pipeline
from relpretrain.data.pipeline.text_writer import Example
from relpretrain.data.pipeline.transforms import EXCLUDED_BY_CONFIDENCE
from relpretrain.data.sampling.schedule import BatchSchedule, Row, groups_of
from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.manifest import ShardEntry
from relpretrain.data.shards.opened import OpenShards
from relpretrain.errors import TooManyBadSamples
from relpretrain.identity import number_of
from relpretrain.types import Batch

TRIES = 1000
"""How many substitutes are tried for a bad sample before the run stops."""


class Batches:
    """Builds the batch of any step.

    A bad sample, and one on the exclusion list, is replaced by another one of its dataset, drawn by (seed, step, slot),
    so batches are always full and the global batch does not depend on the number of processes and workers. Shards are
    opened when a sample of them is first read, and closed when no batch of the time needs them.

    Args:
        schedule: The samples of every step.
        shards: What the shards of each dataset hold, by stream.
        pipelines: Each stream's pipeline from a stored sample to an example.
        pad_id: Id of the padding token.
        rank: Rank of this process.
        world_size: Number of processes; each builds its slice of the global batch.
        opened: Opens the shards.

    Raises:
        ValueError: If a stream's batch size is not a multiple of the number of processes.
    """

    def __init__(
        self,
        schedule: BatchSchedule,
        shards: Mapping[str, Mapping[str, Sequence[ShardEntry]]],
        pipelines: Mapping[str, Pipeline],
        pad_id: int,
        rank: int = 0,
        world_size: int = 1,
        opened: OpenShards | None = None,
    ) -> None:
        for name, stream in schedule.streams.items():
            if stream.batch_size % world_size:
                raise ValueError(uneven(name, stream.batch_size, world_size))
        self.schedule = schedule
        self.shards = shards
        self.pipelines = pipelines
        self.pad_id = pad_id
        self.rank = rank
        self.world_size = world_size
        self.opened = opened or OpenShards()

    def __getitem__(self, step: int) -> Batch:
        """This process's batch of a step: a pure function of schedule, step and rank.

        Raises:
            TooManyBadSamples: If every substitute tried for a bad sample is bad, too.
            OSError: If a shard is not there, cannot be fetched, or is not what its manifest tells of.
        """
        name = self.schedule.stream_of(step)
        stream = self.schedule.streams[name]
        size = stream.batch_size // self.world_size
        slots = range(self.rank * size, (self.rank + 1) * size)
        examples: list[Example] = []
        skipped: list[tuple[str, str, str]] = []
        for slot, row in zip(slots, self.schedule.rows(step, slots), strict=True):
            example, lost = self._example(name, row, [step, slot])
            skipped += lost
            substitutes = self.schedule.substitutes(step, slot)
            for other in islice(substitutes, TRIES) if example is None else ():
                example, others = self._example(name, other, [step, slot, 1])
                if example is not None:
                    skipped += others  # of the substitute's parts; bad substitutes are not counted
                    break
                lost = others
            if example is None:
                _, reason, place = lost[-1]
                raise TooManyBadSamples(
                    f"Dataset {row.dataset!r}: of {TRIES:,} samples drawn for step {step} (stream {name!r}) none is "
                    f"good: {place} ({reason}), ...; {_remedy(stream, reason)}."
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

    def shards_of(self, steps: range) -> list[ShardEntry]:
        """The shards of the windows that this process's places of some batches lie in, of all datasets."""
        groups = groups_of(self.rank, self.world_size, self.schedule.groups)
        needs = [need for step in steps for need in self.schedule.needs(step, groups) if need.open]
        return list({id(e): e for n in needs for e in [self.shards[n.stream][n.dataset][n.shard]]}.values())

    def _example(self, stream: str, row: Row, numbers: list[int]) -> tuple[Example | None, list[tuple[str, str, str]]]:
        """Run a sample through its stream's pipeline, seeded by `numbers`; returns the example and what was lost."""
        dataset = row.dataset
        entry = self.shards[stream][dataset][row.shard]
        shard = self.opened.get(entry, lambda: self._needed(numbers[0]))
        index, number = shard.index, shard.row(self.schedule.streams[stream].need, row.row)
        pipeline = self.pipelines[stream]
        if pipeline.exclusion is not None and (listed := pipeline.exclusion.reason(index.image_ids[number])):
            return None, [(dataset, listed, index.place(number))]
        rng = np.random.default_rng([self.schedule.seed, number_of("sample", stream), *numbers])
        example, lost = pipeline(dataset, index, number, rng)
        return example, [(dataset, reason, index.place(number)) for reason in lost]

    def _needed(self, step: int) -> set[str]:
        """Addresses of the shards that are open at a step, of all datasets."""
        return {entry.shard for entry in self.shards_of(range(step, step + 1))}


def _remedy(stream: Stream, reason: str) -> str:
    """What to do where a stream finds no good sample."""
    if reason == EXCLUDED_BY_CONFIDENCE:
        return f"min_confidence={stream.min_confidence:g} leaves too little of this data: lower it"
    if reason.startswith(EXCLUDED):
        return "the list of `exclude` leaves too little of this data"
    return "look at it with `relpretrain data doctor`"


def uneven(stream: str, batch_size: int, world_size: int) -> str:
    """The error line for a batch size that is not a multiple of the number of processes."""
    return (
        f"Stream {stream!r}: batch_size={batch_size} is the joint batch of all processes and must be a multiple of "
        f"their number, {world_size}."
    )
