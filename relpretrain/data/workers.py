"""What a run says of its data workers: where a stuck one stands, why one died, and whether shared memory suffices."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from relpretrain.data.sampling.stream import Stream
from relpretrain.errors import ConfigError, TooManyBadSamples, WorkerError

SHARED = Path("/dev/shm")
"""Where workers put their batches (Linux)."""

TOLD = (TooManyBadSamples, ConfigError, OSError)
"""Errors that say all by themselves: a worker hands them over without its traceback."""

_LENGTH = 240  # bytes of a note
_MORE = "Enlarge it (of a container: --shm-size), or lower num_workers, prefetch or batch_size."


@dataclass
class Failure:
    """Stands in the place of a worker's next batch: the error that it could not build it for."""

    error: Exception


class Notes:
    """A line of text for each worker, in memory that all share: what it is at.

    Args:
        workers: Number of workers.
    """

    def __init__(self, workers: int) -> None:
        self._memory = torch.zeros(workers, _LENGTH, dtype=torch.uint8)
        self._memory.share_memory_()  # type: ignore[no-untyped-call]

    def write(self, worker: int, text: str) -> None:
        """Replace a worker's line."""
        line = text.encode()[: _LENGTH - 1] + b"\0"
        self._memory.numpy()[worker, : len(line)] = np.frombuffer(line, np.uint8)

    def read(self, worker: int) -> str:
        """A worker's line, empty if it has not written any."""
        line: bytes = self._memory.numpy()[worker].tobytes()
        return line.partition(b"\0")[0].decode(errors="ignore")


def stuck(worker: int, workers: int, seconds: float, at: str) -> WorkerError:
    """The error of a worker that has given no batch for so many seconds."""
    return WorkerError(
        f"Data worker {worker} of {workers} has given no batch for {seconds:g} seconds; it is {_place(at)}. See "
        "whether that shard can be read, or raise worker_timeout (0 waits for ever)."
    )


def died(text: str, at: str = "", exitcode: int | None = None) -> WorkerError | None:
    """The error of a worker that died; None if torch says something else.

    Args:
        text: What torch says of it.
        at: Where the worker was.
        exitcode: How its process ended: torch does not always name the signal.
    """
    if exitcode == -signal.SIGBUS or "out of shared memory" in text or ("shm" in text and "No space left" in text):
        state = ""
        if SHARED.is_dir():
            usage = shutil.disk_usage(SHARED)
            state = f" ({SHARED}: {_size(usage.free)} of {_size(usage.total)} are free)"
        return WorkerError(f"A data worker died for want of shared memory{state}. {_MORE}")
    if not text.startswith("DataLoader worker"):
        return None
    why = text.partition(" signal: ")[2].partition(".")[0]
    if exitcode is not None and exitcode < 0:
        why = signal.strsignal(-exitcode) or str(-exitcode)
    killed = f"was killed ({why})" if why else "ended without a word"
    return WorkerError(
        f"A data worker {killed}; it was {_place(at)}. Most often the machine's memory is full: lower num_workers."
    )


def shared_memory(
    streams: Mapping[str, Stream], image_size: int, workers: int, prefetch: int, ranks: int, processes: int, bytes_: int
) -> list[str]:
    """Report shared memory that is too small for the batches under way.

    Args:
        streams: The streams.
        image_size: Side of the images, in pixels.
        workers: Data workers of each process.
        prefetch: Batches that each of them makes ahead.
        ranks: Processes that share a batch.
        processes: Those of them on this machine.
        bytes_: Of each value of an image: 1, or 4 where a host's transform makes it.
    """
    if not workers or not SHARED.is_dir():
        return []
    # A batch has at most as many mirror images as images.
    images = max((s.batch_size * (1 + (s.mirrored > 0)) for s in streams.values()), default=0) // ranks
    needed = processes * workers * (prefetch + 1) * images * 3 * image_size**2 * bytes_
    free = shutil.disk_usage(SHARED).free
    if needed <= free:
        return []
    return [
        f"{SHARED} has {_size(free)} free, but the batches under way take up to {_size(needed)}: {processes} "
        f"process(es) x {workers} workers x {prefetch + 1} batches of {images} images. {_MORE}"
    ]


def worker_of(text: str, processes: Sequence[Any]) -> int | None:
    """Number of the worker process whose pid torch's error names."""
    named = {int(word) for word in text.replace("(", " ").replace(")", " ").replace(",", " ").split() if word.isdigit()}
    return next((number for number, process in enumerate(processes) if process.pid in named), None)


def local_processes(world_size: int) -> int:
    """Processes of the run on this machine, as torchrun or SLURM tells it; else all of them."""
    told = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("SLURM_NTASKS_PER_NODE") or ""
    return int(told) if told.isdigit() else world_size


def _place(at: str) -> str:
    return f"at {at}" if at else "at its first batch"


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
