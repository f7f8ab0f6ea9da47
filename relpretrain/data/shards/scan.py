"""Reading a tar once: where every sample lies and what it holds."""

from __future__ import annotations

import os
import re
import struct
import tarfile
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relpretrain.data.shards.packed import PackedTexts
from relpretrain.data.shards.record import Counts, captions_of, counts_of, image_id_of, texts_of
from relpretrain.data.shards.writer import IMAGE_EXTENSIONS
from relpretrain.errors import BadSample
from relpretrain.reading import mend

BLOCK = 512
"""Bytes of a tar's header, and of what every member is filled up to."""

_PARTS = ("image", "json", "txt")
_PART_OF = {**dict.fromkeys(IMAGE_EXTENSIONS, "image"), "json": "json", "txt": "txt"}
_ABSENT = (-1, 0)
_AHEAD = 8 << 10  # bytes that are read at a time: a sample's texts and the next header mostly lie in them

# A regular file's header as every writer makes it where a name has at most 100 bytes: owner, size, time and checksum in
# octal digits, no link, no prefix. Whatever looks otherwise is for `tarfile` to read.
_PLAIN = re.compile(
    rb"(?:[0-7]{7}\0|[0-7]{6} \0){3}([0-7]{11})[\0 ][0-7]{11}[\0 ]"  # mode, owner, group; size; time
    rb"([0-7]{6})\0 [0\0]\0{100}ustar(?:\x0000|  \0)"  # checksum; type, link, format
    rb".{64}(?:[0-7]{7}\0|[0-7]{6} \0|\0{8}){2}\0{155}",  # names of owner and group, device, prefix
    re.DOTALL,
)


# What `tarfile` raises of headers whose sizes are no sizes.
_BROKEN = (tarfile.ReadError, ValueError, OverflowError, MemoryError, RecursionError, struct.error)


class Problem(NamedTuple):
    """A sample that the index leaves out."""

    reason: str
    key: str


class Columns(NamedTuple):
    """Positions and counts of a shard's samples, in file order.

    Args:
        offsets: First byte of image, json and txt, (samples, 3), int64; -1 where absent.
        sizes: Their bytes, (samples, 3), int64.
        counts: What each holds (`record.Counts`), (samples, 5), int32.
        keys: Names of the samples.
        image_ids: Identities of their images: the record's `image_id` or, as img2dataset writes it, `key`; else the
            sample's key.
    """

    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    counts: NDArray[np.int32]
    keys: PackedTexts
    image_ids: PackedTexts


def scan(path: Path) -> tuple[Columns, list[Problem], Counter[str]]:
    """Read a tar once.

    Returns:
        Where its samples lie, what was left out, and how often each relation occurs.

    Raises:
        ValueError: If the file is no uncompressed tar.
    """
    offsets, sizes, counts = array("q"), array("q"), array("i")  # flat: millions of small lists are slow to collect
    keys: list[str] = []
    image_ids: list[str] = []
    problems: list[Problem] = []
    relations: Counter[str] = Counter()
    seen: set[str] = set()
    with path.open("rb", buffering=0) as raw:
        file = _Window(raw)
        for stem, members, whole in _groups(file, path):
            reason = _refusal(stem, members, seen, whole)
            seen.add(stem)
            key = mend(stem)
            if reason is None:
                try:
                    json, txt = (file.read(*members[part]) if part in members else None for part in ("json", "txt"))
                    record, text = texts_of(json, txt)
                    count = counts_of(record, len(captions_of(record, text)))
                    image_id = image_id_of(record, key)
                except BadSample as error:
                    reason = error.reason
                except (ValueError, RecursionError):
                    reason = "malformed_json"
            if reason is not None:
                problems.append(Problem(reason, key))
                continue
            counts.extend(count)
            image_ids.append(image_id)
            if count.relations:
                relations.update(_relations(record))
            keys.append(key)
            for part in _PARTS:
                offset, size = members.get(part, _ABSENT)
                offsets.append(offset)
                sizes.append(size)
    columns = Columns(
        np.array(offsets, dtype=np.int64).reshape(-1, 3),
        np.array(sizes, dtype=np.int64).reshape(-1, 3),
        np.array(counts, dtype=np.int32).reshape(-1, len(Counts._fields)),
        PackedTexts.of(keys),
        PackedTexts.of(image_ids),
    )
    return columns, problems, relations


_Members = dict[str, tuple[int, int]]  # part -> offset, size


class _Window:
    """Bytes of a file by position, with some read ahead."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.raw = raw
        self.size = os.fstat(raw.fileno()).st_size
        self._start = 0
        self._data = b""

    def read(self, offset: int, size: int) -> bytes:
        """Some bytes, fewer at the end of the file."""
        start = offset - self._start
        if start < 0 or start + size > len(self._data):
            self._data = os.pread(self.raw.fileno(), max(size, _AHEAD), offset)
            self._start, start = offset, 0
        return self._data[start : start + size]


def _groups(file: _Window, path: Path) -> Iterator[tuple[str, _Members, bool]]:
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


def _files(file: _Window, path: Path) -> Iterator[tuple[str, str | None, tuple[int, int]] | None]:
    """Name, part and place of each file in a tar; a final None if the tar ends as it should."""
    try:
        for member in _members(file):
            if member is None:
                yield None
                return
            name, offset, size = member
            folder, _, base = name.rpartition("/")
            stem, _, ending = base.partition(".")
            if not stem:
                continue
            if offset + size > file.size:
                return
            yield (f"{folder}/{stem}" if folder else stem), _PART_OF.get(ending.lower()), (offset, size)
    except tarfile.ReadError as error:
        packed = file.read(0, 2) == b"\x1f\x8b"
        remedy = "gunzip it first: samples are read by position" if packed else str(error)
        raise ValueError(f"Shard {path} is not an uncompressed tar file ({remedy}).") from None


def _members(file: _Window) -> Iterator[tuple[str, int, int] | None]:
    """Name, first byte and size of each regular file of a tar; a final None if it ends as it should.

    Raises:
        tarfile.ReadError: If the file does not begin as a tar.
    """
    place = 0
    tar: tarfile.TarFile | None = None
    while True:
        header = file.read(place, BLOCK)
        # What a global header says of all members is for `tarfile` to apply.
        if (tar is None or not tar.pax_headers) and (found := _plain(header)):
            name, size = found
            yield name, place + BLOCK, size
            place += BLOCK + -(-size // BLOCK) * BLOCK
            continue
        try:
            if tar is None:
                tar = tarfile.open(fileobj=file.raw, mode="r:")  # noqa: SIM115
            member = _odd(tar, place)
        except _BROKEN as error:
            if place == 0:
                raise tarfile.ReadError(str(error)) from None
            return
        if member is None:
            break
        if member.isreg() and not member.issparse():
            yield member.name, member.offset_data, member.size
        place = tar.offset
    if len(header) == BLOCK and not any(header):  # the block of zeros that ends a tar
        yield None


def _plain(header: bytes) -> tuple[str, int] | None:
    """Name and size of a regular file, read without `tarfile`; None of anything else."""
    found = _PLAIN.match(header, 100)
    if found is None:
        return None
    # The lower half of Adler-32 is one more than the sum of all bytes. A header's checksum counts its own as blanks.
    total = int(found[2], 8) + sum(header[148:156]) - 8 * ord(" ")
    if zlib.adler32(header) & 0xFFFF != (1 + total) % 65521:
        return None
    name = header[:100].partition(b"\0")[0].decode(tarfile.ENCODING, "surrogateescape")
    return None if name.endswith("/") else (name, int(found[1], 8))


def _odd(tar: tarfile.TarFile, place: int) -> tarfile.TarInfo | None:
    """The member whose headers begin at a place; None where there is none."""
    tar.firstmember = None  # type: ignore[attr-defined]
    tar.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
    tar.offset = place
    tar.fileobj.seek(place)  # type: ignore[union-attr]
    member = tar.next()
    if member is not None and (member.size < 0 or tar.offset <= place):  # else it would never end
        raise tarfile.ReadError(f"a member of {member.size} bytes")
    return member


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


def _relations(record: Mapping[str, Any]) -> list[str]:
    """Names of a record's relations; what has none makes a bad sample, which others count."""
    listed = record.get("relations")
    names = (item.get("relation") for item in (listed if isinstance(listed, list) else []) if isinstance(item, dict))
    return [name for name in names if isinstance(name, str) and name.strip()]
