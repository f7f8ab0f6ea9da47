"""Several processes: the one that died or hangs is named by the others."""

from __future__ import annotations

import datetime
import os
import socket
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch.distributed as dist

from relpretrain.distributed import gather_objects, is_distributed, rank
from relpretrain.errors import PeerLost

_PATIENCE = 5.0
"""Seconds in which a process whose connection broke must be gone."""


class Peers(pl.Callback):
    """When a collective call fails, gives the error a cause: the process that it failed for (`PeerLost`).

    A process of the same machine that is gone is named by all others; one that is elsewhere, or there and silent, by
    rank 0.
    """

    def __init__(self) -> None:
        self._everyone: list[tuple[str, int]] = []  # host and process by rank
        self._group: Any = None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Learn where the others are."""
        if is_distributed():
            self._everyone = gather_objects((socket.gethostname(), os.getpid()))
            self._group = dist.new_group(backend="gloo")

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Name the process."""
        if not self._everyone or not _of_a_collective(exception):
            return
        if lines := self._gone() or self._silent():
            exception.__cause__ = PeerLost(f"{'; '.join(lines)}: rank {rank()} ends, too")

    def _gone(self) -> list[str]:
        host, until = socket.gethostname(), time.monotonic() + _PATIENCE
        while True:
            gone = [(n, place, pid) for n, (place, pid) in enumerate(self._everyone) if place == host and _is_gone(pid)]
            if gone or time.monotonic() > until:
                return [f"rank {number} (process {pid} on {place}) has died" for number, place, pid in gone]
            time.sleep(0.1)

    def _silent(self) -> list[str]:
        try:
            patience = datetime.timedelta(seconds=_PATIENCE)
            dist.monitored_barrier(self._group, timeout=patience, wait_all_ranks=True)
        except RuntimeError as error:
            return [f"some process does not answer: {' '.join(str(error).split())}"]
        return []


def _of_a_collective(error: BaseException) -> bool:
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def _is_gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():  # a process whose end nobody has asked about is still listed
        try:
            return stat.read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
