"""Shards that lie elsewhere: found, and copied into a folder of this machine, whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from relpretrain.identity import fingerprint

ATTEMPTS = 5
"""How often a copy is tried."""

WAIT = 1.0
"""Seconds before the second attempt; twice as many before each further one."""

PATIENCE = 60.0
"""Seconds of silence, or of less than `SLOWEST`, after which a copy has failed."""

SLOWEST = 1024.0
"""Fewest bytes per second of a copy."""

PART = ".part"
"""Ending of a copy that is under way."""

Check = Callable[[Path], None]

_refused = ""  # why no command may be run, if none may

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


def copies_folder() -> Path:
    """Where among these the tars are."""
    return cache_folder() / "shards"


def find_remote(pattern: str) -> list[str]:
    """Addresses that a pattern names: those that match a `*` in an object store, else the address itself.

    Raises:
        FileNotFoundError: If nothing matches.
        OSError: If the store cannot be listed; names the pattern.
    """
    if pattern.startswith(("pipe:", "http://", "https://")) or "*" not in pattern:
        return [pattern]
    import fsspec  # type: ignore[import-untyped]  # with asyncio, which takes its time

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
    return copies_folder() / f"{_digest(str(shard))}.tar"


def local_copy(shard: str | Path) -> Path:
    """Path of a shard on this machine; a remote one is copied into the cache first, whole or not at all.

    Raises:
        OSError: If the copy fails; names the shard.
    """
    path = place_of(shard)
    if is_remote(shard) and not path.exists():
        fetch(str(shard), path, check_tar)
    return path


def fetch(address: str, path: Path, check: Check | None = None) -> None:
    """Copy what lies at an address into a file, whole or not at all; another process that does so is waited for.

    Args:
        address: The address or command.
        path: The file.
        check: Raises an OSError for a copy that is not what was meant to come.

    Raises:
        OSError: If the copy fails; names the address.
    """
    with turn(path) as part:
        if part is not None:
            download(address, part, check)
            publish(part, path)


@contextmanager
def turn(path: Path, size: int = 0, wait: bool = True) -> Iterator[Path | None]:
    """Take the turn at making a file, among all processes of the machine.

    Args:
        path: The file.
        size: Bytes that it will have, noted in the name of the part.
        wait: Whether to wait for another process that makes it.

    Yields:
        Where to write it; None if the file is there by now, or another process makes it and is not waited for. What is
        left there at the end is deleted. A process that is killed leaves the part, which the next one takes over.
    """
    part = path.with_name(f".{path.stem}.{size}{PART}")
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(part, os.O_CREAT | os.O_RDWR, 0o666)
        except OSError as error:
            remedy = "copies go there; set RELPRETRAIN_CACHE to a folder that can be written to"
            raise OSError(error.errno, f"{error.strerror} ({remedy})", str(path.parent)) from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield None
                return
            done = path.exists()
            if done or _is_still(part, handle):  # else the one before failed or was evicted while this one waited
                try:
                    yield None if done else part
                finally:
                    if _is_still(part, handle):
                        part.unlink(missing_ok=True)
                return
        finally:
            os.close(handle)


def _is_still(path: Path, handle: int) -> bool:
    """Whether a name is that of an open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def clean(folder: Path) -> None:
    """Delete the parts of copies that nobody is making any more."""
    for part in folder.glob(f".*{PART}"):
        try:
            handle = os.open(part, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(part, handle):
                part.unlink()
        except BlockingIOError:
            pass
        finally:
            os.close(handle)


def publish(part: Path, path: Path) -> None:
    """Give a finished part its name; others may read it as they may what this user makes."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)


def download(address: str, target: Path, check: Check | None = None, size: int | None = None) -> None:
    """Write what lies at an address into a file.

    What fails is tried again, `ATTEMPTS` times in all, with growing pauses; not so where that cannot help. A line may
    be slow, but what stalls or drips (`PATIENCE`, `SLOWEST`) has failed.

    Args:
        address: The address or command.
        target: The file.
        check: Raises an OSError for bytes that are not what was meant to come.
        size: Bytes that are meant to come, if that is known: more are not waited for.

    Raises:
        OSError: If it fails; names the address.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _fetch(address, str(target), size)
            if os.path.getsize(target) == 0:
                raise OSError("no bytes arrived")
            if check is not None:
                check(target)
            return
        except Exception as error:
            said = str(error) or type(error).__name__
            full = isinstance(error, OSError) and error.errno == errno.ENOSPC
            if full or _is_hopeless(error) or attempt == ATTEMPTS:
                tried = f" in {attempt} attempts" if attempt > 1 else ""
                said += ". Set RELPRETRAIN_CACHE to a folder with room" if full else ""
                raise OSError(f"Shard {address!r} could not be copied to {target.parent}{tried}: {said}.") from error
            pause = WAIT * 2 ** (attempt - 1)
            _logger.warning("Shard %r: %s; attempt %d of %d in %g s", address, said, attempt + 1, ATTEMPTS, pause)
            time.sleep(pause)


def check_tar(path: Path) -> None:
    """Refuse what cannot be a whole tar file: an error page, half a file.

    Raises:
        OSError: If so.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(tarfile.BLOCKSIZE)
        file.seek(max(size - tarfile.BLOCKSIZE, 0))
        end = file.read()
    try:
        if any(head):  # else the end mark of an empty tar
            tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        if not head.startswith(b"\x1f\x8b"):  # a compressed one is refused by those who read it
            raise OSError(f"what came is no tar file, it begins with {head[:24]!r}") from None
        return
    if any(end) or size % tarfile.BLOCKSIZE:
        raise OSError(f"what came is cut off: {size:,} bytes without the end of a tar file")


def is_absent(error: OSError) -> bool:
    """Whether `fetch` failed because there is nothing at the address, or nothing for this user."""
    return error.__cause__ is not None and _is_hopeless(error.__cause__)


def _is_hopeless(error: BaseException) -> bool:
    refused = 400 <= getattr(error, "status", 0) < 500 and getattr(error, "status", 0) not in (408, 425, 429)
    return refused or isinstance(error, _HOPELESS)


@contextmanager
def no_commands(why: str) -> Iterator[None]:
    """Run no `pipe:` command meanwhile, in this process and those that it forks.

    Args:
        why: What is said where one is asked for.
    """
    global _refused
    before, _refused = _refused, why
    try:
        yield
    finally:
        _refused = before


class _Watch:
    """Ends a copy that drips, or brings more than it should."""

    def __init__(self, size: int | None) -> None:
        self.limit = size
        self._since, self._bytes, self._all = time.monotonic(), 0, 0

    def note(self, inc: int) -> None:
        """Note bytes that came."""
        self._bytes += inc
        self._all += inc
        passed = time.monotonic() - self._since
        if self.limit is not None and self._all > self.limit:
            raise OSError(f"more bytes came than the {self.limit:,} of its manifest")
        if passed >= PATIENCE:
            if self._bytes < SLOWEST * passed:
                raise TimeoutError(f"only {self._bytes:,} bytes came in {passed:.0f} s")
            self._since, self._bytes = time.monotonic(), 0


def _fetch(shard: str, target: str, size: int | None = None) -> None:
    """Write a shard's bytes into a file: through fsspec where it knows the address, else webdataset's openers."""
    if _refused and shard.startswith("pipe:"):
        raise PermissionError(_refused)
    import fsspec
    import webdataset  # loads torch, which workers that only write shards do without
    from webdataset.gopen import gopen_schemes

    options: dict[str, Any] = {}
    if shard.startswith(("http://", "https://")):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE / 2, sock_read=PATIENCE)
        options = {"client_kwargs": {"timeout": timeout}}
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
        watch = fsspec.callbacks.Callback()
        watch.relative_update = _Watch(size).note
        store.get_file(path, target, callback=watch)


def _after_fork() -> None:
    """The thread that fsspec works in is not there in a forked process; older versions of it wait for that one."""
    if (module := sys.modules.get("fsspec.asyn")) is not None:
        module.reset_lock()


os.register_at_fork(after_in_child=_after_fork)


def _digest(shard: str) -> str:
    return fingerprint(shard, 24)
