"""Which samples make up the batch of step t: a pure function of (seed, step), for any number of workers and processes.

Each step draws a stream by the streams' ratios and a dataset of it by `dataset_ratios`. The samples it takes depend
only on how often that dataset was drawn before, counted in blocks of steps, so any step is computed without the ones
before it. Of the shards nothing is known but how many rows each has to give.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relpretrain.data.sampling.order import WINDOW, EpochOrder, ReplacementOrder
from relpretrain.data.sampling.stream import Stop, Stream
from relpretrain.identity import fingerprint, number_of

_BLOCK = 4096  # steps drawn with one generator


class Row(NamedTuple):
    """Location of a sample: dataset, number of the shard within it, number of the row among its eligible ones."""

    dataset: str
    shard: int
    row: int


class Need(NamedTuple):
    """A shard that batches are made of.

    Args:
        stream: The stream that draws from it.
        dataset: Its dataset.
        shard: Its number there.
        open: Whether one of the next batches may need it; else it comes after them.
        steps: In about how many steps it is needed.
    """

    stream: str
    dataset: str
    shard: int
    open: bool
    steps: float


class BatchSchedule:
    """The samples of every step of a run.

    Args:
        streams: The streams by name; one with ratio 0 is off.
        eligible: How many rows may be drawn, by stream, dataset and shard.
        seed: Not negative.
        note: Anything else that decides which samples are used, such as the exclusion list; part of the fingerprint.
        groups: Parts of the joint batch that draw from spans of the epoch of their own (`order`).

    Raises:
        ValueError: If a ratio is negative, all are zero, a stream that is on has a dataset without rows, or a batch
            fewer places than there are groups.
    """

    def __init__(
        self,
        streams: Mapping[str, Stream],
        eligible: Mapping[str, Mapping[str, Sequence[int] | NDArray[np.int64]]],
        seed: int = 0,
        note: str = "",
        groups: int = 1,
    ) -> None:
        if seed < 0:
            raise ValueError(f"seed={seed} must not be negative.")
        if problem := wrong_stream_ratios(streams):
            raise ValueError(problem)
        self.streams = {name: stream for name, stream in streams.items() if stream.ratio > 0}
        self.seed = seed
        self.note = note
        self.groups = groups
        self._eligible = eligible
        total = sum(stream.ratio for stream in self.streams.values())
        self.probabilities = {name: stream.ratio / total for name, stream in self.streams.items()}
        self._sources = [(name, dataset) for name, stream in self.streams.items() for dataset in stream.datasets]
        self.orders = {(n, d): self._order(n, d, eligible[n][d]) for n, d in self._sources}
        for (name, dataset), order in self.orders.items():
            if order.size == 0:
                raise ValueError(f"Stream {name!r} draws from dataset {dataset!r}, which has no sample for it.")
        within = {name: self._ratios(name) for name in self.streams}
        probabilities = [self.probabilities[n] * within[n][d] / sum(within[n].values()) for n, d in self._sources]
        self._chances = dict(zip(self._sources, probabilities, strict=True))
        self._thresholds = np.cumsum(probabilities)[:-1]
        self._batch_sizes = np.array([self.streams[name].batch_size for name, _ in self._sources])
        self._before = [np.zeros(len(self._sources), dtype=np.int64)]  # draws of each source before each block
        self._block: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, dtype=np.int64))

    def stream_of(self, step: int) -> str:
        """Name of the stream that a step draws."""
        return self._sources[self._source(step)][0]

    def dataset_of(self, step: int) -> str:
        """Name of the dataset that a step draws."""
        return self._sources[self._source(step)][1]

    def rows(self, step: int, slots: range | None = None) -> list[Row]:
        """The samples of a step's global batch, that of all processes together, or of some places of it.

        Without replacement, an epoch visits each sample of a dataset once, in an order of its own; a batch may hold
        the end of one epoch and the beginning of the next. With replacement, each sample is drawn independently.

        Args:
            step: Number of the step.
            slots: The places; None for all.
        """
        source = self._source(step)
        slots = range(int(self._batch_sizes[source])) if slots is None else slots
        taken = self.orders[self._sources[source]].take(self._position(step, slots.start), len(slots))
        return [Row(self._sources[source][1], *place) for place in taken]

    def substitutes(self, step: int, slot: int) -> Iterator[Row]:
        """Endless draws to replace a bad sample in place `slot` of a step's batch, from shards that are at hand."""
        source = self._sources[self._source(step)]
        rng = np.random.default_rng([self.seed, number_of("others", *source), step, slot])
        for place in self.orders[source].substitutes(self._position(step, slot), rng):
            yield Row(source[1], *place)

    def needs(self, step: int, groups: Sequence[int], batches: int = 1, windows: int = 0) -> list[Need]:
        """Shards that some groups need from a step on, in the order in which they are needed; each once.

        Args:
            step: The step.
            groups: The groups.
            batches: How many batches of each source may be under way.
            windows: How many further windows are looked ahead.
        """
        found: dict[tuple[str, str, int], Need] = {}
        for (name, dataset), draws in zip(self._sources, self._draws_before(step).tolist(), strict=True):
            order = self.orders[name, dataset]
            chance = self._chances[name, dataset]
            for group in groups:
                passed, ahead, known, places = 0, 0, len(found), order.places_of(group)
                for shards, samples in order.windows(draws, group):
                    is_open = passed < batches * places
                    if not is_open and (ahead >= windows * WINDOW or len(found) - known >= len(order.sizes)):
                        break
                    ahead += 0 if is_open else len(shards)
                    for shard in shards:
                        need = Need(name, dataset, shard, is_open, passed / (places * chance))
                        found.setdefault((name, dataset, shard), need)
                    passed += samples
        return sorted(found.values(), key=lambda need: (not need.open, need.steps))

    def in_groups(self, groups: int) -> BatchSchedule:
        """The same schedule with another number of groups."""
        return BatchSchedule(self.streams, self._eligible, self.seed, self.note, groups)

    def sizes(self) -> dict[tuple[str, str], int]:
        """Samples per epoch, by stream and dataset."""
        return {source: order.size for source, order in self.orders.items()}

    def taken(self, step: int) -> dict[tuple[str, str], int]:
        """Samples taken before a step, by stream and dataset."""
        return dict(zip(self._sources, (self._draws_before(step) * self._batch_sizes).tolist(), strict=True))

    def end(self, stop: Stop) -> int | None:
        """Number of steps after which a stopping rule ends the run; None for "max_steps", which the trainer decides.

        "first_exhausted" stops before the first step that would need samples of a dataset's second epoch.
        "all_exhausted" stops after the step that completes the first epoch of the last dataset; the others have begun
        further epochs by then. With replacement, an epoch is as many draws as the dataset has samples.
        """
        if stop == "max_steps":
            return None
        sizes = np.array([order.size for order in self.orders.values()])
        first = stop == "first_exhausted"
        wanted = (
            sizes // self._batch_sizes + 1 if first else -(-sizes // self._batch_sizes)
        )  # draws of each source that end it
        block = 0
        while not (np.any if first else np.all)(self._draws_before((block + 1) * _BLOCK) >= wanted):
            block += 1
        before, drawn = self._before[block], self._drawn_in(block)
        found = [
            int(np.flatnonzero(drawn == source)[n - 1])
            for source, n in enumerate((wanted - before).tolist())
            if 0 < n <= np.count_nonzero(drawn == source)
        ]
        return block * _BLOCK + (min(found) if first else max(found) + 1)

    def description(self) -> dict[str, Any]:
        """What decides which samples a step holds, as plain types to be kept and compared: see `differences`."""
        return {
            "seed": self.seed,
            "groups": self.groups,
            **{
                f"{name}.{option}": value
                for name, stream in self.streams.items()
                for option, value in {
                    "kind": stream.kind,
                    "ratio": stream.ratio,
                    "batch_size": stream.batch_size,
                    "dataset_ratios": stream.dataset_ratios,
                    "replacement": stream.replacement,
                    "neighbours": stream.neighbours,
                    "datasets": list(stream.datasets),
                }.items()
            },
            **{f"{name}/{dataset} shards": len(order.sizes) for (name, dataset), order in self.orders.items()},
            **{f"{name}/{dataset} samples": order.size for (name, dataset), order in self.orders.items()},
            "exclusion list": self.note,
        }

    @property
    def fingerprint(self) -> str:
        """Hex digest of all that decides which samples a step holds."""
        streams = {name: [s.kind, s.batch_size, s.ratio, list(s.datasets)] for name, s in self.streams.items()}
        sizes = [[*source, order.sizes.tolist()] for source, order in self.orders.items()]
        options: dict[str, Any] = {
            name: [s.dataset_ratios, s.replacement, *([s.neighbours] if s.neighbours > 1 else [])]
            for name, s in self.streams.items()
            if s.dataset_ratios != "uniform" or s.replacement or s.neighbours > 1
        }
        content = [self.seed, streams, sizes, *([options, self.note] if options or self.note else [])]
        return fingerprint(json.dumps(content + [{"groups": self.groups}] * (self.groups > 1)))

    def _order(self, name: str, dataset: str, eligible: Sequence[int] | NDArray[np.int64]) -> EpochOrder:
        stream, seed = self.streams[name], [self.seed, number_of("samples", name, dataset)]
        if problem := wrong_neighbours(name, stream) or wrong_groups(name, stream, self.groups):
            raise ValueError(problem)
        kind = ReplacementOrder if stream.replacement else EpochOrder
        return kind(eligible, seed, stream.batch_size, stream.neighbours, self.groups)

    def _ratios(self, name: str) -> dict[str, float]:
        """How often each dataset of a stream is drawn, as numbers relative to each other."""
        stream = self.streams[name]
        if stream.dataset_ratios == "uniform":
            return dict.fromkeys(stream.datasets, 1.0)
        if stream.dataset_ratios == "size":
            return {dataset: float(self.orders[name, dataset].size) for dataset in stream.datasets}
        if problem := wrong_ratios(name, stream):
            raise ValueError(problem)
        return dict(stream.dataset_ratios)

    def _source(self, step: int) -> int:
        """Index into `_sources` of what a step draws from."""
        if step < 0:
            raise ValueError(f"step={step} must not be negative.")
        block, offset = divmod(step, _BLOCK)
        return int(self._drawn_in(block)[offset])

    def _position(self, step: int, slot: int) -> int:
        """Which position of its dataset a place of a step's batch is."""
        source = self._source(step)
        return int(self._draws_before(step)[source] * self._batch_sizes[source]) + slot

    def _draws_before(self, step: int) -> NDArray[np.int64]:
        """(sources,): how often each source was drawn before a step."""
        block, offset = divmod(step, _BLOCK)
        while len(self._before) <= block:
            self._before.append(self._before[-1] + self._counts(len(self._before) - 1, _BLOCK))
        return self._before[block] + self._counts(block, offset) if offset else self._before[block]

    def _counts(self, block: int, offset: int) -> NDArray[np.int64]:
        """(sources,): how often each source is drawn in the first `offset` steps of a block."""
        return np.bincount(self._drawn_in(block)[:offset], minlength=len(self._sources))

    def _drawn_in(self, block: int) -> NDArray[np.int64]:
        """(steps of the block,): index of the source that each step draws."""
        if self._block[0] != block:
            rng = np.random.default_rng([self.seed, number_of("streams"), block])
            self._block = block, np.searchsorted(self._thresholds, rng.random(_BLOCK), side="right")
        return self._block[1]


def wrong_stream_ratios(streams: Mapping[str, Stream]) -> str | None:
    """The error line if no step could draw a stream by these ratios; None if each can."""
    if any(not 0 <= stream.ratio < float("inf") for stream in streams.values()):
        ratios = ", ".join(f"{name} {stream.ratio:g}" for name, stream in streams.items())
        return f"Ratios must be finite and not negative: {ratios}."
    if not any(stream.ratio for stream in streams.values()):
        return "No stream has a ratio above 0: nothing would be trained on."
    return None


def wrong_ratios(name: str, stream: Stream) -> str | None:
    """The error line if `dataset_ratios` does not fit a stream's datasets; None if it does."""
    ratios = stream.dataset_ratios
    if isinstance(ratios, str):
        return (
            None
            if ratios in ("uniform", "size")
            else (f"Stream {name!r}: dataset_ratios={ratios!r} must be 'uniform', 'size' or a number for each dataset.")
        )
    if ratios.keys() != stream.datasets.keys() or not all(0 < ratio < float("inf") for ratio in ratios.values()):
        return (
            f"Stream {name!r}: dataset_ratios={ratios} must give a number above 0 for each of its datasets: "
            f"{', '.join(stream.datasets)}."
        )
    return None


def wrong_neighbours(name: str, stream: Stream) -> str | None:
    """The error line if `neighbours` is invalid; None if it is valid."""
    if stream.neighbours < 1:
        return f"Stream {name!r}: neighbours={stream.neighbours} must be at least 1."
    if stream.neighbours > 1 and stream.replacement:
        return f"Stream {name!r}: neighbours={stream.neighbours} needs replacement=false, which takes them in order."
    return None


def wrong_groups(name: str, stream: Stream, groups: int) -> str | None:
    """The error line if a stream's batch cannot be divided among groups; None if it can."""
    if 1 <= groups <= stream.batch_size:
        return None
    return (
        f"Stream {name!r}: groups={groups} must be from 1 to batch_size={stream.batch_size}: each group fills places "
        "of the joint batch."
    )


def first_shard(
    name: str, dataset: str, eligible: Sequence[int] | NDArray[np.int64], batch_size: int, seed: int = 0,
    groups: int = 1, group: int = 0,
) -> int:  # fmt: skip
    """Number of a shard that a stream's first batch of a dataset needs in the places of a group."""
    stream = Stream("captions", {dataset: dataset}, batch_size)  # of no matter which kind
    schedule = BatchSchedule({name: stream}, {name: {dataset: eligible}}, seed, groups=groups)
    return schedule.needs(0, [group])[0].shard


def groups_of(part: int, parts: int, groups: int) -> range:
    """The groups that have places in one of several equal parts of every batch, such as that of a machine.

    Args:
        part: Number of the part.
        parts: Number of parts.
        groups: Number of groups.
    """
    return range(part * groups // parts, -(-(part + 1) * groups // parts))


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """How two descriptions of a schedule differ, one line each."""
    return [
        f"{what}: {before.get(what, 'nothing')} before, {now.get(what, 'nothing')} now"
        for what in dict.fromkeys([*before, *now])
        if before.get(what) != now.get(what)
    ]
