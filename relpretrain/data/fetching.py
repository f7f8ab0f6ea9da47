"""Fetches remote shards before they are read: which ones a machine needs, and the process that brings them."""

from __future__ import annotations

import logging
import math
import multiprocessing
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import get_worker_info

from relpretrain.data.loading import leave_with_parent
from relpretrain.data.sampling.order import WINDOW, EpochOrder, ReplacementOrder
from relpretrain.data.sampling.schedule import BatchSchedule
from relpretrain.data.shards.cache import GB, Cache, room_for
from relpretrain.data.shards.manifest import ShardEntry
from relpretrain.data.shards.remote import is_remote

AT_ONCE = 4
"""Shards that are fetched at the same time ahead of their need."""

_LOOK_SECONDS = 0.1  # between two looks at where training stands
_REST_SECONDS = 30.0  # before a shard is tried again that could not be fetched

Shards = Mapping[str, Mapping[str, Sequence[ShardEntry]]]
"""What shards hold, by stream and dataset."""

_logger = logging.getLogger(__name__)


class Demand:
    """Which remote shards a machine needs, in the order in which it needs them; `any` says whether there are any.

    Args:
        schedule: The samples of training's steps.
        shards: What the shards hold.
        groups: The groups whose places this machine fills.
        batches: Most batches of this machine that are under way at a time.
        cache: The copies; what is wanted never takes more than its limit.
        always: Shards that are needed again and again, as those of validation.
    """

    def __init__(
        self,
        schedule: BatchSchedule,
        shards: Shards,
        groups: Sequence[int],
        batches: int,
        cache: Cache,
        always: Sequence[ShardEntry] = (),
    ) -> None:
        self.schedule = schedule
        self.shards = shards
        self.groups = groups
        self.batches = batches
        self.cache = cache
        self.always = [entry for entry in always if is_remote(entry.shard)]
        self.any = bool(self.always) or any(
            is_remote(entry.shard) for name, dataset in schedule.orders for entry in shards[name][dataset]
        )
        self._wanted: tuple[int, list[ShardEntry]] | None = None  # by position
        self._position = torch.zeros((), dtype=torch.long)  # shared with all processes of this one
        self._position.share_memory_()  # type: ignore[no-untyped-call]

    def at(self, step: int) -> None:
        """Note the step that comes next in training."""
        self._position.fill_(step)

    def wanted(self) -> list[ShardEntry]:
        """The remote shards of the windows of now, those that are always needed, and those of the windows to come."""
        position = int(self._position)
        if self._wanted is None or self._wanted[0] != position:
            self._wanted = position, self._wanted_at(position)
        return self._wanted[1]

    def _wanted_at(self, step: int) -> list[ShardEntry]:
        needs = self.schedule.needs(step, self.groups, self.batches, windows=1)
        entries = [self.shards[need.stream][need.dataset][need.shard] for need in needs]
        now = sum(need.open for need in needs)
        wanted = {e.shard: e for e in [*entries[:now], *self.always, *entries[now:]] if is_remote(e.shard)}
        if self.cache.limit is None:
            return list(wanted.values())
        sums = np.cumsum([room_for(entry) for entry in wanted.values()])
        return list(wanted.values())[: int(np.searchsorted(sums, self.cache.limit, side="right"))]

    def keep(self) -> set[Path]:
        """Where the copies lie, or will lie, that this machine needs now and soon."""
        return {self.cache.path(entry) for entry in self.wanted()}

    def least(self) -> int:
        """Bytes that the copies of all open windows and the next ones may take together, whatever the epoch."""
        total = sum(room_for(entry) for entry in self.always)
        distinct = {entry.shard: entry for entry in self.always}
        for (name, dataset), order in self.schedule.orders.items():
            entries = [entry for entry in self.shards[name][dataset] if is_remote(entry.shard)]
            distinct |= {entry.shard: entry for entry in entries}
            windows = sum(_windows(order, group, self.batches) for group in self.groups)
            largest = sorted(map(room_for, entries), reverse=True)
            total += sum(largest if isinstance(order, ReplacementOrder) else largest[:WINDOW]) * windows
        return min(total, sum(map(room_for, distinct.values())))

    def problems(self) -> list[str]:
        """Report a limit of the cache that cannot hold what is needed at a time."""
        limit, least = self.cache.limit, self.least() if self.cache.limit is not None else 0
        if limit is None or least <= limit:
            return []
        enough = math.ceil(least / GB * 1e6) / 1e6
        return [
            f"cache_gb={limit / GB:g} cannot hold the shards that this machine reads at a time: the windows of "
            f"{WINDOW} shards that {len(self.schedule.orders)} dataset(s) draw from, and the next ones, take up to "
            f"{enough:g} GB. Set it to {enough:g} or more, or leave it out."
        ]


class Counters:
    """Sums that some processes add to, each in a row of its own, and all can read.

    Args:
        workers: Number of worker processes beside the one that makes them.
    """

    NAMES = ("hits", "waits", "waited_seconds", "fetched_bytes", "busy_seconds")

    def __init__(self, workers: int = 0) -> None:
        self._sums = torch.zeros(workers + 1, len(self.NAMES), dtype=torch.float64)
        self._sums.share_memory_()  # type: ignore[no-untyped-call]

    def add(self, name: str, number: float) -> None:
        """Add to a sum."""
        worker = get_worker_info()
        self._sums[0 if worker is None else worker.id + 1, self.NAMES.index(name)] += number

    def sums(self) -> dict[str, float]:
        """All sums by name."""
        return dict(zip(self.NAMES, self._sums.sum(0).tolist(), strict=True))


def cache_counters(cache: Cache, counters: Sequence[Counters]) -> dict[str, float]:
    """What the cache did, by the names of the logs.

    Args:
        cache: The copies.
        counters: Of all who read and fetch.
    """
    sums = {name: sum(each.sums()[name] for each in counters) for name in Counters.NAMES}
    found = {
        "gb": cache.used() / GB,
        "fetched_gb": sums["fetched_bytes"] / GB,
        "waited_seconds": sums["waited_seconds"],
    }
    if sums["busy_seconds"]:
        found["gb_per_second"] = sums["fetched_bytes"] / GB / sums["busy_seconds"]
    if opened := sums["hits"] + sums["waits"]:
        found["hits"] = sums["hits"] / opened
    return {f"data/cache/{name}": value for name, value in found.items()}


class Fetcher:
    """A process that fetches what a machine needs, a window ahead of training; it ends with the one that started it.

    Args:
        demand: What is needed.
        counters: Where it notes what it did.
    """

    def __init__(self, demand: Demand, counters: Counters) -> None:
        self.demand = demand
        self.counters = counters
        self._process: BaseProcess | None = None

    def start(self) -> None:
        """Begin, unless it is at work already."""
        if self._process is not None and self._process.is_alive():
            return
        # As the loader's workers are made: a script needs no `if __name__ == "__main__"` for it.
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
        self._process = context.Process(target=_work, args=(self.demand, self.counters), daemon=True)  # type: ignore[attr-defined]
        self._process.start()

    def stop(self) -> None:
        """End it, and delete what it was fetching."""
        if self._process is not None:
            self._process.terminate()
            self._process.join()
            self._process = None
            self.demand.cache.clean()


def _work(demand: Demand, counters: Counters) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not those of the trainer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that started it decides
    leave_with_parent(0)
    demand.cache.clean()
    fetch(demand, counters)


def fetch(demand: Demand, counters: Counters) -> None:
    """Fetch what is needed, for ever."""
    under_way: dict[Path, Future[int]] = {}
    resting: dict[Path, float] = {}  # until when
    here: set[Path] = set()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while True:
            _collect(under_way, resting, counters)
            wanted = {demand.cache.path(entry): entry for entry in demand.wanted()}
            here = {path for path in wanted if path in here or path.exists()}  # what is wanted is not evicted
            for path, entry in wanted.items():
                if len(under_way) >= AT_ONCE:
                    break
                if path in under_way or path in here or resting.get(path, 0.0) > time.monotonic():
                    continue
                under_way[path] = pool.submit(demand.cache.fetch, entry, demand.keep, wait=False)
            time.sleep(_LOOK_SECONDS)
            counters.add("busy_seconds", _LOOK_SECONDS if under_way else 0.0)


def _collect(under_way: dict[Path, Future[int]], resting: dict[Path, float], counters: Counters) -> None:
    """Take the results of what is done; a failure is no error here, but for the one who needs the shard."""
    for path in [path for path, future in under_way.items() if future.done()]:
        future = under_way.pop(path)
        error = future.exception()
        if error is None:
            counters.add("fetched_bytes", future.result())
            continue
        _logger.warning("%s", error)
        resting[path] = time.monotonic() + _REST_SECONDS


def _windows(order: EpochOrder, group: int, batches: int) -> int:
    """How many windows of a group may be in use, at the end of one window and an epoch too, with the next one."""
    if isinstance(order, ReplacementOrder):
        return 1
    whole = int(np.sort(order.sizes[order.sizes > 0])[:WINDOW].sum())
    return 2 + -(-batches * order.places_of(group) // whole)
