"""The indexes of many shards, made in parallel processes."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed

from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.progress import track


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
    found |= track(_made(missing, workers), len(missing), "shards indexed")
    return found


def _made(shards: list[str], workers: int) -> Iterator[tuple[str, ShardIndex | Exception]]:
    if workers < 2 or len(shards) < 2:
        yield from ((shard, _index(shard)) for shard in shards)
        return
    # As the loader's workers are made: a script needs no `if __name__ == "__main__"` for it.
    context = multiprocessing.get_context("fork") if sys.platform == "linux" else None
    with ProcessPoolExecutor(min(workers, len(shards)), mp_context=context) as pool:
        waiting = {pool.submit(_index, shard): shard for shard in shards}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def _index(shard: str) -> ShardIndex | Exception:
    try:
        return ShardIndex.of(shard)
    except (OSError, ValueError) as error:
        return error
