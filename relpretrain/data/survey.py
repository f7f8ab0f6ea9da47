"""Reading all samples of some shards once, in several processes."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from typing import Any, TypeVar

import torch

from relpretrain.data.index import ShardIndex

Found = TypeVar("Found")
Look = Callable[[ShardIndex, Sequence[int]], Found]
"""Looks at some rows of a shard. Must be picklable, and so must what it returns."""

_CHUNK = 64  # samples that a process takes at a time
_SECONDS = 2.0  # between two lines of progress
_look: Look[Any]


def default_workers() -> int:
    """As many processes as there are processors; 0 (this process alone) where there is one."""
    count = os.cpu_count() or 1
    return count if count > 1 else 0


def find_indexes(shards: Sequence[str], workers: int = 0) -> list[ShardIndex]:
    """Index shards, with progress on stderr.

    Raises:
        ValueError: If one is no tar.
        OSError: If one cannot be read.
    """
    with _pool(workers, _index_only) as pool:
        found = pool.map(ShardIndex.of, shards) if pool else map(ShardIndex.of, shards)
        return list(progress(found, len(shards), "shards indexed", lambda _: 1))


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
    if not workers:
        known = dict(zip(shards, indexes, strict=True))
        looked = (look(known[shard], rows) for shard, rows in chunks)
        yield from progress(looked, total, "samples", lambda _: next(sizes))
        return
    with _pool(workers, look) as pool:
        assert pool is not None
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


def _pool(workers: int, look: Look[Any]) -> Any:
    return ProcessPoolExecutor(workers, initializer=_begin, initargs=(look,)) if workers else nullcontext()


def _begin(look: Look[Any]) -> None:
    global _look
    _look = look
    torch.set_num_threads(1)  # the processes share the processors


def _index_only(index: ShardIndex, rows: Sequence[int]) -> None:
    """Nothing to look at: only the index is wanted."""


def _look_at(chunk: tuple[str, Sequence[int]]) -> Any:
    shard, rows = chunk
    return _look(_index(shard), rows)


@functools.lru_cache(maxsize=8)
def _index(shard: str) -> ShardIndex:
    return ShardIndex.of(shard)
