"""Writing tar shards, whole or not at all."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeGuard

from relpretrain.data.shards.record import NEEDS, PARTS, counts_of
from relpretrain.identity import file_digest
from relpretrain.kinds import Need
from relpretrain.reading import mend, read_json
from relpretrain.writing import aside

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
"""Endings under which a shard keeps its images."""


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
        self._relations: Counter[str] = Counter()
        self._counts = Counter(dict.fromkeys(("samples", *PARTS), 0))
        self._eligible: Counter[Need] = Counter(dict.fromkeys(NEEDS, 0))
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
        for ending, content in ((extension, image), ("json", mend(text).encode())):
            member = tarfile.TarInfo(f"{key}.{ending}")
            member.size, member.mode, member.uname, member.gname = len(content), 0o644, "relpretrain", "relpretrain"
            with naming(self.path):
                self._tar.addfile(member, io.BytesIO(content))
        self.keys.add(key)
        self._counts["samples"] += 1
        counts = counts_of(record, len(record.get("captions") or ()))
        self._counts.update(dict(zip(PARTS, counts, strict=False)))
        self._eligible.update({need: int(counts[place] > 0) for need, place in NEEDS.items()})
        self._relations.update(str(relation["relation"]) for relation in record.get("relations") or ())

    def finish(self) -> dict[str, Any]:
        """Give the shard its name; returns what a manifest says of it, with `relation_counts` by name."""
        with naming(self.path):
            self._tar.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            digest, size = file_digest(self._temporary), self._temporary.stat().st_size
            os.replace(self._temporary, self.path)
        described = {"name": self.path.name, **self._counts, "bytes": size, "sha256": digest}
        return described | {"eligible": dict(self._eligible), "relation_counts": dict(self._relations)}

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
        ValueError: If that is no list of shards.
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
        self._temporary: Path | None = None
        self._shard: ShardFile | None = None

    def __enter__(self) -> ShardWriter:
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / "index.json").exists() and not self.overwrite:
            raise FileExistsError(
                f"{self.folder} holds shards already (index.json): choose another folder, or pass overwrite=True."
            )
        if (self.folder / "index.json").exists():
            replaceable(self.folder)  # or tell at once that it is none
        self._temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=self.folder))
        return self

    def write(self, key: str, image: bytes, extension: str, record: Mapping[str, Any]) -> None:
        """Append one sample.

        Args:
            key: Name of the sample, unique in its shard; no dot in its last part, where the ending begins.
            image: The encoded image.
            extension: Its ending, one of jpg, jpeg, png, webp.
            record: The sample's JSON (docs/reference/sample_format.md).

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
                publish(self._temporary, self.folder, self.shards)
        finally:
            if self._shard is not None:
                self._shard.discard()
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = self._shard = None

    def _close(self) -> None:
        if self._shard is not None:
            self.shards.append(self._shard.finish())
            self._shard = None


def publish(
    work: Path, folder: Path, shards: Sequence[Mapping[str, Any]], extra: Mapping[str, Any] | None = None
) -> None:
    """Move finished shards to their folder in place of those that its index lists, and write the index.

    Raises:
        ValueError: If the index is none, or a name leads elsewhere.
    """
    check_names(work, shards)
    index = folder / "index.json"
    if index.exists():
        old = replaceable(folder)
        index.unlink()
        for name in old - {shard["name"] for shard in shards}:
            (folder / name).unlink(missing_ok=True)
    for shard in shards:
        if (work / shard["name"]).exists():
            os.replace(work / shard["name"], folder / shard["name"])
    write_manifest(index, shards, extra)


def replaceable(folder: Path) -> set[str]:
    """The shards of a folder that its index lists; what it names elsewhere is not for us to remove.

    Raises:
        ValueError: If the index is none.
    """
    index = folder / "index.json"
    content = read_json(index, "the list of shards")
    listed = content.get("shards") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise ValueError(f"{index} is no list of shards, so it is not known what to replace: choose another folder")
    names = (shard.get("name") for shard in listed if isinstance(shard, dict))
    return {name for name in names if is_plain(name) and not (folder / name).is_dir()}


def check_names(place: Path, shards: Iterable[Mapping[str, Any]]) -> None:
    """Check that shards are files of the folder that says so, and lead nowhere else.

    Raises:
        ValueError: If not; shows the name.
    """
    for shard in shards:
        if not is_plain(shard.get("name")):
            raise ValueError(
                f"{place} lists {shard.get('name')!r:.80}, expected the name of a .tar in it: remove {place}"
            )


def is_plain(name: object) -> TypeGuard[str]:
    """Whether something is the name of a tar, without any folder."""
    return isinstance(name, str) and name.endswith(".tar") and "\0" not in name and os.path.basename(name) == name


def write_manifest(place: Path, shards: Sequence[Mapping[str, Any]], extra: Mapping[str, Any] | None = None) -> None:
    """Write a manifest, whole or not at all.

    Args:
        place: The file.
        shards: What `describe` says of each, with a `name` that leads from the manifest to the shard.
        extra: Further entries.
    """
    total: Counter[str] = Counter()
    for shard in shards:
        total.update(shard["relation_counts"])
    names = dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))
    numbers = {name: number for number, name in enumerate(names)}
    listed = []
    for shard in shards:
        plain = {name: value for name, value in shard.items() if value != {} and name != "relation_counts"}
        packed = pack_counts(shard["relation_counts"], numbers)
        listed.append(plain | ({"relation_numbers": packed} if packed else {}))
    totals = {name: sum(shard[name] for shard in shards) for name in ("samples", *PARTS)}
    content = {"shards": listed, **totals, "relation_counts": names, **(extra or {})}
    write_atomically(place, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())


def pack_counts(counts: Mapping[str, int], numbers: Mapping[str, int]) -> str:
    """Counts by name as `ShardEntry.relation_numbers`.

    Args:
        counts: How often each relation occurs.
        numbers: The place of each name.
    """
    return " ".join(f"{number} {count}" for number, count in sorted((numbers[n], c) for n, c in counts.items()))


def lock(path: Path, busy: str) -> IO[bytes]:
    """Lock a file until what is returned is closed, or the process ends.

    Args:
        path: The file, which is made.
        busy: What is said if another process holds it.

    Raises:
        ValueError: If another process holds it.
    """
    file = path.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ValueError(busy) from None
    return file


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


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that its name never stands for a part of it."""
    with aside(path) as file:
        file.write(content)
