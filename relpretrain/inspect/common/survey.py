"""Reading all samples of some shards once, in several processes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from relpretrain.data.build.jobs import ordered_map
from relpretrain.data.shards.indexing import index_shards
from relpretrain.data.shards.remote import copies_folder
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.errors import ConfigError
from relpretrain.progress import track

Found = TypeVar("Found")
Look = Callable[[ShardIndex, Sequence[int]], Found]
"""Looks at some rows of a shard. Must be picklable, and so must what it returns."""

SHARDS = "shards"
"""Name of the dataset where a command is given shards without one."""

CHUNK = 16
"""Samples looked at together; `ordered_map` hands out as many of these at a time."""


def shard_name(index: ShardIndex) -> str:
    """A shard's name with that of its folder, as shards of several folders share names; a copy's name alone."""
    folder = index.path.parent
    return index.name if folder == copies_folder().absolute() else f"{folder.name}/{index.name}"


def sample_name(index: ShardIndex, row: int) -> str:
    """What a sample is called on terminals and pages: its shard and its key."""
    return f"{shard_name(index)}/{index.keys[row]}"


def shards_named(patterns: Sequence[str]) -> str:
    """What shards that no recipe calls a data set are called: as the user wrote them; of many, the first three."""
    more = len(patterns) - 3
    return ", ".join(patterns[:3]) + (f" and {more:,} more" if more > 0 else "")


def find_indexes(shards: Sequence[str], workers: int = 1) -> list[ShardIndex]:
    """Index shards, in their order.

    Raises:
        ConfigError: If some cannot be read or are no tars; names all of them.
    """
    found = index_shards(shards, workers)
    problems = [f"Shard {shard}: {index}" for shard, index in found.items() if isinstance(index, Exception)]
    if problems:
        raise ConfigError(problems)
    return [index for shard in shards if isinstance(index := found[shard], ShardIndex)]


def survey(
    shards: Sequence[str], indexes: Sequence[ShardIndex], look: Look[Found], workers: int = 1
) -> Iterator[Found]:
    """Apply a function to every sample once, in several processes, with progress on stderr.

    Args:
        shards: Paths or addresses.
        indexes: Their indexes.
        look: What is done with the rows of a shard, some at a time.
        workers: Processes; 1 reads in this one.

    Yields:
        What `look` returned, in the order of the shards and their samples, whatever the number of processes.
    """
    chunks = [
        (shard, range(start, min(start + CHUNK, len(index))))
        for shard, index in zip(shards, indexes, strict=True)
        for start in range(0, len(index), CHUNK)
    ]
    sizes = iter([len(rows) for _, rows in chunks])
    found = ordered_map(functools.partial(_look_at, look), chunks, workers)
    yield from track(found, sum(map(len, indexes)), "samples", lambda _: next(sizes))


def _look_at(look: Look[Found], chunk: tuple[str, Sequence[int]]) -> Found:
    shard, rows = chunk
    return look(_index(shard), rows)


@functools.lru_cache(maxsize=8)
def _index(shard: str) -> ShardIndex:
    return ShardIndex.of(shard)
