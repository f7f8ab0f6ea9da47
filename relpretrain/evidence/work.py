"""Jobs in processes side by side, each begun when those it waits for are done."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from relpretrain.data.loading import leave_with_parent

_AT_ONCE = 1.0  # seconds; what is there already tells nothing of the time that others take


@dataclass(frozen=True)
class Job:
    """Something to do in a process of its own.

    Args:
        name: What the progress calls it, and others wait for.
        call: A function that can be pickled.
        arguments: Its arguments.
        after: Names of the jobs that must be done before.
        weight: How long it takes, relative to others, for the time that is left.
    """

    name: str
    call: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    after: tuple[str, ...] = ()
    weight: float = 1.0


def carry_out(jobs: Sequence[Job], processes: int, say: Callable[[str], None]) -> dict[str, str]:
    """Do jobs in their order, as far as what they wait for allows.

    Args:
        jobs: The jobs; names are unique, and what is waited for is among them.
        processes: How many at a time. Each has its share of the cores.
        say: Told of every job that ends.

    Returns:
        What went wrong, by the name of the job; jobs that waited for such a one are not begun, and are among them.
    """
    waiting = {job.name: job for job in jobs}
    running: dict[Future[Any], Job] = {}
    begun: dict[str, float] = {}
    done: set[str] = set()
    failed: dict[str, str] = {}
    ended = 0.0
    total = sum(job.weight for job in jobs)
    start = time.monotonic()
    threads = max(1, (os.cpu_count() or 1) // processes)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _begin, (threads,)) as pool:
        while waiting or running:
            for name, job in list(waiting.items()):
                if lost := [other for other in job.after if other in failed]:
                    failed[name] = f"waited for {lost[0]}, which failed"
                elif len(running) == processes or not done.issuperset(job.after):
                    continue
                else:
                    running[pool.submit(job.call, *job.arguments)] = job
                    begun[name] = time.monotonic()
                del waiting[name]
            for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                job = running.pop(future)
                error = future.exception()
                if error is None:
                    done.add(job.name)
                else:
                    failed[job.name] = f"{type(error).__name__}: {error}"
                spent = time.monotonic() - start
                if time.monotonic() - begun[job.name] < _AT_ONCE:
                    total -= job.weight
                else:
                    ended += job.weight
                left = spent / ended * (total - ended) if ended else 0.0
                end = "done" if error is None else f"FAILED ({failed[job.name]})"
                clock = f"{_clock(spent)}, about {_clock(left)} left"
                say(f"{len(done) + len(failed)}/{len(jobs)}  {clock}  {job.name} {end}")
    return failed


def _begin(threads: int) -> None:
    """A process that leaves cores to its neighbours, and ends when the command is killed."""
    leave_with_parent(0)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
