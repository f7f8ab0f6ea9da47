"""Where every sample of a shard lies and what it holds, so that any of them is one read away."""

from __future__ import annotations

import functools
import io
import json
import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relpretrain.data.shards.packed import PackedTexts
from relpretrain.data.shards.remote import cache_folder, is_remote, local_copy, name_of, place_of
from relpretrain.data.shards.writer import IMAGE_EXTENSIONS, write_atomically
from relpretrain.errors import BadSample
from relpretrain.identity import fingerprint
from relpretrain.reading import decode, mend, parse_json
from relpretrain.sources.common.values import as_number, identity

if TYPE_CHECKING:
    from relpretrain.types import Kind  # loads torch

_VERSION = 3
_PARTS = ("image", "json", "txt")
_COLUMNS: dict[Kind, int] = {"captions": 0, "regions": 1, "graphs": 2}


class RawSample(NamedTuple):
    """The bytes of one sample; `json` and `txt` are None where the shard has none."""

    key: str
    image: bytes
    json: bytes | None
    txt: bytes | None


class Problem(NamedTuple):
    """A sample that the index leaves out."""

    reason: str
    key: str


@dataclass
class ShardIndex:
    """Positions and counts of a shard's samples, in file order.

    Args:
        path: The tar on this machine.
        name: Its name without folder and ending.
        offsets: First byte of image, json and txt, (samples, 3), int64; -1 where absent.
        sizes: Their bytes, (samples, 3), int64.
        counts: Captions, entities and relations, (samples, 3), int32.
        keys: Names of the samples.
        image_ids: Identities of their images: the record's `image_id` or, as img2dataset writes it, `key`; else the
            sample's key.
        problems: What was left out: without image, without annotation, malformed, repeated, cut off.
        relations: How often each relation occurs in the samples, as JSON: one object, whoever forks.
    """

    path: Path
    name: str
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    counts: NDArray[np.int32]
    keys: PackedTexts = field(repr=False)
    image_ids: PackedTexts = field(repr=False)
    problems: list[Problem] = field(default_factory=list)
    relations: bytes = field(default=b"{}", repr=False)
    file: IO[bytes] | None = field(default=None, init=False, repr=False, compare=False)
    """The tar, where somebody keeps it open; else a read opens it, and the last few stay open."""

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def relation_counts(self) -> Counter[str]:
        """How often each relation occurs in the samples, as they spell it."""
        return Counter(json.loads(self.relations))

    def eligible(self, kind: Kind) -> NDArray[np.int64]:
        """Rows that have something for batches of a type: a caption, an entity, a relation."""
        return np.flatnonzero(self.counts[:, _COLUMNS[kind]] > 0)

    def place(self, row: int) -> str:
        """Where a sample is, as "shard/key"."""
        return f"{self.name}/{self.keys[row]}"

    def read(self, row: int) -> RawSample:
        """Read a sample's bytes, all in one go.

        Raises:
            OSError: If the shard is not there any more, or shorter than it was.
        """
        offsets, sizes = self.offsets[row], self.sizes[row]
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
        return RawSample(self.keys[row], parts[0] or b"", parts[1], parts[2])

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
        stamp = _stamp(path)
        stored = cls._stored(path, name, stamp)
        if stored is not None:
            return stored
        index = scan(path, name)
        for place in _places(path):
            if index._save(place, stamp):
                break
        return index

    @classmethod
    def stored(cls, shard: str | Path) -> ShardIndex | None:
        """The stored index of a shard, if there is one of this very file; a remote shard must have been copied.

        Raises:
            OSError: If a local shard cannot be read.
        """
        path = place_of(shard).absolute()
        if is_remote(shard) and not path.exists():
            return None
        return cls._stored(path, name_of(shard), _stamp(path))

    @classmethod
    def _stored(cls, path: Path, name: str, stamp: NDArray[np.int64]) -> ShardIndex | None:
        found = (cls._load(place, path, name, stamp) for place in _places(path))
        return next((index for index in found if index is not None), None)

    @classmethod
    def _load(cls, place: Path, path: Path, name: str, stamp: NDArray[np.int64]) -> ShardIndex | None:
        try:
            with np.load(place, allow_pickle=False) as data:
                if not np.array_equal(data["stamp"], stamp):
                    return None
                keys = PackedTexts(data["keys"], data["key_ends"])
                image_ids = PackedTexts(data["image_ids"], data["image_id_ends"])
                problems = [Problem(*problem) for problem in json.loads(data["problems"].tobytes())]
                places = data["offsets"], data["sizes"], data["counts"]
                return cls(path, name, *places, keys, image_ids, problems, data["relations"].tobytes())
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def _save(self, place: Path, stamp: NDArray[np.int64]) -> bool:
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            stamp=stamp,
            offsets=self.offsets,
            sizes=self.sizes,
            counts=self.counts,
            keys=self.keys.data,
            key_ends=self.keys.ends,
            image_ids=self.image_ids.data,
            image_id_ends=self.image_ids.ends,
            problems=np.frombuffer(json.dumps(self.problems).encode(), dtype=np.uint8),
            relations=np.frombuffer(self.relations, dtype=np.uint8),
        )
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.parent.stat().st_mode & 0o222:
                return False  # asked of the mode, for root may write anywhere
            write_atomically(place, buffer.getvalue())
        except OSError:
            return False
        return True


def _stamp(path: Path) -> NDArray[np.int64]:
    stat = path.stat()
    return np.array([_VERSION, stat.st_size, stat.st_mtime_ns], dtype=np.int64)


def _places(path: Path) -> list[Path]:
    """Where the index of a shard may be stored."""
    name = f"{fingerprint(str(path), 24)}.npz"
    return [path.with_name(f".{path.name}.index.npz"), cache_folder() / "indexes" / name]


@functools.lru_cache(maxsize=64)
def _open(path: str) -> IO[bytes]:
    return open(path, "rb", buffering=0)  # positioned reads only, so that forked workers may share it


def captions_of(record: Mapping[str, Any], txt: str | None) -> list[str]:
    """Captions of a sample: ours (`captions`), or those of img2dataset (`caption`, else the txt member).

    A text alone is a list of one. What is empty, and what in a list is no text, is passed over; a blank `caption` gives
    way to the txt member.

    Raises:
        ValueError: If they are neither text nor list.
    """
    for name in ("captions", "caption"):
        value = record.get(name)
        if value is None or value != value:  # NaN, as tables have it where nothing is
            continue
        if not isinstance(value, list | str):
            raise ValueError(f"{name} must be a list of texts, got {value!r:.60}")
        captions = [text.strip() for text in ([value] if isinstance(value, str) else value) if isinstance(text, str)]
        if name == "captions" or any(captions):
            return [caption for caption in captions if caption]
    return [txt.strip()] if txt and txt.strip() else []


def texts_of(json: bytes | None, txt: bytes | None) -> tuple[dict[str, Any], str]:
    """A sample's record and its txt member, each empty where it is absent.

    Raises:
        BadSample: If one of them cannot be read.
    """
    try:
        record = {} if json is None else parse_json(json)
    except ValueError as error:
        raise BadSample("malformed_json", str(error)) from None
    if not isinstance(record, dict):
        raise BadSample("malformed_json", "a record must be an object")
    try:
        return record, decode(txt or b"", "the text", "replace")
    except ValueError as error:
        raise BadSample("malformed_text", str(error)) from None


def image_id_of(record: Mapping[str, Any], key: str) -> str:
    """Identity of a sample's image: the record's `image_id` or, as img2dataset writes it, `key`; else its own key."""
    return identity(record.get("image_id")) or identity(record.get("key")) or key


def declared_size(record: Mapping[str, Any], width: int, height: int) -> tuple[float, float]:
    """The width and height that a record tells of its image; the image's own where it tells none."""
    told_width, told_height = (record.get(name) for name in ("width", "height"))
    return (
        width if told_width is None or told_width != told_width else as_number(told_width),
        height if told_height is None or told_height != told_height else as_number(told_height),
    )


def scan(path: Path, name: str) -> ShardIndex:
    """Index a tar by reading it once.

    Raises:
        ValueError: If the file is no uncompressed tar.
    """
    offsets: list[list[int]] = []
    sizes: list[list[int]] = []
    counts: list[tuple[int, int, int]] = []
    keys: list[str] = []
    image_ids: list[str] = []
    problems: list[Problem] = []
    relations: Counter[str] = Counter()
    seen: set[str] = set()
    with path.open("rb") as file:
        for key, members, whole in _groups(file, path):
            reason = _refusal(key, members, seen, whole)
            seen.add(key)
            if reason is None:
                try:
                    record, txt = _record(file, members)
                    count, image_id = _count(record, txt), image_id_of(record, mend(key))
                except BadSample as error:
                    reason = error.reason
                except (ValueError, RecursionError):
                    reason = "malformed_json"
            if reason is not None:
                problems.append(Problem(reason, mend(key)))
                continue
            counts.append(count)
            image_ids.append(image_id)
            relations.update(_relations(record))
            keys.append(mend(key))
            offsets.append([members.get(part, (-1, 0))[0] for part in _PARTS])
            sizes.append([members.get(part, (-1, 0))[1] for part in _PARTS])
    shape = (len(keys), 3)
    return ShardIndex(
        path,
        name,
        np.array(offsets, dtype=np.int64).reshape(shape),
        np.array(sizes, dtype=np.int64).reshape(shape),
        np.array(counts, dtype=np.int32).reshape(shape),
        PackedTexts.of(keys),
        PackedTexts.of(image_ids),
        problems,
        json.dumps(relations).encode(),
    )


_Members = dict[str, tuple[int, int]]  # part -> offset, size


def _groups(file: IO[bytes], path: Path) -> Iterator[tuple[str, _Members, bool]]:
    """Neighbouring members of one name, and whether the shard goes on whole after them."""
    key: str | None = None
    members: _Members = {}
    whole = False
    for found in _files(file, path):
        if found is None:
            whole = True
            break
        new, part, place = found
        # A part that comes twice begins a new sample of the same name, which is then refused as repeated.
        if key is not None and (new != key or part in members):
            yield key, members, True
            members = {}
        key = new
        if part is not None:
            members[part] = place
    if key is not None:
        yield key, members, whole
    if not whole and {"image", "json"} <= members.keys():
        yield "(end of shard)", {}, False


def _files(file: IO[bytes], path: Path) -> Iterator[tuple[str, str | None, tuple[int, int]] | None]:
    """Name, part and place of each file in a tar; a final None if the tar ends as it should."""
    size = path.stat().st_size
    end = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
                end = member.offset_data + (-(-member.size // 512) * 512 if member.isreg() else 0)
                folder, _, base = member.name.rpartition("/")
                stem, _, ending = base.partition(".")
                if not member.isreg() or not stem:
                    continue
                if member.offset_data + member.size > size:
                    return
                ending = ending.lower()
                part = "image" if ending in IMAGE_EXTENSIONS else ending if ending in _PARTS[1:] else None
                yield (f"{folder}/{stem}" if folder else stem), part, (member.offset_data, member.size)
    except tarfile.ReadError as error:
        if end == 0:
            file.seek(0)
            packed = file.read(2) == b"\x1f\x8b"
            remedy = "gunzip it first: samples are read by position" if packed else str(error)
            raise ValueError(f"Shard {path} is not an uncompressed tar file ({remedy}).") from None
        return
    file.seek(end)
    block = file.read(512)
    if len(block) == 512 and not any(block):  # the block of zeros that ends a tar
        yield None


def _refusal(key: str, members: _Members, seen: set[str], whole: bool) -> str | None:
    if not whole and not ("image" in members and "json" in members):
        return "truncated_shard"
    if key in seen:
        return "repeated_key"
    if "image" not in members:
        return "missing_image"
    if "json" not in members and "txt" not in members:
        return "missing_annotation"
    return None


def _record(file: IO[bytes], members: _Members) -> tuple[dict[str, Any], str]:
    """A sample's record and its txt member, each empty where it is absent."""
    position = file.tell()
    texts = {}
    for part in members.keys() & {"json", "txt"}:
        file.seek(members[part][0])
        texts[part] = file.read(members[part][1])
    file.seek(position)
    return texts_of(texts.get("json"), texts.get("txt"))


def _count(record: Mapping[str, Any], txt: str) -> tuple[int, int, int]:
    return len(captions_of(record, txt)), _length(record.get("entities")), _length(record.get("relations"))


def _length(value: Any) -> int:
    """How many things a list holds; whatever else is there counts as one, for those to judge who read it."""
    if isinstance(value, list):
        return len(value)
    return int(bool(value) and value == value)


def _relations(record: Mapping[str, Any]) -> list[str]:
    """Names of a record's relations; what has none makes a bad sample, which others count."""
    listed = record.get("relations")
    names = (item.get("relation") for item in (listed if isinstance(listed, list) else []) if isinstance(item, dict))
    return [name for name in names if isinstance(name, str) and name.strip()]
