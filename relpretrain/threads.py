"""How many threads torch computes with: one for a tiny model, all cores for others; and work done in threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import nn

from relpretrain.errors import ConfigError

T = TypeVar("T")
R = TypeVar("R")

MOST = 16
"""Threads of `in_threads`."""

TINY = 5_000_000
"""Parameters up to which a model's operations are so short that threads cost more than they bring.

They meet at the end of every operation, and there the others spin until the last has come: as soon as another process
takes a core away, that is most of the time.
"""
VARIABLE = "OMP_NUM_THREADS"


def choose_threads(model: nn.Module, asked: int | None = None) -> str:
    """Set the number of torch's threads in this process; data workers have one each in any case.

    Args:
        model: Up to `TINY` parameters it gets one thread, unless the environment's OMP_NUM_THREADS says otherwise.
        asked: A number that goes before both.

    Returns:
        A line that says what was chosen; "" where nothing was.

    Raises:
        ConfigError: If less than one thread is asked for.
    """
    if asked is not None:
        if asked < 1:
            raise ConfigError(f"threads={asked} must be at least 1; leave it out to choose by the model's size")
        torch.set_num_threads(asked)
        return f"threads: {asked}, as asked"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if os.environ.get(VARIABLE) or parameters > TINY or torch.get_num_threads() == 1:
        return ""
    torch.set_num_threads(1)
    return f"one thread (tiny model; {VARIABLE} changes it)"


def in_threads(function: Callable[[T], R], things: Sequence[T]) -> list[R]:
    """What a function makes of things, in their order, several at a time.

    For work that leaves the interpreter to others, as Pillow does when it decodes or resizes an image.

    Args:
        function: What it raises for a thing is raised, of the first such thing.
        things: Each one's argument.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = min(MOST, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), len(things))
    if threads < 2:
        return [function(thing) for thing in things]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, things))
