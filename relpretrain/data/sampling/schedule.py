"""Which samples make up the batch of step t: a pure function of (seed, step), for any number of workers and processes.

Each step draws a stream by the streams' ratios and a dataset of it by `dataset_ratios`. The samples it takes depend
only on how often that dataset was drawn before, counted in blocks of steps, so any step is computed without the ones
before it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relpretrain.data.sampling.stream import Stop, Stream
from relpretrain.identity import fingerprint, number_of

_BLOCK = 4096  # steps, or samples with replacement, drawn with one generator
_WINDOW = 8  # shards whose samples are shuffled together


class Row(NamedTuple):
    """Location of a sample: dataset, number of the shard within it, row of the shard's index."""

    dataset: str
    shard: int
    row: int


class BatchSchedule:
    """The samples of every step of a run.

    Args:
        streams: The streams by name; one with ratio 0 is off.
        eligible: Rows that may be drawn, by stream, dataset and shard.
        seed: Not negative.
        note: Anything else that decided which rows are eligible, such as the exclusion list; part of the fingerprint.

    Raises:
        ValueError: If a ratio is negative, all are zero, or a stream that is on has a dataset without rows.
    """

    def __init__(
        self,
        streams: Mapping[str, Stream],
        eligible: Mapping[str, Mapping[str, Sequence[NDArray[np.int64]]]],
        seed: int = 0,
        note: str = "",
    ) -> None:
        if seed < 0:
            raise ValueError(f"seed={seed} must not be negative.")
        if problem := wrong_stream_ratios(streams):
            raise ValueError(problem)
        self.streams = {name: stream for name, stream in streams.items() if stream.ratio > 0}
        self.seed = seed
        self.note = note
        total = sum(stream.ratio for stream in self.streams.values())
        self.probabilities = {name: stream.ratio / total for name, stream in self.streams.items()}
        self._sources = [(name, dataset) for name, stream in self.streams.items() for dataset in stream.datasets]
        self._samplers = {(n, d): self._sampler(n, d, eligible[n][d]) for n, d in self._sources}
        for (name, dataset), sampler in self._samplers.items():
            if sampler.size == 0:
                raise ValueError(f"Stream {name!r} draws from dataset {dataset!r}, which has no sample for it.")
        within = {name: self._ratios(name) for name in self.streams}
        probabilities = [self.probabilities[n] * within[n][d] / sum(within[n].values()) for n, d in self._sources]
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

    def rows(self, step: int) -> list[Row]:
        """The samples of a step's global batch, that of all processes together.

        Without replacement, an epoch visits each sample of a dataset once, in an order of its own; a batch may hold
        the end of one epoch and the beginning of the next. With replacement, each sample is drawn independently.
        """
        source = self._source(step)
        name, dataset = self._sources[source]
        size = self.streams[name].batch_size
        start = int(self._draws_before(step)[source]) * size
        return [Row(dataset, *place) for place in self._samplers[name, dataset].take(start, size)]

    def substitutes(self, step: int, slot: int) -> Iterator[Row]:
        """Endless independent draws from the step's dataset, to replace a bad sample in place `slot` of the batch."""
        source = self._sources[self._source(step)]
        sampler = self._samplers[source]
        rng = np.random.default_rng([self.seed, number_of("others", *source), step, slot])
        while True:
            yield Row(source[1], *sampler.locate(int(rng.integers(sampler.size))))

    def sizes(self) -> dict[tuple[str, str], int]:
        """Samples per epoch, by stream and dataset."""
        return {source: sampler.size for source, sampler in self._samplers.items()}

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
        sizes = np.array([sampler.size for sampler in self._samplers.values()])
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

    @property
    def fingerprint(self) -> str:
        """Hex digest of all that decides which samples a step holds."""
        streams = {name: [s.kind, s.batch_size, s.ratio, list(s.datasets)] for name, s in self.streams.items()}
        sizes = [[*source, sampler.shard_sizes.tolist()] for source, sampler in self._samplers.items()]
        options: dict[str, Any] = {
            name: [s.dataset_ratios, s.replacement, *([s.neighbours] if s.neighbours > 1 else [])]
            for name, s in self.streams.items()
            if s.dataset_ratios != "uniform" or s.replacement or s.neighbours > 1
        }
        content = [self.seed, streams, sizes, *([options, self.note] if options or self.note else [])]
        return fingerprint(json.dumps(content))

    def _sampler(self, name: str, dataset: str, eligible: Sequence[NDArray[np.int64]]) -> _EpochSampler:
        stream, seed = self.streams[name], [self.seed, number_of("samples", name, dataset)]
        if problem := wrong_neighbours(name, stream):
            raise ValueError(problem)
        if stream.replacement:
            return _ReplacementSampler(eligible, seed)
        return _EpochSampler(eligible, seed, stream.neighbours)

    def _ratios(self, name: str) -> dict[str, float]:
        """How often each dataset of a stream is drawn, as numbers relative to each other."""
        stream = self.streams[name]
        if stream.dataset_ratios == "uniform":
            return dict.fromkeys(stream.datasets, 1.0)
        if stream.dataset_ratios == "size":
            return {dataset: float(self._samplers[name, dataset].size) for dataset in stream.datasets}
        if problem := wrong_ratios(name, stream):
            raise ValueError(problem)
        return dict(stream.dataset_ratios)

    def _source(self, step: int) -> int:
        """Index into `_sources` of what a step draws from."""
        if step < 0:
            raise ValueError(f"step={step} must not be negative.")
        block, offset = divmod(step, _BLOCK)
        return int(self._drawn_in(block)[offset])

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


class _EpochSampler:
    """The samples of one dataset, each once per epoch.

    Each epoch has an order of shards of its own. The samples of a window of consecutive shards are shuffled together,
    which keeps reads local. Of each shard, rows 0 to `neighbours` - 1 stay together, and so on.
    """

    def __init__(self, eligible: Sequence[NDArray[np.int64]], seed: list[int], neighbours: int = 1) -> None:
        self.eligible = eligible
        self.seed = seed
        self.neighbours = neighbours
        self.shard_sizes = np.array([len(rows) for rows in eligible], dtype=np.int64)
        self.size = int(self.shard_sizes.sum())
        self._epoch: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None  # number, order, ends
        self._window: tuple[tuple[int, int], NDArray[np.int64]] | None = None  # (epoch, window), samples

    def take(self, start: int, count: int) -> list[tuple[int, int]]:
        """(shard, row) of `count` samples from position `start` on, positions running on over all epochs."""
        taken: list[tuple[int, int]] = []
        while len(taken) < count:
            epoch, offset = divmod(start + len(taken), self.size)
            order, ends = self._order(epoch)
            window = int(np.searchsorted(ends, offset, side="right"))
            first = int(ends[window - 1]) if window else 0
            samples = self._shuffled(epoch, window, order)[offset - first :][: count - len(taken)]
            taken += [(shard, row) for shard, row in samples.tolist()]
        return taken

    def locate(self, number: int) -> tuple[int, int]:
        """(shard, row) of a sample by its number in the unshuffled order of shards and rows."""
        ends = np.cumsum(self.shard_sizes)
        shard = int(np.searchsorted(ends, number, side="right"))
        return shard, int(self.eligible[shard][number - int(ends[shard] - self.shard_sizes[shard])])

    def _order(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The epoch's order of shards, and for each of its windows the position after its last sample."""
        if self._epoch is None or self._epoch[0] != epoch:
            order = np.random.default_rng([*self.seed, epoch]).permutation(len(self.shard_sizes))
            windows = np.add.reduceat(self.shard_sizes[order], np.arange(0, len(order), _WINDOW))
            self._epoch = epoch, order, np.cumsum(windows)
        return self._epoch[1], self._epoch[2]

    def _shuffled(self, epoch: int, window: int, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """(samples, 2): shard and row of the window's samples, shuffled."""
        if self._window is None or self._window[0] != (epoch, window):
            shards = order[window * _WINDOW : (window + 1) * _WINDOW]
            rows = np.concatenate([self.eligible[s] for s in shards])
            samples = np.stack([np.repeat(shards, self.shard_sizes[shards]), rows], axis=1)
            rng = np.random.default_rng([*self.seed, epoch, window])
            self._window = (epoch, window), self._shuffle(samples, rng)
        return self._window[1]

    def _shuffle(self, samples: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        if self.neighbours == 1:
            return rng.permutation(samples)
        _, group = np.unique(samples // [1, self.neighbours], axis=0, return_inverse=True)
        position = rng.permutation(int(group.max()) + 1)[group.ravel()]
        return samples[np.argsort(position, kind="stable")]


class _ReplacementSampler(_EpochSampler):
    """The samples of one dataset drawn with replacement: each independently of all others."""

    def take(self, start: int, count: int) -> list[tuple[int, int]]:
        """(shard, row) of `count` samples from position `start` on."""
        blocks = range(start // _BLOCK, (start + count - 1) // _BLOCK + 1)
        drawn = np.concatenate([self._drawn_block(block) for block in blocks])
        numbers = drawn[start - blocks.start * _BLOCK :][:count]
        ends = np.cumsum(self.shard_sizes)
        shards = np.searchsorted(ends, numbers, side="right")
        rows = numbers - (ends - self.shard_sizes)[shards]
        return [(int(shard), int(self.eligible[shard][row])) for shard, row in zip(shards, rows, strict=True)]

    def _drawn_block(self, block: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([*self.seed, number_of("replacement"), block])
        return rng.integers(self.size, size=_BLOCK)
