"""The shards that a process reads at the moment, each opened once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relpretrain.data.shards.cache import Cache, touch
from relpretrain.data.shards.manifest import ShardEntry, check_against
from relpretrain.data.shards.remote import is_remote, name_of
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.errors import ConfigError
from relpretrain.kinds import Need

_RETURNS = 5  # times that a copy is fetched again that others evict before it is opened


class OpenShard:
    """A shard that is being read.

    Args:
        index: Its row index, with the tar open.
    """

    def __init__(self, index: ShardIndex) -> None:
        self.index = index
        self._rows: dict[Need, NDArray[np.int64]] = {}

    def row(self, need: Need, number: int) -> int:
        """Row of the index of a sample by its number among those that have what a stream needs."""
        if need not in self._rows:
            self._rows[need] = self.index.eligible(need)
        return int(self._rows[need][number])

    def close(self) -> None:
        """Close the tar."""
        if self.index.file is not None:
            self.index.file.close()
            self.index.file = self.index.held = None


class OpenShards:
    """Opens shards when they are first read, and closes those that are not needed any more.

    Args:
        cache: Where remote shards come from.
        keep: Says which copies this machine needs, when room is made for another one.
        note: Called with the name of a count and what is added to it.
    """

    def __init__(
        self,
        cache: Cache | None = None,
        keep: Callable[[], Collection[Path]] = tuple,
        note: Callable[[str, float], None] | None = None,
    ) -> None:
        self.cache = cache or Cache()
        self.keep = keep
        self.note = note or _nothing
        self.opened = 0
        self._open: dict[str, OpenShard] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def __len__(self) -> int:
        return len(self._open)

    def get(self, entry: ShardEntry, needed: Callable[[], Collection[str]]) -> OpenShard:
        """A shard, opened and compared with its manifest.

        Args:
            entry: What its manifest says of it.
            needed: Which shards are still needed: the others are closed when this one must be opened.

        Raises:
            OSError: If it is not there, cannot be fetched, or is not the file that the manifest tells of.
            ConfigError: If it is no tar, or holds other samples than its manifest says.
        """
        found = self._open.get(entry.shard)
        if found is not None:
            return found
        others = needed()
        for shard in [shard for shard in self._open if shard not in others]:
            self._open.pop(shard).close()
        found = self._open[entry.shard] = OpenShard(self._index(entry))
        self.opened += 1
        return found

    def _index(self, entry: ShardEntry) -> ShardIndex:
        path, remote = self.cache.path(entry), is_remote(entry.shard)
        for _ in range(_RETURNS if remote else 1):
            if remote:
                self._bring(entry, path)
            try:
                return _checked(entry, path)
            except FileNotFoundError:
                continue  # evicted by another run, in this very moment
        raise OSError(
            f"Shard {entry.shard} disappeared during the run. Put it back and resume: the run goes on with exactly the "
            "next batch."
        )

    def _bring(self, entry: ShardEntry, path: Path) -> None:
        """Have a remote shard on this machine; what that costs is noted. A copy of another size is made anew."""
        if _is_whole(entry, path):
            self.note("hits", 1)
        else:
            start = time.monotonic()
            came = self.cache.fetch(entry, self.keep)
            self.note("waits", 1)
            self.note("waited_seconds", time.monotonic() - start)
            self.note("fetched_bytes", came)
        touch(path)


def _is_whole(entry: ShardEntry, path: Path) -> bool:
    """Whether a copy is there; one that something has cut off since it came is removed."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return False
    if entry.bytes in (None, size):
        return True
    path.unlink(missing_ok=True)
    return False


def _checked(entry: ShardEntry, path: Path) -> ShardIndex:
    """The index of the shard at a path, with the tar open."""
    file = path.open("rb", buffering=0)  # positioned reads only, so that forked workers may share it
    try:
        size = os.fstat(file.fileno()).st_size
        if entry.bytes is not None and size != entry.bytes:
            raise OSError(
                f"Shard {entry.shard} has {size:,} bytes, but its manifest says {entry.bytes:,}: it changed during the "
                "run. Put it back and resume."
            )
        try:
            index = ShardIndex.at(path, name_of(entry.shard))
            check_against(entry, index)
        except ValueError as error:
            said = str(error)
            raise ConfigError(said if entry.shard in said else f"{entry.shard}: {said}") from None
    except BaseException:
        file.close()
        raise
    index.file, index.held = file, index.columns  # whatever else the process looks at in between
    return index


def _nothing(name: str, number: float) -> None:
    """Note nothing."""
