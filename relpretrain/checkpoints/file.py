"""A checkpoint as a file: whole or not there, and read without running anything.

torch's files are zip archives, stored without compression, with a checksum of every part; torch itself compares none.
"""

from __future__ import annotations

import argparse
import functools
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from relpretrain.errors import CheckpointError, check_checkpoint
from relpretrain.writing import aside

_PIECE = 1 << 22
"""Bytes read at a time."""

_REPEATED = 4
"""How many times what a file holds its tensors may stand for: tied weights are stored once, and expanded ones too."""

_SMALL = 1 << 20
"""Bytes that tensors may stand for in any case."""


def write(content: Any, path: Path) -> None:
    """Save with torch, so that a file of that name is whole, whatever happens to this process.

    Raises:
        OSError: If it cannot be written, with the file's name.
    """
    with aside(path) as file:
        torch.save(content, file)


def read_file(path: Path, mapped: bool = True) -> Any:
    """Read a file of tensors and plain types; code in it is not executed.

    Args:
        path: The file.
        mapped: Whether its tensors may stay on the disk until they are used.

    Raises:
        CheckpointError: If it is missing, cut off, damaged or compressed, contains anything else, or repeats a few
            numbers as tensors of any size.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder, not a checkpoint: name the .ckpt file in it")
    check_checkpoint(path)
    if not path.is_file():  # a pipe would be waited for
        raise CheckpointError(f"{path} is not a file")
    try:
        zipped = zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        zipped = True  # told below
    with path.open("rb") as file:
        if not zipped and file.read(1) != b"\x80":  # files of torch before 1.6 are a pickle, and cannot be mapped
            raise CheckpointError(f"{path} is not a checkpoint: cut off, or of another format")
    if zipped:
        check(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # settings, which many scripts save beside weights
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped and mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds Python objects besides tensors and plain types; it was not loaded, because such a file can "
            "run any code: where it is trusted, save its tensors alone, as {'model': state_dict}"
        ) from error
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not a checkpoint: cut off, or of another format") from error
    claimed, held = _bytes(content)
    if claimed > _REPEATED * held + _SMALL:
        raise CheckpointError(
            f"{path} holds tensors of {claimed:,} bytes in {held:,}, as no training saves them: it was not loaded"
        )
    return content


def _bytes(content: Any) -> tuple[int, int]:
    """How many bytes the tensors in a content take when each is copied, and how many are stored."""
    claimed, stored, seen, waiting = 0, {}, set(), [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Tensor):
            claimed += part.numel() * part.element_size()
            if part.layout == torch.strided and not part.is_meta:
                storage = part.untyped_storage()
                stored[storage.data_ptr()] = storage.nbytes()
        elif isinstance(part, (Mapping, list, tuple)) and id(part) not in seen:
            seen.add(id(part))
            waiting += part.values() if isinstance(part, Mapping) else part
    return claimed, sum(stored.values())


def check(path: Path) -> None:
    """Compare a file's parts with their checksums.

    Raises:
        CheckpointError: If a byte differs, or the file would unpack to more than it holds.
    """
    found = path.stat()
    problem = _problem(path, found.st_mtime_ns, found.st_size)
    if problem is not None:
        raise CheckpointError(f"{path} {problem}")


@functools.lru_cache(maxsize=8)
def _problem(path: Path, changed: int, size: int) -> str | None:
    """What is wrong with a file as it was at a time; None if nothing is."""
    return problem_of(path, size)


def problem_of(file: Path | IO[bytes], size: int) -> str | None:
    """What is wrong with an archive of torch; None if nothing is.

    Args:
        file: The archive.
        size: Its bytes.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
            if not stored or sum(part.file_size for part in parts) > size:
                return "unpacks to more than it holds, as no file of torch does: it was not loaded"
            for part in parts:
                if part.CRC:  # else torch was told to save without (`torch.serialization.set_crc32_options`)
                    with archive.open(part) as content:
                        while content.read(_PIECE):
                            pass
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError) as error:
        return f"is damaged ({' '.join(str(error).split())}): use an earlier checkpoint"
    return None
