"""Which samples make up step t: a pure function of (seed, step), whatever the number of workers and processes.

Streams are drawn by their ratios, and so are datasets within a stream. What a step draws of its dataset depends only on
how often it was drawn before, which is counted block by block; so any step is found without going through those before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relpretrain.data.sampling.stream import Stop, Stream
from relpretrain.identity import fingerprint, number_of

_BLOCK = 4096  # steps, or samples with replacement, drawn together
_WINDOW = 8  # shards whose samples are shuffled together


class Row(NamedTuple):
    """Where a sample lies: the dataset, the number of its shard there, and the row of the shard's index."""

    dataset: str
    shard: int
    row: int


class Plan:
    """The samples of every step of a run.

    Args:
        streams: The streams by name; one with ratio 0 is off.
        eligible: Rows that may be drawn, by stream, dataset and shard.
        seed: Not negative.
        note: What else decided which rows are eligible, for the fingerprint.

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
        if any(not (0 <= stream.ratio < float("inf")) for stream in streams.values()):
            ratios = {name: stream.ratio for name, stream in streams.items()}
            raise ValueError(f"Ratios of streams must be finite and not negative: {ratios}.")
        self.streams = {name: stream for name, stream in streams.items() if stream.ratio > 0}
        if not self.streams:
            raise ValueError("No stream has a ratio above 0: nothing would be trained on.")
        self.seed = seed
        self.note = note
        total = sum(stream.ratio for stream in self.streams.values())
        self.shares = {name: stream.ratio / total for name, stream in self.streams.items()}
        self._choices = [(name, dataset) for name, stream in self.streams.items() for dataset in stream.datasets]
        self._decks = {(n, d): self._deck(n, d, eligible[n][d]) for n, d in self._choices}
        for (name, dataset), deck in self._decks.items():
            if deck.size == 0:
                raise ValueError(f"Stream {name!r} draws from dataset {dataset!r}, which has no sample for it.")
        within = {name: self._ratios(name) for name in self.streams}
        shares = [self.shares[n] * within[n][d] / sum(within[n].values()) for n, d in self._choices]
        self._borders = np.cumsum(shares)[:-1]
        self._batch = np.array([self.streams[name].batch_size for name, _ in self._choices])
        self._before = [np.zeros(len(self._choices), dtype=np.int64)]  # draws before each block
        self._block: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, dtype=np.int64))

    def stream_of(self, step: int) -> str:
        """Name of the stream that a step draws."""
        return self._choices[self._choice(step)][0]

    def dataset_of(self, step: int) -> str:
        """Name of the dataset that a step draws."""
        return self._choices[self._choice(step)][1]

    def rows(self, step: int) -> list[Row]:
        """The samples of a step's joint batch.

        The samples of a dataset pass without replacement, each once per pass, in a new order every pass; a batch may
        hold the end of one pass and the beginning of the next. In a stream with replacement each sample is drawn by
        itself.
        """
        choice = self._choice(step)
        name, dataset = self._choices[choice]
        size = self.streams[name].batch_size
        start = int(self._draws(step)[choice]) * size
        return [Row(dataset, *place) for place in self._decks[name, dataset].deal(start, size)]

    def others(self, step: int, slot: int) -> Iterator[Row]:
        """Samples of a step's dataset for the place of a bad one, each drawn by itself, without end."""
        choice = self._choices[self._choice(step)]
        rng = np.random.default_rng([self.seed, number_of("others", *choice), step, slot])
        while True:
            yield Row(choice[1], *self._decks[choice].card(int(rng.integers(self._decks[choice].size))))

    def sizes(self) -> dict[tuple[str, str], int]:
        """Samples per pass, by stream and dataset."""
        return {choice: deck.size for choice, deck in self._decks.items()}

    def dealt(self, step: int) -> dict[tuple[str, str], int]:
        """Samples dealt before a step, by stream and dataset."""
        return dict(zip(self._choices, (self._draws(step) * self._batch).tolist(), strict=True))

    def end(self, stop: Stop) -> int | None:
        """The step before which a rule ends the run; None for "max_steps", which leaves it to the trainer.

        "first_exhausted" ends before the first step that some dataset cannot fill with samples of its first pass.
        "all_exhausted" ends after the step that deals the last dataset's last sample; the others have begun further
        passes then. A stream with replacement exhausts a dataset when it has drawn as many samples as that holds.
        """
        if stop == "max_steps":
            return None
        sizes = np.array([deck.size for deck in self._decks.values()])
        first = stop == "first_exhausted"
        wanted = sizes // self._batch + 1 if first else -(-sizes // self._batch)  # the draws that decide
        block = 0
        while not (np.any if first else np.all)(self._draws((block + 1) * _BLOCK) >= wanted):
            block += 1
        before, drawn = self._before[block], self._drawn(block)
        found = [
            int(np.flatnonzero(drawn == choice)[n - 1])
            for choice, n in enumerate((wanted - before).tolist())
            if 0 < n <= np.count_nonzero(drawn == choice)
        ]
        return block * _BLOCK + (min(found) if first else max(found) + 1)

    @property
    def fingerprint(self) -> str:
        """Hex digest of all that decides which samples a step holds."""
        streams = {name: [s.kind, s.batch_size, s.ratio, list(s.datasets)] for name, s in self.streams.items()}
        decks = [[*choice, deck.sizes.tolist()] for choice, deck in self._decks.items()]
        options: dict[str, Any] = {
            name: [s.dataset_ratios, s.replacement, *([s.neighbours] if s.neighbours > 1 else [])]
            for name, s in self.streams.items()
            if s.dataset_ratios != "uniform" or s.replacement or s.neighbours > 1
        }
        content = [self.seed, streams, decks, *([options, self.note] if options or self.note else [])]
        return fingerprint(json.dumps(content))

    def _deck(self, name: str, dataset: str, eligible: Sequence[NDArray[np.int64]]) -> _Deck:
        stream, seed = self.streams[name], [self.seed, number_of("samples", name, dataset)]
        if problem := wrong_neighbours(name, stream):
            raise ValueError(problem)
        return _Draws(eligible, seed) if stream.replacement else _Deck(eligible, seed, stream.neighbours)

    def _ratios(self, name: str) -> dict[str, float]:
        """How often each dataset of a stream is drawn, relative to the others."""
        stream = self.streams[name]
        if stream.dataset_ratios == "uniform":
            return dict.fromkeys(stream.datasets, 1.0)
        if stream.dataset_ratios == "size":
            return {dataset: float(self._decks[name, dataset].size) for dataset in stream.datasets}
        if problem := wrong_ratios(name, stream):
            raise ValueError(problem)
        return dict(stream.dataset_ratios)

    def _choice(self, step: int) -> int:
        if step < 0:
            raise ValueError(f"step={step} must not be negative.")
        block, offset = divmod(step, _BLOCK)
        return int(self._drawn(block)[offset])

    def _draws(self, step: int) -> NDArray[np.int64]:
        """How often each choice was drawn before a step."""
        block, offset = divmod(step, _BLOCK)
        while len(self._before) <= block:
            self._before.append(self._before[-1] + self._counts(len(self._before) - 1, _BLOCK))
        return self._before[block] + self._counts(block, offset) if offset else self._before[block]

    def _counts(self, block: int, offset: int) -> NDArray[np.int64]:
        return np.bincount(self._drawn(block)[:offset], minlength=len(self._choices))

    def _drawn(self, block: int) -> NDArray[np.int64]:
        if self._block[0] != block:
            rng = np.random.default_rng([self.seed, number_of("streams"), block])
            self._block = block, np.searchsorted(self._borders, rng.random(_BLOCK), side="right")
        return self._block[1]


def wrong_ratios(name: str, stream: Stream) -> str | None:
    """One line on `dataset_ratios` that do not fit a stream's datasets; None if they do."""
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
    """One line on `neighbours` that cannot be; None if they can."""
    if stream.neighbours < 1:
        return f"Stream {name!r}: neighbours={stream.neighbours} must be at least 1."
    if stream.neighbours > 1 and stream.replacement:
        return f"Stream {name!r}: neighbours={stream.neighbours} needs replacement=false, which deals them in order."
    return None


class _Deck:
    """The samples of one dataset, dealt pass after pass.

    Shards come in a new order every pass; the samples of a window of neighbouring shards are shuffled together, so
    that reads stay near each other. Of each shard, rows 0 to `neighbours` - 1 stay together, and so on.
    """

    def __init__(self, eligible: Sequence[NDArray[np.int64]], seed: list[int], neighbours: int = 1) -> None:
        self.eligible = eligible
        self.seed = seed
        self.neighbours = neighbours
        self.sizes = np.array([len(rows) for rows in eligible], dtype=np.int64)
        self.size = int(self.sizes.sum())
        self._pass: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None
        self._window: tuple[tuple[int, int], NDArray[np.int64]] | None = None

    def deal(self, start: int, count: int) -> list[tuple[int, int]]:
        """(shard, row) of `count` samples from position `start` on, counted over all passes."""
        dealt: list[tuple[int, int]] = []
        while len(dealt) < count:
            number, offset = divmod(start + len(dealt), self.size)
            order, ends = self._order(number)
            window = int(np.searchsorted(ends, offset, side="right"))
            first = int(ends[window - 1]) if window else 0
            cards = self._shuffled(number, window, order)[offset - first :][: count - len(dealt)]
            dealt += [(shard, row) for shard, row in cards.tolist()]
        return dealt

    def card(self, number: int) -> tuple[int, int]:
        """(shard, row) of a sample by its number in the order of the shards."""
        ends = np.cumsum(self.sizes)
        shard = int(np.searchsorted(ends, number, side="right"))
        return shard, int(self.eligible[shard][number - int(ends[shard] - self.sizes[shard])])

    def _order(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pass's order of shards, and how many samples its windows have up to the end of each."""
        if self._pass is None or self._pass[0] != number:
            order = np.random.default_rng([*self.seed, number]).permutation(len(self.sizes))
            windows = np.add.reduceat(self.sizes[order], np.arange(0, len(order), _WINDOW))
            self._pass = number, order, np.cumsum(windows)
        return self._pass[1], self._pass[2]

    def _shuffled(self, number: int, window: int, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """(samples, 2): shard and row of the window's samples."""
        if self._window is None or self._window[0] != (number, window):
            shards = order[window * _WINDOW : (window + 1) * _WINDOW]
            rows = np.concatenate([self.eligible[s] for s in shards])
            cards = np.stack([np.repeat(shards, self.sizes[shards]), rows], axis=1)
            rng = np.random.default_rng([*self.seed, number, window])
            self._window = (number, window), self._shuffle(cards, rng)
        return self._window[1]

    def _shuffle(self, cards: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        if self.neighbours == 1:
            return rng.permutation(cards)
        _, group = np.unique(cards // [1, self.neighbours], axis=0, return_inverse=True)
        place = rng.permutation(int(group.max()) + 1)[group.ravel()]
        return cards[np.argsort(place, kind="stable")]


class _Draws(_Deck):
    """The samples of one dataset, each drawn independently of all others."""

    def deal(self, start: int, count: int) -> list[tuple[int, int]]:
        """(shard, row) of `count` samples from position `start` on."""
        blocks = range(start // _BLOCK, (start + count - 1) // _BLOCK + 1)
        drawn = np.concatenate([self._drawn_block(block) for block in blocks])
        places = drawn[start - blocks.start * _BLOCK :][:count]
        ends = np.cumsum(self.sizes)
        shards = np.searchsorted(ends, places, side="right")
        rows = places - (ends - self.sizes)[shards]
        return [(int(shard), int(self.eligible[shard][row])) for shard, row in zip(shards, rows, strict=True)]

    def _drawn_block(self, block: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([*self.seed, number_of("replacement"), block])
        return rng.integers(self.size, size=_BLOCK)
