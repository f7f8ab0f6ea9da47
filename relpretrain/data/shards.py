"""Tar shards on disk: writing them whole or not at all, and finding them by pattern or address."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import webdataset

from relpretrain.data.remote import cache_folder as cache_folder
from relpretrain.data.remote import find_remote
from relpretrain.data.remote import is_remote as is_remote
from relpretrain.data.remote import local_copy as local_copy

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
"""Endings under which a shard keeps its images."""

_MTIME = 0
_USER = "relpretrain"


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
        self._keys: set[str] = set()
        self._temporary: Path | None = None
        self._file: IO[bytes] | None = None
        self._tar: Any = None

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
        if not key or "." in key.rsplit("/", 1)[-1] or key.startswith("/"):
            raise ValueError(f"Key {key!r} must be a relative name without a dot in its last part.")
        if extension not in IMAGE_EXTENSIONS:
            raise ValueError(f"Ending {extension!r} of {key!r} must be one of {', '.join(IMAGE_EXTENSIONS)}.")
        if key in self._keys:
            raise ValueError(f"Key {key!r} is written twice into one shard; keys must be unique.")
        if self._tar is None:
            self._open()
        text = json.dumps(dict(record), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        self._tar.write({"__key__": key, extension: image, "json": text.encode()})
        self._keys.add(key)
        shard = self.shards[-1]
        shard["samples"] += 1
        for name in ("captions", "entities", "relations"):
            shard[name] += len(record.get(name) or ())
        self.relations.update(str(relation["relation"]) for relation in record.get("relations") or ())
        if shard["samples"] == self.samples_per_shard:
            self._close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._close()
                self._publish()
        finally:
            if self._file is not None:
                self._file.close()
            shutil.rmtree(self._temporary or "", ignore_errors=True)
            self._temporary = self._file = self._tar = None

    def _open(self) -> None:
        assert self._temporary is not None
        self._keys.clear()
        name = f"{self.prefix}-{len(self.shards):06d}.tar"
        self.shards.append({"name": name, "samples": 0, "captions": 0, "entities": 0, "relations": 0})
        self._file = (self._temporary / name).open("wb")
        self._tar = webdataset.TarWriter(
            self._file, user=_USER, group=_USER, mode=0o644, encoder=False, mtime=_MTIME, compress=False
        )

    def _close(self) -> None:
        if self._file is None:
            return
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self.shards[-1]["sha256"] = sha256(Path(self._file.name))
        self._file = self._tar = None

    def _publish(self) -> None:
        assert self._temporary is not None
        index = self.folder / "index.json"
        old = {s["name"] for s in json.loads(index.read_text())["shards"]} if index.exists() else set()
        for name in old - {shard["name"] for shard in self.shards}:
            (self.folder / name).unlink(missing_ok=True)
        for shard in self.shards:
            os.replace(self._temporary / shard["name"], self.folder / shard["name"])
        totals = {name: sum(s[name] for s in self.shards) for name in ("samples", "captions", "entities", "relations")}
        histogram = dict(sorted(self.relations.items(), key=lambda item: (-item[1], item[0])))
        content = {"shards": self.shards, **totals, "relation_counts": histogram}
        write_atomically(index, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())


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


def resolve_shards(patterns: str | Sequence[str]) -> list[str]:
    """Find the shards that a recipe names.

    Args:
        patterns: A folder (all its `*.tar`), a file, a glob, a brace pattern such as `a-{000..127}.tar`, an address
            (in object stores also with `*`) or a `pipe:` command; or a list of these.

    Returns:
        Shards in the order of the patterns, sorted within a glob or folder, each once. Addresses stay addresses.

    Raises:
        FileNotFoundError: If a pattern matches nothing; says from where it was looked for.
        OSError: If an object store cannot be listed.
    """
    shards: dict[str, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        for part in _expand_braces(pattern):
            shards.update(dict.fromkeys(find_remote(part) if is_remote(part) else _find(part, pattern)))
    if not shards:
        raise FileNotFoundError(f"No shard is named: {patterns!r}.")
    return list(shards)


def _expand_braces(pattern: str) -> list[str]:
    if "{" not in pattern:
        return [pattern]
    try:
        return list(webdataset.shardlists.expand_urls(pattern))
    except ValueError as error:
        raise FileNotFoundError(f"Shard pattern {pattern!r} cannot be expanded: {error}.") from None


def _find(part: str, pattern: str) -> list[str]:
    path = Path(part.removeprefix("file://")).expanduser()
    if path.is_dir():
        found = sorted(str(p) for p in path.glob("*.tar"))
    elif path.is_file():
        found = [str(path)]
    else:
        found = sorted(p for p in glob.glob(str(path), recursive=True) if os.path.isfile(p))
    if found:
        return found
    named = repr(part) if part == pattern else f"{part!r} (of {pattern!r})"
    if path.is_dir():
        raise FileNotFoundError(f"Shard folder {named} holds no *.tar file (working directory {os.getcwd()}).")
    nearest = next(parent for parent in path.absolute().parents if parent.is_dir())
    raise FileNotFoundError(
        f"Shard pattern {named} matches no file (working directory {os.getcwd()}; nearest existing folder {nearest})."
    )
