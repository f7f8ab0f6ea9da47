"""Reading all samples of some shards once, in several processes."""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

import torch

from relpretrain.data.index import ShardIndex
from relpretrain.data.indexing import index_shards
from relpretrain.errors import ConfigError

Found = TypeVar("Found")
Look = Callable[[ShardIndex, Sequence[int]], Found]
"""Looks at some rows of a shard. Must be picklable, and so must what it returns."""

SHARDS = "shards"
"""Name of the dataset where a command is given shards without one."""

_CHUNK = 64  # samples that a process takes at a time
_FEW = 4  # chunks for which processes are not worth their start
_SECONDS = 2.0  # between two lines of progress
_look: Look[Any]


def default_workers() -> int:
    """As many processes as there are processors; 0 (this process alone) where there is one."""
    count = os.cpu_count() or 1
    return count if count > 1 else 0


def shard_name(index: ShardIndex) -> str:
    """A shard's name with that of its folder: shards of several folders often share names."""
    return f"{index.path.parent.name}/{index.name}"


def find_indexes(shards: Sequence[str], workers: int = 0) -> list[ShardIndex]:
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
    shards: Sequence[str], indexes: Sequence[ShardIndex], look: Look[Found], workers: int = 0
) -> Iterator[Found]:
    """Look at every sample once, with progress on stderr.

    Args:
        shards: Paths or addresses.
        indexes: Their indexes.
        look: What is done with the rows of a shard, some at a time.
        workers: Processes; 0 reads in this one.

    Yields:
        What `look` returned, in the order of the shards and their samples, whatever the number of processes.
    """
    chunks = [
        (shard, range(start, min(start + _CHUNK, len(index))))
        for shard, index in zip(shards, indexes, strict=True)
        for start in range(0, len(index), _CHUNK)
    ]
    total = sum(map(len, indexes))
    sizes = iter([len(rows) for _, rows in chunks])
    if not workers or len(chunks) <= _FEW:
        known = dict(zip(shards, indexes, strict=True))
        looked = (look(known[shard], rows) for shard, rows in chunks)
        yield from progress(looked, total, "samples", lambda _: next(sizes))
        return
    # As the loader's workers are made: a script needs no `if __name__ == "__main__"` for it.
    context = multiprocessing.get_context("fork") if sys.platform == "linux" else None
    with ProcessPoolExecutor(workers, context, _begin, (look,)) as pool:
        yield from progress(pool.map(_look_at, chunks), total, "samples", lambda _: next(sizes))


def progress(
    items: Iterable[Found], total: int, what: str, size: Callable[[Found], int], seconds: float = _SECONDS
) -> Iterator[Found]:
    """Pass items on, and tell on stderr now and then how many there were, how fast, and how long the rest will take.

    Args:
        items: What to pass on.
        total: Sum of all sizes.
        what: What is counted.
        size: How many an item stands for.
        seconds: Between two lines.
    """
    start = last = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += size(item)
        now = time.monotonic()
        if now - last >= seconds:
            last = now
            rate = done / (now - start)
            left = time.strftime("%H:%M:%S", time.gmtime((total - done) / rate))
            print(f"{done:,} of {total:,} {what}, {rate:,.0f} per second, {left} left", file=sys.stderr, flush=True)


def _begin(look: Look[Any]) -> None:
    global _look
    _look = look
    torch.set_num_threads(1)  # the processes share the processors


def _look_at(chunk: tuple[str, Sequence[int]]) -> Any:
    shard, rows = chunk
    return _look(_index(shard), rows)


@functools.lru_cache(maxsize=8)
def _index(shard: str) -> ShardIndex:
    return ShardIndex.of(shard)
