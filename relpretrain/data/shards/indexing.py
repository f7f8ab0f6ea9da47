"""Work on many shards in parallel processes, such as making their indexes."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from typing import TypeVar

from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.progress import track

R = TypeVar("R")


def index_shards(shards: Iterable[str], workers: int = 0) -> dict[str, ShardIndex | Exception]:
    """Index shards, copying remote ones first; what is stored already is only read.

    Args:
        shards: Paths and addresses, as `resolve_shards` gives them.
        workers: Processes that copy and read shards; 0 or 1 does it in this one.

    Returns:
        The index of each shard, or the OSError or ValueError that says why there is none.
    """
    found: dict[str, ShardIndex | Exception] = {}
    missing = []
    for shard in dict.fromkeys(shards):
        try:
            stored = ShardIndex.stored(shard)
        except OSError as error:
            found[shard] = error
            continue
        if stored is None:
            missing.append(shard)
        else:
            found[shard] = stored
    found |= for_each(ShardIndex.of, missing, workers)
    return found


def for_each(
    work: Callable[[str], R], shards: Sequence[str], workers: int = 0, what: str = "shards indexed"
) -> Iterator[tuple[str, R | Exception]]:
    """Do something with each shard in processes of their own, with progress on stderr.

    Args:
        work: What is done; can be pickled.
        shards: Paths and addresses.
        workers: Processes; 0 or 1 does it in this one.
        what: What is counted there.

    Yields:
        A shard, as soon as it is done, and what `work` returned, or the OSError or ValueError that it raised.
    """
    yield from track(_done(partial(_try, work), shards, workers), len(shards), what)


def _done(
    work: Callable[[str], R | Exception], shards: Sequence[str], workers: int
) -> Iterator[tuple[str, R | Exception]]:
    if workers < 2 or len(shards) < 2:
        yield from ((shard, work(shard)) for shard in shards)
        return
    # As the loader's workers are made: a script needs no `if __name__ == "__main__"` for it.
    context = multiprocessing.get_context("fork") if sys.platform == "linux" else None
    with ProcessPoolExecutor(min(workers, len(shards)), mp_context=context) as pool:
        waiting = {pool.submit(work, shard): shard for shard in shards}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def _try(work: Callable[[str], R], shard: str) -> R | Exception:
    try:
        return work(shard)
    except (OSError, ValueError) as error:
        return error
