"""How files are written that must never be half there: aside first, then under their name."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_UNFINISHED = ".unfinished"
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux


@contextlib.contextmanager
def aside(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """Write a file that takes its name, and the place of an earlier one, only when all of it is on the disk.

    Until then it lies beside its place; what was there before stays as it was, whatever happens.

    Args:
        path: The file; its folder is made where it is missing. Several processes may write it at once.
        durable: Whether it shall survive a loss of power, which takes its time.

    Yields:
        What to write to; its `name` is that of the file aside.

    Raises:
        OSError: If it cannot be written, with the file's name.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            _keep(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if (cause := _of_the_system(error)) is not None:
            raise OSError(cause.errno, cause.strerror, str(path)) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) that is whole or not there.

    Raises:
        OSError: If it cannot be written, with the file's name.
    """
    with aside(path) as file:
        file.write(text.encode())


def folder_aside(path: Path) -> Path:
    """Where to write a folder that takes its name by `replace_folder`; the same for all processes that write it."""
    return path.with_name(f".{path.name}{_UNFINISHED}")


def replace_folder(written: Path, path: Path) -> None:
    """Give a folder, or a file, that is whole its name; what had it, a file or a folder, is removed.

    Both are exchanged at once where the file system can do that, so that the name always stands for one of them.
    Elsewhere (NFS) the earlier one has a name of its own for a moment, "last-before.ckpt" of "last.ckpt": a kill in
    between leaves it there.

    Raises:
        OSError: If that cannot be done.
    """
    for part in (*written.rglob("*"), written):
        _keep(part)
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    places = os.fsencode(written), os.fsencode(path)
    before = path.with_name(f"{path.stem}-before{path.suffix}")
    if not path.exists():
        os.replace(written, path)
    elif rename is None or rename(_HERE, places[0], _HERE, places[1], _EXCHANGE):
        _remove(before)
        os.replace(path, before)
        os.replace(written, path)
    _keep(path.parent)
    _remove(before)
    _remove(written)


def remove_unfinished(folder: Path) -> None:
    """Remove what writers that were killed have left aside in a folder; none may be at work in it."""
    for path in folder.glob(f".*{_UNFINISHED}"):
        _remove(path)


def _remove(path: Path) -> None:
    """Remove a file or a folder; nothing, if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _keep(path: Path) -> None:
    """Let a file, or the names in a folder, survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _of_the_system(error: BaseException | None) -> OSError | None:
    """The error of the operating system that another one comes from: torch wraps it."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error
