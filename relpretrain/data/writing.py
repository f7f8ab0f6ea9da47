"""Writing tar shards: whole or not at all, and so that a conversion that was killed goes on where it was."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
"""Endings under which a shard keeps its images."""

PARTS = ("captions", "entities", "relations")
UNFINISHED = ".unfinished"


class ShardFile:
    """One tar on its way; it gets its name when it is whole.

    Equal samples give equal bytes.

    Args:
        path: The shard.

    Raises:
        OSError: If it cannot be written; names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys: set[str] = set()
        self.relations: Counter[str] = Counter()
        self._counts = Counter(dict.fromkeys(("samples", *PARTS), 0))
        self._temporary = path.with_name(f".{path.name}.part")
        with naming(path):
            self._file: IO[bytes] = self._temporary.open("wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w")  # noqa: SIM115

    def __len__(self) -> int:
        return self._counts["samples"]

    def write(self, key: str, image: bytes, extension: str, record: Mapping[str, Any]) -> None:
        """Append one sample; see `ShardWriter.write`."""
        if not key or "." in key.rsplit("/", 1)[-1] or key.startswith("/"):
            raise ValueError(f"Key {key!r} must be a relative name without a dot in its last part.")
        if extension not in IMAGE_EXTENSIONS:
            raise ValueError(f"Ending {extension!r} of {key!r} must be one of {', '.join(IMAGE_EXTENSIONS)}.")
        if key in self.keys:
            raise ValueError(f"Key {key!r} is written twice into one shard; keys must be unique.")
        text = json.dumps(dict(record), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        for ending, content in ((extension, image), ("json", text.encode())):
            member = tarfile.TarInfo(f"{key}.{ending}")
            member.size, member.mode, member.uname, member.gname = len(content), 0o644, "relpretrain", "relpretrain"
            with naming(self.path):
                self._tar.addfile(member, io.BytesIO(content))
        self.keys.add(key)
        self._counts["samples"] += 1
        for name in PARTS:
            self._counts[name] += len(record.get(name) or ())
        self.relations.update(str(relation["relation"]) for relation in record.get("relations") or ())

    def finish(self) -> dict[str, Any]:
        """Give the shard its name; returns that, its counts and its sha256."""
        with naming(self.path):
            self._tar.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            digest = sha256(self._temporary)
            os.replace(self._temporary, self.path)
        return {"name": self.path.name, **self._counts, "sha256": digest}

    def discard(self) -> None:
        """Leave nothing behind, unless the shard is finished."""
        with suppress(OSError):  # a full disk says so again
            self._file.close()
        self._temporary.unlink(missing_ok=True)


class ShardWriter:
    """Write samples into numbered tar shards and describe them in `index.json`.

    A context manager. Shards get their names only when the block ends well; an exception leaves nothing behind.
    Equal samples give equal bytes.

    Args:
        folder: Where the shards go; made if absent.
        samples_per_shard: Samples in every shard but the last.
        prefix: Beginning of the shards' names, followed by a number of six digits.
        overwrite: Replace the shards that the folder's `index.json` lists; otherwise such a folder is refused.

    Raises:
        FileExistsError: If the folder has an `index.json` already, unless `overwrite` is set.
    """

    def __init__(
        self, folder: str | Path, samples_per_shard: int = 1000, prefix: str = "shard", overwrite: bool = False
    ) -> None:
        if samples_per_shard < 1:
            raise ValueError(f"samples_per_shard={samples_per_shard} must be at least 1.")
        self.folder = Path(folder)
        self.samples_per_shard = samples_per_shard
        self.prefix = prefix
        self.overwrite = overwrite
        self.shards: list[dict[str, Any]] = []
        self.relations: Counter[str] = Counter()
        self._temporary: Path | None = None
        self._shard: ShardFile | None = None

    def __enter__(self) -> ShardWriter:
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / "index.json").exists() and not self.overwrite:
            raise FileExistsError(
                f"{self.folder} holds shards already (index.json): choose another folder, or pass overwrite=True."
            )
        self._temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=self.folder))
        return self

    def write(self, key: str, image: bytes, extension: str, record: Mapping[str, Any]) -> None:
        """Append one sample.

        Args:
            key: Name of the sample, unique in its shard; no dot in its last part, where the ending begins.
            image: The encoded image.
            extension: Its ending, one of jpg, jpeg, png, webp.
            record: The sample's JSON (README, "Shards").

        Raises:
            ValueError: If the key or the ending cannot be stored, or the key was written before.
        """
        if self._temporary is None:
            raise ValueError("ShardWriter writes inside a `with` block only.")
        if self._shard is None:
            self._shard = ShardFile(self._temporary / f"{self.prefix}-{len(self.shards):06d}.tar")
        self._shard.write(key, image, extension, record)
        if len(self._shard) == self.samples_per_shard:
            self._close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._temporary is not None
        try:
            if kind is None:
                self._close()
                publish(self._temporary, self.folder, self.shards, self.relations)
        finally:
            if self._shard is not None:
                self._shard.discard()
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = self._shard = None

    def _close(self) -> None:
        if self._shard is not None:
            self.shards.append(self._shard.finish())
            self.relations.update(self._shard.relations)
            self._shard = None


class ResumableWriter:
    """Write samples into numbered shards, in a way that goes on after a kill.

    A context manager. Finished shards wait in `.unfinished` inside the folder, with a journal of how far the input had
    been used when each was finished; a later writer with the same `arguments` takes them over, and the caller passes
    over `position` items of its input. `publish` gives the shards their place beside an `index.json`. Nothing but the
    journal decides what is finished, so that a kill at any moment loses no more than one shard's work.

    Args:
        folder: Where the shards go; made with the first sample.
        arguments: What the shards' content depends on, of plain types.
        samples_per_shard: Samples in every shard but the last.
        overwrite: Replace the folder's shards, and begin anew where other arguments were used before.

    Raises:
        ValueError: If the folder holds shards, or unfinished ones of other arguments, or another writer uses it.
    """

    def __init__(
        self, folder: Path, arguments: Mapping[str, Any], samples_per_shard: int = 1000, overwrite: bool = False
    ) -> None:
        self.folder = folder
        self.arguments = json.loads(json.dumps(dict(arguments)))
        self.samples_per_shard = samples_per_shard
        self.overwrite = overwrite
        self.position = 0
        self.dropped: Counter[str] = Counter()
        self.shards: list[dict[str, Any]] = []
        self.relations: Counter[str] = Counter()
        self.keys: set[str] = set()
        self._work = folder / UNFINISHED
        self._shard: ShardFile | None = None
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> ResumableWriter:
        check_writable(self.folder)
        if (self.folder / "index.json").exists() and not self.overwrite:
            raise ValueError(f"--out {self.folder} holds shards already; choose another folder, or add --overwrite")
        if self._work.is_dir():
            try:
                self._acquire()
                self._take_over()
            except BaseException:
                self._release()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shard is not None:
            self._shard.discard()
        self._release()

    @property
    def samples(self) -> int:
        """Samples so far, the shard that is being written included."""
        return sum(shard["samples"] for shard in self.shards) + (len(self._shard) if self._shard is not None else 0)

    def add(self, sample: tuple[str, bytes, str, Mapping[str, Any]] | None, dropped: Mapping[str, int]) -> None:
        """Take what became of the next item of the input.

        Args:
            sample: Key, image, ending and record as `ShardWriter.write` takes them, or None.
            dropped: Counts what was left out of it, by reason.
        """
        self.position += 1
        self.dropped.update(dropped)
        if sample is None:
            return
        with self._telling():
            if self._shard is None:
                self._begin()
                self._shard = ShardFile(self._work / f"shard-{len(self.shards):06d}.tar")
            self._shard.write(*sample)
            self.keys.add(sample[0])
            if len(self._shard) == self.samples_per_shard:
                self._close()

    def publish(self, extra: Mapping[str, Any]) -> None:
        """Finish: the last shard, all shards' names, and `index.json` with further entries."""
        with self._telling():
            self._close()
            publish(self._work, self.folder, self.shards, self.relations, extra)
        shutil.rmtree(self._work, ignore_errors=True)

    def _begin(self) -> None:
        if self._lock is None:
            self._work.mkdir(parents=True, exist_ok=True)
            self._acquire()
            write_atomically(self._work / "arguments.json", json.dumps(self.arguments, indent=1).encode())

    def _close(self) -> None:
        if self._shard is None:
            return
        shard, relations = self._shard.finish(), self._shard.relations
        entry = {"shard": shard, "relations": relations, "position": self.position, "dropped": self.dropped}
        with (self._work / "journal.jsonl").open("ab") as file:
            file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.shards.append(shard)
        self.relations.update(relations)
        self._shard = None

    def _take_over(self) -> None:
        path = self._work / "arguments.json"
        old = json.loads(path.read_bytes()) if path.exists() else self.arguments
        if old != self.arguments:
            if not self.overwrite:
                different = sorted(n for n in {*old, *self.arguments} if old.get(n) != self.arguments.get(n))
                raise ValueError(
                    f"--out {self.folder} holds an unfinished conversion with other arguments or files "
                    f"({', '.join(different)}): repeat those to go on, or add --overwrite to begin anew"
                )
            self._release()
            shutil.rmtree(self._work)
            return
        journal = self._work / "journal.jsonl"
        lines = journal.read_bytes().splitlines(keepends=True) if journal.exists() else []
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()  # the line that a kill cut off: its shard is written again
            write_atomically(journal, b"".join(lines))
        for line in lines:
            entry = json.loads(line)
            self.shards.append(entry["shard"])
            self.relations.update(entry["relations"])
            self.position, self.dropped = entry["position"], Counter(entry["dropped"])
            self.keys.update(_keys(self._place(entry["shard"])))

    def _place(self, shard: Mapping[str, Any]) -> Path:
        """Where a finished shard is: a kill while publishing leaves some in either place."""
        for folder in (self._work, self.folder):
            if (folder / shard["name"]).is_file():
                return folder / str(shard["name"])
        raise ValueError(f"{self._work} lacks {shard['name']}, which its journal lists: remove {self._work}")

    def _acquire(self) -> None:
        self._lock = (self._work / "lock").open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process writes to {self.folder} at the moment") from None

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kept = f"{len(self.shards)} finished shard{'s' * (len(self.shards) != 1)} and where they end are kept"
            why = f"{error.strerror or error}; {kept}: set this right and run the same command again to go on"
            raise OSError(error.errno, why, str(self.folder)) from error


def publish(
    work: Path,
    folder: Path,
    shards: Sequence[Mapping[str, Any]],
    relations: Mapping[str, int],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Move finished shards to their folder in place of those that its index lists, and write the index."""
    index = folder / "index.json"
    if index.exists():
        old = {shard["name"] for shard in json.loads(index.read_text(encoding="utf-8"))["shards"]}
        index.unlink()
        for name in old - {shard["name"] for shard in shards}:
            (folder / name).unlink(missing_ok=True)
    for shard in shards:
        if (work / shard["name"]).exists():
            os.replace(work / shard["name"], folder / shard["name"])
    totals = {name: sum(shard[name] for shard in shards) for name in ("samples", *PARTS)}
    histogram = dict(sorted(relations.items(), key=lambda item: (-item[1], item[0])))
    content = {"shards": list(shards), **totals, "relation_counts": histogram, **(extra or {})}
    write_atomically(index, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())


def check_writable(folder: Path) -> None:
    """Refuse a folder that can neither be written nor made.

    Raises:
        OSError: If so; names it.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise NotADirectoryError(20, "Not a directory", str(folder))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(13, "Permission denied", str(folder))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in errors of the system that do not, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that its name never stands for a part of it."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's own mode shuts other users out
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _keys(shard: Path) -> Iterator[str]:
    with tarfile.open(shard, "r:") as tar:
        for member in tar:
            if member.name.endswith(".json"):
                yield member.name.removesuffix(".json")
