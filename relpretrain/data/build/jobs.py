"""Work spread over processes, with results in the order of the input."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing import connection, get_context, parent_process
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 16
"""Items that go to a process at a time."""
SMALL = 4
"""Chunks for which no processes are started."""


def ordered_map(work: Callable[[T], R], items: Iterable[T], workers: int) -> Generator[R, None, None]:
    """Apply a function to items in processes of their own.

    No more than a few items for each process are under way, so the input may be longer than memory. A short input is
    done here, without processes.

    Args:
        work: A function that can be pickled; sent to each process once.
        items: Its arguments.
        workers: Number of processes; 1 works in this one and reads nothing ahead.

    Raises:
        OSError: If a process dies, for instance for want of memory.
    """
    if workers == 1:
        yield from map(work, items)
        return
    rest = iter(items)
    head = list(islice(rest, SMALL * CHUNK + 1))
    if len(head) <= SMALL * CHUNK:
        yield from map(work, head)
        return
    rest = chain(head, rest)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (work,))
    waiting: deque[Future[list[R]]] = deque()
    try:
        for chunk in iter(lambda: list(islice(rest, CHUNK)), []):
            waiting.append(pool.submit(_do, chunk))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool as error:
        raise OSError("a worker process died, perhaps for want of memory: try fewer --workers") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_work: Callable[[Any], Any]


def _begin(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the parent ends its own
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)  # the parent was killed


def _do(items: list[Any]) -> list[Any]:
    return [_work(item) for item in items]
