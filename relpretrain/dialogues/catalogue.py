"""What samples have to be spoken of, in a few numbers each, so that pairs can be found among millions."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from relpretrain.data.build.jobs import ordered_map
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.dialogues.scene import Frame, read_scene

_CHUNK = 64  # samples that are read together


class Found(NamedTuple):
    """What one sample has.

    Args:
        row: Its row in its shard.
        keys: Names of its things, and of the pairs that a relation joins.
        boxed: Whether one of its things has a box and a name of its own.
        related: Whether it has a relation.
        frame: Where it stands in a video.
    """

    row: int
    keys: list[str]
    boxed: bool
    related: bool
    frame: Frame | None


class Place(NamedTuple):
    """Where a sample is: the number of its shard, the shard, and its row there."""

    number: int
    shard: str
    row: int


@dataclass
class Catalogue:
    """Samples by what they have.

    Args:
        shards: The shards; samples are known by a shard's number and a row.
    """

    shards: Sequence[str]
    places: array[int] = field(default_factory=lambda: array("q"))  # shard, row, of each
    keys: array[int] = field(default_factory=lambda: array("q"))  # of all samples, in a row
    ends: array[int] = field(default_factory=lambda: array("q", [0]))  # of each sample's keys in that row
    boxed: list[int] = field(default_factory=list)
    related: list[int] = field(default_factory=list)
    videos: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ends) - 1

    def add(self, shard: int, found: Found) -> None:
        """Keep a sample."""
        number = len(self)
        self.places.extend((shard, found.row))
        self.keys.extend(self._numbers.setdefault(key, len(self._numbers)) for key in found.keys)
        self.ends.append(len(self.keys))
        if found.boxed:
            self.boxed.append(number)
        if found.related:
            self.related.append(number)
        if found.frame is not None:
            self.videos.setdefault(found.frame.video, []).append((found.frame.number, number))

    def place(self, number: int) -> Place:
        """Where a sample is."""
        shard, row = self.places[2 * number], self.places[2 * number + 1]
        return Place(shard, self.shards[shard], row)

    @cached_property
    def films(self) -> list[str]:
        """Videos with frames of different numbers."""
        return sorted(video for video, frames in self.videos.items() if len({place for place, _ in frames}) > 1)

    @cached_property
    def named(self) -> list[int]:
        """Samples that have something to be shared."""
        return np.flatnonzero(np.diff(np.asarray(self.ends))).tolist()

    @cached_property
    def _members(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Samples in the order of the keys that they have, and where each key begins."""
        keys = np.asarray(self.keys, np.int64)
        owners = np.repeat(np.arange(len(self)), np.diff(np.asarray(self.ends)))
        order = np.argsort(keys, kind="stable")
        return owners[order], np.searchsorted(keys[order], np.arange(len(self._numbers) + 1))

    def partner(self, number: int, rng: np.random.Generator) -> int | None:
        """Another sample that shares something with one; None if the key that is drawn is its own."""
        start, end = self.ends[number], self.ends[number + 1]
        key = self.keys[int(rng.integers(start, end))]
        owners, begins = self._members
        theirs = owners[begins[key] : begins[key + 1]]
        other = int(theirs[int(rng.integers(len(theirs)))])
        return None if other == number else other


def read_catalogue(
    shards: Sequence[str], frames: re.Pattern[str] | None, exhaustive: tuple[str, ...], workers: int
) -> Catalogue:
    """Read all samples of some shards once.

    Raises:
        ValueError: If a shard is no tar.
    """
    catalogue = Catalogue(shards)
    look = partial(_look, frames, exhaustive)
    for shard, found in ordered_map(look, _chunks(shards), workers):
        for sample in found:
            catalogue.add(shard, sample)
    return catalogue


def _chunks(shards: Sequence[str]) -> Iterable[tuple[int, str, range]]:
    for number, shard in enumerate(shards):
        length = len(ShardIndex.of(shard))
        for start in range(0, length, _CHUNK):
            yield number, shard, range(start, min(start + _CHUNK, length))


def _look(
    frames: re.Pattern[str] | None, exhaustive: tuple[str, ...], chunk: tuple[int, str, range]
) -> tuple[int, list[Found]]:
    number, shard, rows = chunk
    index = ShardIndex.of(shard)
    found = []
    for row in rows:
        scene = read_scene(index, row, frames, exhaustive)
        if scene is not None:
            pairs = {f"{statement.subject}\0{statement.object}" for statement in scene.statements}
            boxed = any(
                entity.box is not None and scene.only(entity.label) is not None for entity in scene.graph.entities
            )
            found.append(Found(row, [*scene.labels, *sorted(pairs)], boxed, bool(pairs), scene.frame))
    return number, found
