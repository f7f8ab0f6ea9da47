"""Jobs in processes side by side, each begun when those it waits for are done."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

from relpretrain.data.loading import leave_with_parent

_AT_ONCE = 1.0  # seconds; what is there already tells nothing of the time that others take


@dataclass(frozen=True)
class Job:
    """Something to do in a process of its own."""

    name: str
    call: Callable[..., Any]  # can be pickled
    arguments: tuple[Any, ...] = ()
    after: tuple[str, ...] = ()  # names of the jobs that must be done before
    weight: float = 1.0  # how long it takes, relative to others


def carry_out(jobs: Sequence[Job], processes: int, say: Callable[[str], None]) -> dict[str, str]:
    """Do jobs in their order, as far as what they wait for allows.

    Args:
        jobs: The jobs; what is waited for is among them.
        processes: How many at a time; each has its share of the cores.
        say: Told of every job that ends.

    Returns:
        What went wrong, by the name of the job; jobs that waited for such a one are not begun, and are among them.
    """
    order = TopologicalSorter({job.name: job.after for job in jobs})
    order.prepare()
    waiting, ready = {job.name: job for job in jobs}, set(order.get_ready())
    running: dict[Future[float], Job] = {}
    failed: dict[str, str] = {}
    ended, total, start = 0.0, sum(job.weight for job in jobs), time.monotonic()
    threads = max(1, (os.cpu_count() or 1) // processes)
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin, (threads,)) as pool:
        while ready or running:
            for name in [name for name in waiting if name in ready][: processes - len(running)]:
                job = waiting.pop(name)
                ready.remove(name)
                running[pool.submit(_timed, job.call, job.arguments)] = job
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                if error := future.exception():
                    failed[job.name] = f"{type(error).__name__}: {error}"
                else:
                    order.done(job.name)
                    ready.update(order.get_ready())
                spent = time.monotonic() - start
                if error is None and future.result() < _AT_ONCE:
                    total -= job.weight
                else:
                    ended += job.weight
                left = spent / ended * (total - ended) if ended else 0.0
                end = f"FAILED ({failed[job.name]})" if error else "done"
                number = len(jobs) - len(waiting) - len(running)
                say(f"{number}/{len(jobs)}  {_clock(spent)}, about {_clock(left)} left  {job.name} {end}")
    for name, job in waiting.items():
        lost = next(other for other in job.after if other in failed or other in waiting)
        failed[name] = f"waited for {lost}, which failed"
    return failed


def _begin(threads: int) -> None:
    """A process that leaves cores to its neighbours, and ends when the command is killed."""
    leave_with_parent(0)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _timed(call: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    start = time.monotonic()
    call(*arguments)
    return time.monotonic() - start


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
