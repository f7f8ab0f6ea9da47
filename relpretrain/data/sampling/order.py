"""In which order the samples of one data set are drawn, known from the number of rows that each shard has to give.

Positions count the places of all batches: batch d of the data set holds positions d * batch_size to (d + 1) *
batch_size - 1, and positions e * size to (e + 1) * size - 1 are epoch e, each sample once.

The places of a batch are divided among groups. The samples of an epoch lie in one line, shard after shard in an order
of the epoch's own, and each group takes a span of it, as long as its share of the epoch's positions. So a machine that
fills the places of some groups reads their spans alone. Within its span a group takes a window of neighbouring shards
after the other, and the samples of a window shuffled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from relpretrain.identity import number_of

WINDOW = 8
"""Shards whose samples are shuffled together."""

BLOCK = 4096
"""Draws made with one generator, with replacement."""

_NEAR = 500  # substitutes from the window, before other shards are tried
_FAR = 50  # substitutes from each of those

Place = tuple[int, int]
"""A shard, and the number of a row among its eligible ones."""


class Window(NamedTuple):
    """Neighbouring shards whose samples a group takes together.

    Args:
        shards: Those that hold its samples.
        samples: How many of these are still to come.
    """

    shards: list[int]
    samples: int


class EpochOrder:
    """Each sample once an epoch.

    Args:
        sizes: Eligible rows of each shard.
        seed: Seeds of the generators, before the numbers of epoch and window.
        batch_size: Places of a batch.
        neighbours: Rows 0 to `neighbours` - 1 of a shard stay together, and so on.
        groups: Parts that the places of a batch are divided into, at most `batch_size`.
    """

    def __init__(
        self, sizes: Sequence[int] | NDArray[np.int64], seed: list[int], batch_size: int, neighbours: int = 1,
        groups: int = 1,
    ) -> None:  # fmt: skip
        self.sizes = np.asarray(sizes, dtype=np.int64).reshape(-1)
        self.size = int(self.sizes.sum())
        self.seed = seed
        self.batch_size = batch_size
        self.neighbours = neighbours
        self.bounds = [group * batch_size // groups for group in range(groups + 1)]
        self._ends = np.cumsum(self.sizes)
        self._lines: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}  # by epoch
        self._shuffled: dict[int, tuple[tuple[int, int], NDArray[np.int64]]] = {}  # by group: epoch, window, samples

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.bounds) - 1

    def places_of(self, group: int) -> int:
        """How many places of a batch a group fills."""
        return self.bounds[group + 1] - self.bounds[group]

    def take(self, start: int, count: int) -> list[Place]:
        """The samples at `count` positions from `start` on."""
        taken: list[Place] = []
        while len(taken) < count:
            position = start + len(taken)
            group, epoch = self._group(position), position // self.size
            left = self.bounds[group + 1] - position % self.batch_size  # places of the group in this batch
            run = min(count - len(taken), left, (epoch + 1) * self.size - position)
            place = self._place(position)
            first, last, window = self._piece(epoch, group, place)
            samples = self._samples(epoch, group, first, last, window)[place - first :][:run]
            taken += [(shard, row) for shard, row in samples.tolist()]
        return taken

    def windows(self, batch: int, group: int) -> Iterator[Window]:
        """The windows that a group takes from a batch on, without end."""
        position = batch * self.batch_size + self.bounds[group]
        epoch, place = position // self.size, self._place(position)
        while True:
            start, end = self._span(epoch, group)
            place = max(place, start)
            while place < end:
                first, last, window = self._piece(epoch, group, place)
                yield Window(self._shards(epoch, first, last, window), last - place)
                place = last
            epoch, place = epoch + 1, 0

    def substitutes(self, position: int, rng: np.random.Generator) -> Iterator[Place]:
        """Endless independent draws for a position: from its window's shards, and in the end from others.

        The others come for a window that has nothing good: a shard that was drawn is tried many times before the next.
        """
        group, epoch = self._group(position), position // self.size
        shards = np.array(self._shards(epoch, *self._piece(epoch, group, self._place(position))))
        ends = np.cumsum(self.sizes[shards])
        for _ in range(_NEAR):
            number = int(rng.integers(ends[-1]))
            which = int(np.searchsorted(ends, number, side="right"))
            yield int(shards[which]), number - int(ends[which] - self.sizes[shards[which]])
        while True:
            shard, _ = self.locate(int(rng.integers(self.size)))
            for _ in range(_FAR):
                yield shard, int(rng.integers(self.sizes[shard]))

    def locate(self, number: int) -> Place:
        """A sample by its number in the unshuffled order of shards and rows."""
        shard = int(np.searchsorted(self._ends, number, side="right"))
        return shard, number - int(self._ends[shard] - self.sizes[shard])

    def _group(self, position: int) -> int:
        return int(np.searchsorted(self.bounds, position % self.batch_size, side="right")) - 1

    def _before(self, position: int, place: int) -> int:
        """How many positions before `position` are in the first `place` places of their batches."""
        batch, rest = divmod(position, self.batch_size)
        return batch * place + min(rest, place)

    def _span(self, epoch: int, group: int) -> tuple[int, int]:
        """Where a group's samples begin and end in the line of an epoch."""
        first, last = epoch * self.size, (epoch + 1) * self.size
        start, end = (self._before(last, bound) - self._before(first, bound) for bound in self.bounds[group:][:2])
        return start, end

    def _place(self, position: int) -> int:
        """Where the sample of a position would lie in the line of its epoch, if its window were not shuffled."""
        epoch, (start, end) = position // self.size, self.bounds[self._group(position) :][:2]
        taken = [self._before(p, end) - self._before(p, start) for p in (epoch * self.size, position)]
        return self._span(epoch, self._group(position))[0] + taken[1] - taken[0]

    def _line(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The epoch's order of shards, and where each ends in the line."""
        if epoch not in self._lines:
            order = np.random.default_rng([*self.seed, epoch]).permutation(len(self.sizes))
            self._lines = {e: line for e, line in self._lines.items() if e == epoch - 1}
            self._lines[epoch] = order, np.cumsum(self.sizes[order])
        return self._lines[epoch]

    def _piece(self, epoch: int, group: int, place: int) -> tuple[int, int, int]:
        """Beginning, end and number of the window at a place of the line, clipped to the group's span."""
        _, ends = self._line(epoch)
        window = int(np.searchsorted(ends, place, side="right")) // WINDOW
        start, end = self._span(epoch, group)
        begins = int(ends[window * WINDOW - 1]) if window else 0
        closes = int(ends[min((window + 1) * WINDOW, len(ends)) - 1])
        return max(start, begins), min(end, closes), window

    def _shards(self, epoch: int, first: int, last: int, window: int) -> list[int]:
        """The shards of a window that hold samples between two places of the line."""
        order, ends = self._line(epoch)
        inside = slice(window * WINDOW, (window + 1) * WINDOW)
        shards, ends = order[inside], ends[inside]
        held = (self.sizes[shards] > 0) & (ends > first) & (ends - self.sizes[shards] < last)
        return [int(shard) for shard in shards[held]]

    def _samples(self, epoch: int, group: int, first: int, last: int, window: int) -> NDArray[np.int64]:
        """(samples, 2): shard and row of the samples between two places in a window, shuffled."""
        if group not in self._shuffled or self._shuffled[group][0] != (epoch, window):
            order, ends = self._line(epoch)
            shards = order[window * WINDOW : (window + 1) * WINDOW]
            sizes = self.sizes[shards]
            rows = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            begins = int(ends[window * WINDOW]) - int(sizes[0])
            samples = np.stack([np.repeat(shards, sizes), rows], axis=1)[first - begins : last - begins]
            rng = np.random.default_rng([*self.seed, epoch, window, *([group] if self.groups > 1 else [])])
            self._shuffled[group] = (epoch, window), self._shuffle(samples, rng)
        return self._shuffled[group][1]

    def _shuffle(self, samples: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        if self.neighbours == 1:
            return rng.permutation(samples)
        _, together = np.unique(samples // [1, self.neighbours], axis=0, return_inverse=True)
        position = rng.permutation(int(together.max()) + 1)[together.ravel()]
        return samples[np.argsort(position, kind="stable")]


class ReplacementOrder(EpochOrder):
    """Samples drawn with replacement: each independently of all others, and so from all shards at any time."""

    def take(self, start: int, count: int) -> list[Place]:
        """The samples at `count` positions from `start` on."""
        blocks = range(start // BLOCK, (start + count - 1) // BLOCK + 1)
        drawn = np.concatenate([self._drawn(block) for block in blocks])
        return [self.locate(number) for number in drawn[start - blocks.start * BLOCK :][:count].tolist()]

    def windows(self, batch: int, group: int) -> Iterator[Window]:
        """All shards, without end; those that are drawn next come first."""
        position = batch * self.batch_size
        soon = dict.fromkeys(shard for shard, _ in self.take(position, BLOCK - position % BLOCK))
        later = dict.fromkeys(np.flatnonzero(self.sizes).tolist())
        while True:
            yield Window(list(soon | later), 1 << 62)

    def substitutes(self, position: int, rng: np.random.Generator) -> Iterator[Place]:
        """Endless independent draws."""
        while True:
            yield self.locate(int(rng.integers(self.size)))

    def _drawn(self, block: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([*self.seed, number_of("replacement"), block])
        return rng.integers(self.size, size=BLOCK)
