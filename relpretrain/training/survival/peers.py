"""Several processes: the one that died or hangs is named by the others."""

from __future__ import annotations

import datetime
import os
import re
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist

from relpretrain.distributed import gather_objects, is_distributed, new_host_group, rank
from relpretrain.errors import ConfigError, PeerLost

_PATIENCE = 5.0
"""Seconds in which a process whose connection broke must be gone."""

_SILENCE = 15.0
"""Seconds without an answer after which a process is said to hang; the others come here at about the same time."""

_AT_LEAST = 0.1
"""Seconds in which a message that has arrived is taken."""

_COLLECTIVE = re.compile(r"gloo|pair closure|timed out waiting|connection (closed|reset)", re.IGNORECASE)
"""What the errors of collective calls say: those of gloo are mere RuntimeErrors, in several wordings."""


class Peers(pl.Callback):
    """When a collective call fails, gives the error a cause: the process that it failed for (`PeerLost`).

    A process of the same machine that is gone is named at once by all others; one that hangs, or is gone elsewhere,
    when the time-out of the run's collective calls is over.
    """

    def __init__(self) -> None:
        self._everyone: list[tuple[str, int]] = []  # host and process by rank
        self._group: Any = None
        self._step: int | None = None  # that the checkpoint to go on from was saved at

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Note from which step this process goes on."""
        self._step = checkpoint.get("global_step")

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Learn where the others are, and that they begin where this one does.

        Raises:
            ConfigError: If they go on from another checkpoint, or from none.
        """
        if is_distributed():
            found = gather_objects((socket.gethostname(), os.getpid(), self._step))
            self._everyone = [(host, process) for host, process, _ in found]
            _check_steps([step for _, _, step in found], [self._place(number) for number in range(len(found))])
            self._group = new_host_group()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Name the process."""
        if not self._everyone or not _of_a_collective(exception):
            return
        if lines := self._gone() or self._silent():
            exception.__cause__ = PeerLost(f"{'; '.join(lines)}: rank {rank()} ends, too")

    def _gone(self) -> list[str]:
        host, until = socket.gethostname(), time.monotonic() + _PATIENCE
        while True:
            gone = [n for n, (place, pid) in enumerate(self._everyone) if place == host and _is_gone(pid)]
            if gone or time.monotonic() > until:
                return [f"rank {number} ({self._place(number)}) has died" for number in gone]
            time.sleep(0.1)

    def _silent(self) -> list[str]:
        """Greet all others, who do the same, for the time-out has passed for them, too; who does not is not there."""
        others = [number for number in range(len(self._everyone)) if number != rank()]
        until = time.monotonic() + _SILENCE
        received: dict[int, Any] = {}
        sent, silent = [], []
        for number in others:
            try:
                sent.append(dist.isend(torch.zeros(1), number, group=self._group))
                received[number] = dist.irecv(torch.zeros(1), number, group=self._group)
            except RuntimeError:  # no connection any more
                silent.append(number)
        for number, answer in received.items():
            try:
                answer.wait(datetime.timedelta(seconds=max(until - time.monotonic(), _AT_LEAST)))
            except RuntimeError:
                silent.append(number)
        return [f"rank {number} ({self._place(number)}) does not answer" for number in sorted(silent)]

    def _place(self, number: int) -> str:
        host, pid = self._everyone[number]
        return f"process {pid} on {host}"


def _check_steps(steps: Sequence[int | None], places: Sequence[str]) -> None:
    """Raise a ConfigError where processes do not begin at the same step, as on machines that see different folders."""
    other = next((number for number, step in enumerate(steps) if step != steps[0]), None)
    if other is not None:
        first, second = ("from the start" if steps[n] is None else f"from step {steps[n]:,}" for n in (0, other))
        raise ConfigError(
            f"rank 0 ({places[0]}) begins {first}, but rank {other} ({places[other]}) {second}: the run's folder must "
            "be one that all machines see"
        )


def _of_a_collective(error: BaseException) -> bool:
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and bool(_COLLECTIVE.search(str(error)))
    )


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
