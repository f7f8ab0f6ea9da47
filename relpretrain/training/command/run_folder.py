"""The folder of a run: one run at a time, none over another one, and where to go on."""

from __future__ import annotations

import math
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import IO, Any

from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_warn

from relpretrain.checkpoints import checkpoint as checkpoints
from relpretrain.errors import CheckpointError, ConfigError, counted
from relpretrain.training.command.resumed import goes_on
from relpretrain.training.survival.checkpoint_io import SAVED
from relpretrain.writing import remove_unfinished

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

CHECKPOINTS, LAST = "checkpoints", "last.ckpt"
_LOCK = ".lock"
_CLOCKS = 3600.0
"""Seconds by which the clocks of machines and of a file server may differ."""


def saved(folder: Path) -> list[Path]:
    """The checkpoints of a run, whole or not: files, or folders of several processes."""
    return sorted((folder / CHECKPOINTS).glob("*.ckpt"))


def newest(folder: Path) -> Path | None:
    """The whole checkpoint that a run saved last; None if there is none. Of later ones that are torn, a warning tells.

    A file is written after the time in it, and a copy later still: so the latest files are read first, and none that is
    older than what was found. Checkpoints have many gigabytes, and each process reads them. Where a file is older than
    the time in it (images of containers, mounts and archives have dates of their own), all are read.

    Args:
        folder: The run's.
    """
    best: tuple[float, bool] = (-math.inf, False)  # when it was saved, and whether it is `last.ckpt`
    found, broken, dated = None, [], True
    for path in sorted(saved(folder), key=_written, reverse=True):
        if dated and _written(path) < best[0] - _CLOCKS:
            break
        try:
            content = checkpoints.read(path)
        except CheckpointError as error:
            broken.append(str(error))
            continue
        order = (content.get(SAVED, _written(path)), path.name == LAST)
        dated = dated and _written(path) >= order[0] - _CLOCKS
        if goes_on(content, path) and order > best:
            best, found = order, path
    for line in broken:
        rank_zero_warn(f"{line}; {'it is passed over' if found is None else f'{found} is used'}")
    return found


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # told when it is read
        return math.inf


def last(folder: Path) -> Path:
    """The run's `last.ckpt`.

    Raises:
        ConfigError: If there is none.
    """
    path = folder / CHECKPOINTS / LAST
    if not path.exists():
        raise ConfigError(
            f"--ckpt_path=last: {path} does not exist; --ckpt_path=auto goes on from the newest whole checkpoint of "
            "the run's folder, or begins a new run where there is none"
        )
    return path


def refuse(folder: Path) -> None:
    """Keep a new run out of the folder of another one.

    Raises:
        ConfigError: If the folder holds checkpoints.
    """
    if found := saved(folder):
        raise ConfigError(
            f"run={folder} holds {counted(len(found), 'checkpoint')} of a run already: go on with it by "
            "--ckpt_path=auto, name another folder by --run, or let this run take its place by --overwrite"
        )


class RunFolder(Callback):
    """Holds the folder of a run as long as it lasts, and removes another run's checkpoints where that is wanted.

    The lock is the operating system's: it ends with the process, however that ends.

    Args:
        folder: The run's.
        overwrite: Whether checkpoints in it are removed, when all else is ready to train.

    Raises:
        ConfigError: If another run is at work in it.
        OSError: If it cannot be written.
    """

    def __init__(self, folder: Path, overwrite: bool = False) -> None:
        self.folder, self.overwrite = folder, overwrite
        (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        self._lock: IO[str] | None = _locked(folder / _LOCK)
        remove_unfinished(folder / CHECKPOINTS)
        for place in (folder, folder / CHECKPOINTS):
            _try(place)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Remove what is to be overwritten."""
        for path in saved(self.folder) if self.overwrite else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Let others use the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _locked(path: Path) -> IO[str] | None:
    file = path.open("a+", encoding="utf-8")
    if fcntl is None:
        return file
    try:
        # Not `flock`: data workers would inherit it, and keep it when the run is killed.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        who = file.read(200).strip() or "its process is unknown"
        file.close()
        raise ConfigError(f"run={path.parent} is in use by another run ({who}): wait for it, or give --run") from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


def _try(folder: Path) -> None:
    """Write and remove a file.

    Raises:
        OSError: If that cannot be done, with the folder's name.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error
