"""Where every sample of a shard lies and what it holds, so that any of them is one read away.

The table of a shard is a file beside it, mapped into memory while it is looked at: processes share its pages, and
shards that nobody reads take none.
"""

from __future__ import annotations

import functools
import json
import mmap
import os
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relpretrain.data.shards.packed import PackedTexts
from relpretrain.data.shards.record import NEEDS, Counts
from relpretrain.data.shards.remote import cache_folder, is_remote, local_copy, name_of, place_of
from relpretrain.data.shards.scan import Columns, Problem, scan
from relpretrain.data.shards.writer import write_atomically
from relpretrain.identity import fingerprint
from relpretrain.kinds import Need

_VERSION = 5
_COUNTS = len(Counts._fields)
_OPEN = 64  # shards, and tables of shards, that a process keeps open
_ALIGNED = 64


class RawSample(NamedTuple):
    """The bytes of one sample; `json` and `txt` are None where the shard has none."""

    key: str
    image: bytes
    json: bytes | None
    txt: bytes | None


class _Stamp(NamedTuple):
    """What tells one version of a shard from another."""

    version: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> _Stamp:
        stat = path.stat()
        return cls(_VERSION, stat.st_size, stat.st_mtime_ns)


@dataclass
class ShardIndex:
    """The table of a shard's samples, in file order; `len` says how many there are.

    Args:
        path: The tar on this machine.
        name: Its name without folder and ending.
        samples: How many it holds.
        problems: What was left out: without image, without annotation, malformed, repeated, cut off.
        relations: How often each relation occurs in the samples, as JSON: one object, whoever forks.
        stamp: Size and time of the tar that was read.
        stored_at: The file that holds the columns.
        held: The columns themselves, where they are in no file.
    """

    path: Path
    name: str
    samples: int
    problems: list[Problem]
    relations: bytes = field(repr=False)
    stamp: _Stamp = field(repr=False)
    stored_at: Path | None = field(default=None, repr=False)
    held: Columns | None = field(default=None, repr=False)
    file: IO[bytes] | None = field(default=None, init=False, repr=False, compare=False)
    """The tar, where somebody keeps it open; else a read opens it, and the last few stay open."""

    def __len__(self) -> int:
        return self.samples

    @property
    def columns(self) -> Columns:
        """Where the samples lie and what they hold; mapped into memory when looked at, and then for some time.

        Raises:
            OSError: If its file is gone and the shard has changed, or the file is of another shard.
        """
        if self.held is None:
            try:
                return _mapped(str(self.stored_at), self.stamp)
            except OSError:
                again = self.of(self.path)
            except ValueError:  # a table that somebody else has made
                again = self.scan(self.path, self.name)
            if again.stamp != self.stamp:
                raise OSError(f"Shard {self.path} has changed during the run.")
            if again.samples != self.samples:
                raise OSError(f"Shard {self.path} is not what {self.stored_at} says of it: remove that file.")
            self.stored_at, self.held = again.stored_at, again.held
            return again.columns
        return self.held

    @property
    def offsets(self) -> NDArray[np.int64]:
        """First byte of image, json and txt, (samples, 3); -1 where absent."""
        return self.columns.offsets

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Their bytes, (samples, 3)."""
        return self.columns.sizes

    @property
    def counts(self) -> NDArray[np.int32]:
        """What each sample holds (`record.Counts`), (samples, 5)."""
        return self.columns.counts

    @property
    def keys(self) -> PackedTexts:
        """Names of the samples."""
        return self.columns.keys

    @property
    def image_ids(self) -> PackedTexts:
        """Identities of their images."""
        return self.columns.image_ids

    @property
    def relation_counts(self) -> Counter[str]:
        """How often each relation occurs in the samples, as they spell it."""
        return Counter(json.loads(self.relations))

    def eligible(self, need: Need) -> NDArray[np.int64]:
        """Rows that have what a stream needs: a caption, an entity with a box, a relation, one between two boxes."""
        return np.flatnonzero(self.counts[:, NEEDS[need]] > 0)

    def place(self, row: int) -> str:
        """Where a sample is, as "shard/key"."""
        return f"{self.name}/{self.keys[row]}"

    def read(self, row: int) -> RawSample:
        """Read a sample's bytes, all in one go.

        Raises:
            OSError: If the shard is not there any more, or shorter than it was.
        """
        columns = self.columns
        offsets, sizes = columns.offsets[row], columns.sizes[row]
        start = int(offsets[offsets >= 0].min())
        stop = int((offsets + sizes).max())
        try:
            data = os.pread((self.file or _open(str(self.path))).fileno(), stop - start, start)
        except FileNotFoundError:
            raise OSError(
                f"Shard {self.path} disappeared during the run. Put it back and resume: the run goes on with exactly "
                "the next batch."
            ) from None
        if len(data) < stop - start:
            raise OSError(f"Shard {self.path} is shorter than when it was indexed: it changed during the run.")
        parts = [
            data[o - start : o - start + n] if o >= 0 else None
            for o, n in zip(offsets.tolist(), sizes.tolist(), strict=True)
        ]
        return RawSample(columns.keys[row], parts[0] or b"", parts[1], parts[2])

    @classmethod
    def of(cls, shard: str | Path) -> ShardIndex:
        """The index of a shard: the stored one if it is of this very file, else a new one, stored if possible.

        It is kept beside the shard, or in the cache folder where that cannot be written.

        Raises:
            ValueError: If the file is no tar.
            OSError: If it cannot be read.
        """
        return cls.at(local_copy(shard).absolute(), name_of(shard))

    @classmethod
    def at(cls, path: Path, name: str) -> ShardIndex:
        """The index of a tar on this machine, as `of`, under a name of its own."""
        stored = cls._stored(path, name)
        if stored is not None:
            return stored
        index = cls.scan(path, name)
        for place in tables_of(index.path):
            if _save(index, place):
                index.stored_at, index.held = place, None
                break
        return index

    @classmethod
    def scan(cls, path: Path, name: str) -> ShardIndex:
        """Index a tar by reading it once; nothing is stored.

        Raises:
            ValueError: If the file is no uncompressed tar.
            OSError: If it cannot be read.
        """
        stamp = _Stamp.of(path)
        columns, problems, relations = scan(path)
        return cls(path, name, len(columns.keys), problems, json.dumps(relations).encode(), stamp, None, columns)

    @classmethod
    def stored(cls, shard: str | Path) -> ShardIndex | None:
        """The stored index of a shard, if there is one of this very file; a remote shard must have been copied.

        Raises:
            OSError: If a local shard cannot be read.
        """
        path = place_of(shard).absolute()
        if is_remote(shard) and not path.exists():
            return None
        return cls._stored(path, name_of(shard))

    @classmethod
    def _stored(cls, path: Path, name: str) -> ShardIndex | None:
        stamp = _Stamp.of(path)
        for place in tables_of(path):
            try:
                if not place.is_file():
                    continue
                with place.open("rb") as file:
                    head, _ = _head(file, stamp)
            except (OSError, ValueError):
                continue
            problems = [Problem(*problem) for problem in head["problems"]]
            relations = json.dumps(head["relations"]).encode()
            return cls(path, name, head["samples"], problems, relations, stamp, place)
        return None


def tables_of(path: Path) -> list[Path]:
    """Where the table of a shard may be stored: beside it, and in the cache folder."""
    return [path.with_name(f".{path.name}.index"), cache_folder() / "indexes" / fingerprint(str(path), 24)]


def _save(index: ShardIndex, place: Path) -> bool:
    """Store a table: the length of a head in JSON, the head, and the columns, the widest numbers first."""
    offsets, sizes, counts, keys, image_ids = index.columns
    head = {"stamp": index.stamp, "samples": len(index), "bytes": [len(keys.data), len(image_ids.data)]}
    head |= {"problems": index.problems, "relations": index.relation_counts}
    text = json.dumps(head).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNED)
    wide = [array.astype("<i8").tobytes() for array in (offsets, sizes, keys.ends, image_ids.ends)]
    content = [len(text).to_bytes(8, "little"), text, *wide, counts.astype("<i4").tobytes()]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.parent.stat().st_mode & 0o222:
            return False  # asked of the mode, for root may write anywhere
        write_atomically(place, b"".join([*content, keys.data.tobytes(), image_ids.data.tobytes()]))
        place.with_name(f"{place.name}.npz").unlink(missing_ok=True)  # of an earlier version
    except OSError:
        return False
    return True


def _head(file: IO[bytes], stamp: _Stamp) -> tuple[dict[str, Any], int]:
    """The head of a stored table, and where its columns begin.

    Raises:
        ValueError: If it is damaged, or of another version of the shard.
    """
    length = int.from_bytes(file.read(8), "little")
    size = os.fstat(file.fileno()).st_size
    if not 0 < length < size:
        raise ValueError("no table")
    try:
        head = json.loads(file.read(length))
        samples, texts = head["samples"], sum(head["bytes"])
        fits = head["stamp"] == list(stamp) and size == 8 + length + samples * (8 * 8 + _COUNTS * 4) + texts
        fits &= min(samples, *head["bytes"]) >= 0 and isinstance(head["relations"], dict)
        fits &= all(isinstance(text, str) for problem in head["problems"] for text in Problem(*problem))
        fits &= all(type(count) is int and count > 0 for count in head["relations"].values())
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no table: {error!r}") from None
    if not fits:
        raise ValueError("the table of another file")
    return head, 8 + length


@functools.lru_cache(maxsize=_OPEN)
def _mapped(place: str, stamp: _Stamp) -> Columns:
    with open(place, "rb") as file:
        head, start = _head(file, stamp)
        data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    samples, (key_bytes, id_bytes) = head["samples"], head["bytes"]
    widths = [3 * 8, 3 * 8, 8, 8, _COUNTS * 4]  # bytes a sample
    ends = start + np.cumsum([0, *(width * samples for width in widths), key_bytes, id_bytes])
    parts = [data[a:b] for a, b in pairwise(ends.tolist())]
    offsets, sizes = (part.view("<i8").reshape(-1, 3) for part in parts[:2])
    keys, image_ids = (PackedTexts(parts[i + 3], parts[i].view("<i8")) for i in (2, 3))
    counts = parts[4].view("<i4").reshape(-1, _COUNTS)
    inside = (sizes >= 0).all() and (offsets >= -1).all() and (offsets <= stamp.size - sizes).all()
    if not (inside and (offsets[:, 0] >= 0).all() and (counts >= 0).all() and keys.sound and image_ids.sound):
        raise ValueError("a table that leads out of its shard")
    return Columns(offsets, sizes, counts, keys, image_ids)


@functools.lru_cache(maxsize=_OPEN)
def _open(path: str) -> IO[bytes]:
    return open(path, "rb", buffering=0)  # positioned reads only, so that forked workers may share it
