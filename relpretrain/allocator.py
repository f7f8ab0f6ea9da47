"""The C library keeps what a step on a CPU frees, so that the next one need not ask the system for it again."""

from __future__ import annotations

import ctypes
import functools
import os

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""Numbers of glibc's options (malloc.h)."""

KEEPING = {MMAP_MAX: 0, TRIM_THRESHOLD: -1}
"""No block comes straight from the system, and none goes back."""
USUAL = {MMAP_MAX: 65536, MMAP_THRESHOLD: 1 << 25, TRIM_THRESHOLD: 1 << 26}
"""glibc's own values, once large blocks have been freed; it finds them no more by itself when one has been set."""


def keep_freed_memory() -> bool:
    """Have glibc's malloc keep freed memory in this process, but not in those that are forked of it.

    A training step frees gigabytes in large tensors. By default glibc gives these back to the system, which clears each
    page of the next step's anew: 5 to 10 % of the time of a step at base size. The largest memory of the step stays
    what it was. Data workers and others go on as before.

    Returns:
        False where nothing was done: elsewhere than on Linux with glibc, and where the environment chooses for itself
        (MALLOC_..., GLIBC_TUNABLES, or another allocator in LD_PRELOAD).
    """
    if any(name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD") for name in os.environ):
        return False
    return _with_forks_as_usual() and _set(KEEPING)


@functools.cache  # once a process
def _with_forks_as_usual() -> bool:
    """Have processes that are forked of this one begin with the usual values; False where that cannot be."""
    try:
        _ = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another system, or another C library
        return False
    os.register_at_fork(after_in_child=functools.partial(_set, USUAL))
    return True


def _set(values: dict[int, int]) -> bool:
    option = ctypes.CDLL(None).mallopt
    return all(option(name, value) for name, value in values.items())
