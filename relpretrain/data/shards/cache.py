"""Copies of remote shards on this machine: fetched once for all its processes, checked, evicted when room is needed.

A copy's name comes from the shard's address and digest, and it gets it when it is whole and was checked: what has the
name is the shard that the manifest tells of. Local shards are read in place.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from relpretrain.data.shards.manifest import ShardEntry
from relpretrain.data.shards.remote import (
    PART,
    check_tar,
    clean,
    copies_folder,
    download,
    is_remote,
    name_of,
    place_of,
    publish,
    turn,
)
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.identity import file_digest, fingerprint

GB = 10**9
"""Bytes of a gigabyte, as disks are sold."""

_INDEX_SHARE, _INDEX_LEAST = 0.02, 4096  # of a shard's bytes, and bytes, that its row index takes at most

_logger = logging.getLogger(__name__)


class Cache:
    """The copies of a machine, in the cache folder.

    Args:
        limit: Bytes that they may take together; None for no limit.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.folder = copies_folder()

    def path(self, entry: ShardEntry) -> Path:
        """Where a shard lies on this machine, or will lie when it has been fetched."""
        if not is_remote(entry.shard):
            return place_of(entry.shard).absolute()
        return self.folder / f"{fingerprint(f'{entry.shard} {entry.bytes} {entry.sha256}', 24)}.tar"

    def fetch(self, entry: ShardEntry, keep: Callable[[], Collection[Path]] = tuple, wait: bool = True) -> int:
        """Bring a remote shard here, unless it is here already, with its row index.

        Args:
            entry: What its manifest says of it.
            keep: Says which copies are needed, and so not evicted.
            wait: Whether to wait for another process that fetches it.

        Returns:
            How many bytes came; 0 if it was here, or another process fetches it.

        Raises:
            OSError: If it cannot be fetched, or is not what the manifest tells of; names it.
        """
        path = self.path(entry)
        if path.exists():
            return 0
        with turn(path, room_for(entry), wait) as part:
            if part is None:
                return 0
            self._make_room(keep)
            download(entry.shard, part, lambda came: check_copy(entry, came), entry.bytes)
            publish(part, path)
            with suppress(ValueError):  # no tar: told by the one that opens it
                ShardIndex.at(path, name_of(entry.shard))
            return path.stat().st_size

    def used(self) -> int:
        """Bytes that copies take, those under way included."""
        return sum(copy.size for copy in self._copies())

    def clean(self) -> None:
        """Delete what processes left here that were killed."""
        clean(self.folder)
        hour_ago = time.time() - 3600
        for path in self.folder.glob("..*.index-*"):  # an index on its way
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < hour_ago:
                    path.unlink()

    def _make_room(self, keep: Callable[[], Collection[Path]]) -> None:
        """Evict the copies that were not used for longest until the limit holds, with the parts under way counted."""
        if self.limit is None:
            return
        with _locked(self.folder / ".lock"):
            copies = self._copies()
            over = sum(copy.size for copy in copies) - self.limit
            kept = set(keep()) if over > 0 else set()
            for copy in sorted(copies, key=lambda copy: copy.used):
                if over <= 0:
                    return
                if copy.path.name.endswith(PART) or copy.path in kept:
                    continue
                copy.path.unlink(missing_ok=True)
                _index_of(copy.path).unlink(missing_ok=True)
                over -= copy.size
        if over > 0:
            _logger.warning(
                "The copies of shards in %s take %.2f GB more than data.cache_gb=%g: other runs fetch shards too",
                self.folder, over / GB, self.limit / GB,
            )  # fmt: skip

    def _copies(self) -> list[_Copy]:
        found = []
        with suppress(FileNotFoundError), os.scandir(self.folder) as files:
            for file in files:
                with suppress(FileNotFoundError):
                    if file.name.endswith(".tar"):
                        stat, path = file.stat(), Path(file.path)
                        index = _index_of(path)
                        size = stat.st_size + (index.stat().st_size if index.exists() else 0)
                        found.append(_Copy(path, size, stat.st_atime_ns))
                    elif file.name.endswith(PART):
                        stat, expected = file.stat(), int(file.name.split(".")[-2])
                        found.append(_Copy(Path(file.path), max(stat.st_size, expected), stat.st_mtime_ns))
        return found


def room_for(entry: ShardEntry) -> int:
    """Bytes that a copy takes, with its row index: a bound."""
    return math.ceil((entry.bytes or 0) * (1 + _INDEX_SHARE)) + _INDEX_LEAST


class _Copy(NamedTuple):
    path: Path
    size: int
    used: int  # when, in nanoseconds


def check_copy(entry: ShardEntry, path: Path) -> None:
    """Compare a copy with what its manifest says of it; where that says nothing, it must at least be a whole tar.

    Raises:
        OSError: If it is another file.
    """
    size = path.stat().st_size
    remedy = "It changed at its address: put it back, or write the manifest anew with `relpretrain data index`"
    if entry.bytes is not None and size != entry.bytes:
        raise OSError(f"{size:,} bytes came, its manifest says {entry.bytes:,}. {remedy}")
    if entry.sha256 is None:
        check_tar(path)
    elif (digest := file_digest(path)) != entry.sha256:
        raise OSError(f"its sha256 is {digest}, its manifest says {entry.sha256}. {remedy}")


def touch(path: Path) -> None:
    """Note that a copy is in use, whether or not the file system notes it by itself."""
    with suppress(OSError):
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))  # an index holds the time of change


def _index_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.index")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
