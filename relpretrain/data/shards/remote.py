"""Shards that lie elsewhere: found, and copied into a folder of this machine, whole or not at all."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec  # type: ignore[import-untyped]

from relpretrain.identity import fingerprint

ATTEMPTS = 5
"""How often a copy is tried."""

WAIT = 1.0
"""Seconds before the second attempt; twice as many before each further one."""

_HOPELESS = (FileNotFoundError, PermissionError, ImportError)
_logger = logging.getLogger(__name__)


def is_remote(shard: str | Path) -> bool:
    """True for addresses (`https://...`, `s3://...`) and commands (`pipe:...`); a `Path` is neither."""
    if isinstance(shard, Path) or shard.startswith(("/", "file://")):
        return False
    return shard.startswith("pipe:") or "://" in shard


def cache_folder() -> Path:
    """Where copies of remote shards are kept: $RELPRETRAIN_CACHE, or ~/.cache/relpretrain."""
    return Path(os.environ.get("RELPRETRAIN_CACHE") or Path.home() / ".cache" / "relpretrain")


def find_remote(pattern: str) -> list[str]:
    """Addresses that a pattern names: those that match a `*` in an object store, else the address itself.

    Raises:
        FileNotFoundError: If nothing matches.
        OSError: If the store cannot be listed; names the pattern.
    """
    if pattern.startswith(("pipe:", "http://", "https://")) or "*" not in pattern:
        return [pattern]
    try:
        store, path = fsspec.core.url_to_fs(pattern)
        found = sorted(store.unstrip_protocol(name) for name in store.glob(path))
    except (OSError, ImportError, ValueError) as error:
        raise OSError(f"Shard pattern {pattern!r} cannot be listed: {error}.") from error
    if not found:
        raise FileNotFoundError(f"Shard pattern {pattern!r} matches nothing.")
    return found


def name_of(shard: str | Path) -> str:
    """What the samples of a shard are called by: its file's name without ending; of a command, a digest."""
    if not is_remote(shard):
        return place_of(shard).stem
    return _digest(str(shard)) if str(shard).startswith("pipe:") else PurePosixPath(str(shard).split("?")[0]).stem


def place_of(shard: str | Path) -> Path:
    """Where a shard lies on this machine, or will lie when it has been copied."""
    if not is_remote(shard):
        return shard if isinstance(shard, Path) else Path(shard.removeprefix("file://"))
    return cache_folder() / "shards" / f"{_digest(str(shard))}.tar"


def local_copy(shard: str | Path) -> Path:
    """Path of a shard on this machine; a remote one is copied into the cache first, whole or not at all.

    Raises:
        OSError: If the copy fails; names the shard.
    """
    path = place_of(shard)
    if is_remote(shard) and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fetch(str(shard), path)
    return path


def fetch(address: str, path: Path) -> None:
    """Copy what lies at an address into a file, whole or not at all.

    A copy that fails is tried again, `ATTEMPTS` times in all, with growing pauses; not so where that cannot help. Two
    processes may copy one shard at the same time: each makes its own file, and the names are exchanged at the end.

    Raises:
        OSError: If the copy fails; names the address.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _copy(address, path)
            return
        except Exception as error:
            said = str(error) or type(error).__name__
            full = isinstance(error, OSError) and error.errno == errno.ENOSPC
            if full or _is_hopeless(error) or attempt == ATTEMPTS:
                tried = f" in {attempt} attempts" if attempt > 1 else ""
                said += ". Set RELPRETRAIN_CACHE to a folder with room" if full else ""
                raise OSError(f"Shard {address!r} could not be copied to {path.parent}{tried}: {said}.") from error
            pause = WAIT * 2 ** (attempt - 1)
            _logger.warning("Shard %r: %s; attempt %d of %d in %g s", address, said, attempt + 1, ATTEMPTS, pause)
            time.sleep(pause)


def is_absent(error: OSError) -> bool:
    """Whether `fetch` failed because there is nothing at the address, or nothing for this user."""
    return error.__cause__ is not None and _is_hopeless(error.__cause__)


def _is_hopeless(error: BaseException) -> bool:
    refused = 400 <= getattr(error, "status", 0) < 500 and getattr(error, "status", 0) not in (408, 425, 429)
    return refused or isinstance(error, _HOPELESS)


def _copy(shard: str, path: Path) -> None:
    handle, temporary = tempfile.mkstemp(prefix=".copying-", dir=path.parent)
    os.close(handle)
    try:
        _fetch(shard, temporary)
        if os.path.getsize(temporary) == 0:
            raise OSError("no bytes arrived")
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _fetch(shard: str, target: str) -> None:
    """Write a shard's bytes into a file: through fsspec where it knows the address, else webdataset's openers."""
    import webdataset  # loads torch, which workers that only write shards do without
    from webdataset.gopen import gopen_schemes

    options: dict[str, Any] = {}
    if shard.startswith(("http://", "https://")):
        import aiohttp  # as slow as the line is; but a server that falls silent is an error

        options = {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)}}
    try:
        store, path = (None, "") if shard.startswith("pipe:") else fsspec.core.url_to_fs(shard, **options)
    except (ImportError, ValueError) as error:
        if shard.partition("://")[0] not in gopen_schemes:
            raise ImportError(str(error)) from error
        store = None
    if store is None:
        with webdataset.gopen(shard) as source, open(target, "wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    else:
        store.get_file(path, target)


def _digest(shard: str) -> str:
    return fingerprint(shard, 24)
