"""Reading big annotation files piece by piece, and putting the pieces together by image on disk."""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from relpretrain.progress import Meter
from relpretrain.reading import decode, parsed_lines
from relpretrain.sources.common.json_text import JSONText, NoJSONError

_WRITES = 2000


class _Metered:
    """A binary file that tells a meter how much of it was read."""

    def __init__(self, file: IO[bytes], meter: Meter) -> None:
        self._file = file
        self._meter = meter

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._meter.advance(len(piece))
        return piece

    def __iter__(self) -> Iterator[bytes]:
        for line in self._file:
            self._meter.advance(len(line))
            yield line


def inside(folder: Path, name: str) -> Path:
    """The file of a folder that a list of unknown origin names.

    Of a path that leads out of the folder (absolute, or by ".."), the file of that name in the folder is meant.
    """
    root, path = os.path.join(os.path.abspath(folder), ""), folder / name
    return path if os.path.abspath(path).startswith(root) else folder / os.path.basename(name)


@contextmanager
def opened(path: Path, what: str, meter: Meter | None) -> Iterator[_Metered]:
    """Open an annotation file.

    Args:
        path: The file.
        what: What it should hold, for errors.
        meter: Told how much was read.

    Raises:
        ValueError: If it cannot be read, or what reads it finds that it is no JSON.
    """
    meter = meter or Meter()
    try:
        with path.open("rb") as file:
            meter.begin(f"reading {path.name}", path.stat().st_size)
            yield _Metered(file, meter)
    except OSError as error:
        raise ValueError(f"cannot read {what} from {path}: {error.strerror or error}") from error
    except NoJSONError as error:
        raise ValueError(f"{path} should hold {what} but is no JSON: {error}") from error


def json_items(path: Path, what: str, prefix: str = "item", meter: Meter | None = None) -> Iterator[Any]:
    """Yield the items of a list in a JSON file, one at a time.

    Args:
        path: The file.
        what: What it should hold, for errors.
        prefix: Where the list is: "item" for a file that is a list, "annotations.item" for a list under that key.
        meter: Told how much was read.

    Raises:
        ValueError: If the file is absent, or not JSON, or neither list nor object as `prefix` needs it.
    """
    wanted = prefix.removesuffix("item").removesuffix(".")
    _check_opening(path, what, "{" if wanted else "[")
    with opened(path, what, meter) as file:
        text = JSONText(file, path)
        if not wanted:
            yield from text.items()
        else:
            for key in text.fields():
                if text.peek() != "[":
                    text.value()
                    continue
                for item in text.items():
                    if key == wanted:
                        yield item
        text.end()


def json_pairs(path: Path, what: str, meter: Meter | None = None) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a JSON file that is an object, one at a time; see `json_items`."""
    _check_opening(path, what, "{")
    with opened(path, what, meter) as file:
        text = JSONText(file, path)
        for key in text.fields():
            yield key, text.value()
        text.end()


def opening(path: Path, what: str) -> str:
    """Return the first character of a file that is no white space, "" where there is none.

    Raises:
        ValueError: If the file is absent, or UTF-16.
    """
    with opened(path, what, None) as file:
        decode(file.read(4), str(path), "replace")  # refuses UTF-16
    with opened(path, what, None) as file:
        return JSONText(file, path).peek()


def _check_opening(path: Path, what: str, expected: str) -> None:
    first = opening(path, what)
    if first != expected:
        kind = {"[": "a list", "{": "an object"}
        got = kind.get(first, "no JSON" if first else "an empty file")
        raise ValueError(f"{path} should hold {what}: expected {kind[expected]}, got {got}")


def json_lines(path: Path, what: str, meter: Meter | None = None) -> Iterator[tuple[int, Any]]:
    """Yield line numbers and objects of a file with a JSON object in each line; empty lines are passed over.

    Raises:
        ValueError: If the file is absent or a line is no JSON.
    """
    with opened(path, what, meter) as file:
        yield from parsed_lines(file, path)


@dataclass(frozen=True)
class Pieces:
    """What was said of one image, as it lies on disk, so that another process may read it."""

    packed: list[tuple[str, bytes]]

    def read(self) -> dict[str, list[Any]]:
        """The pieces of each part, in the order in which they came."""
        parts: dict[str, list[Any]] = {}
        for part, value in self.packed:
            parts.setdefault(part, []).append(json.loads(zlib.decompress(value)))
        return parts


class Join:
    """Pieces of annotation put together by image, whatever the order in which they come.

    They lie in a temporary SQLite database, which has no name and goes with the process, so that memory stays small.
    It is made in the folder that the environment's SQLITE_TMPDIR or TMPDIR names, by default /var/tmp.
    """

    def __init__(self) -> None:
        self._base = sqlite3.connect("")  # an empty name: a temporary database on disk
        self._base.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;")
        self._base.execute("CREATE TABLE pieces (image TEXT, part TEXT, value BLOB)")
        self._waiting: list[tuple[str, str, bytes]] = []
        self._met = False

    def add(self, image: str, part: str, value: Any) -> None:
        """Keep a piece of plain types under an image and the name of a part.

        Raises:
            OSError: If the disk is full.
        """
        self._waiting.append((image, part, zlib.compress(json.dumps(value).encode(), 1)))
        if len(self._waiting) >= _WRITES:
            self._flush()

    def images(self, meter: Meter | None = None) -> Iterator[tuple[str, Pieces]]:
        """Yield images in the order in which they first came, each with its pieces."""
        self._flush()
        meter = meter or Meter()
        with _disk(), closing(self._base) as base:
            base.execute("CREATE INDEX by_image ON pieces (image)")
            (count,) = base.execute("SELECT COUNT(DISTINCT image) FROM pieces").fetchone()
            meter.begin("converting", count)
            for (image,) in base.execute("SELECT image FROM pieces GROUP BY image ORDER BY MIN(rowid)"):
                yield image, self._pieces(image)
                meter.advance()

    def counts(self) -> tuple[int, int]:
        """How many pieces there are, and of how many parts of images. Nothing may be added any more."""
        self.get("")
        pieces, parts = "SELECT COUNT(*) FROM pieces", "SELECT COUNT(*) FROM (SELECT DISTINCT image, part FROM pieces)"
        return self._base.execute(pieces).fetchone()[0], self._base.execute(parts).fetchone()[0]

    def get(self, image: str) -> dict[str, list[Any]]:
        """The pieces of one image, empty where there is none. Nothing may be added any more."""
        if not self._met:
            self._flush()
            with _disk():
                self._base.execute("CREATE INDEX by_image ON pieces (image)")
                self._base.execute("CREATE TABLE met (image TEXT, part TEXT, place TEXT, PRIMARY KEY (image, part))")
            self._met = True
        return self._pieces(image).read()

    def meet(self, image: str, part: str, place: Any) -> Any:
        """Note where a part of an image was met.

        Returns:
            The place of plain types where it was met first; None if that is here.
        """
        with _disk():
            new = self._base.execute("INSERT OR IGNORE INTO met VALUES (?, ?, ?)", (image, part, json.dumps(place)))
            if new.rowcount:
                return None
            query = "SELECT place FROM met WHERE image = ? AND part = ?"
            return json.loads(self._base.execute(query, (image, part)).fetchone()[0])

    def unmet(self) -> Iterator[tuple[str, str]]:
        """The images and parts with pieces that nobody has met."""
        self.get("")
        query = "SELECT image, part FROM pieces EXCEPT SELECT image, part FROM met ORDER BY image, part"
        yield from self._base.execute(query)

    def _pieces(self, image: str) -> Pieces:
        query = "SELECT part, value FROM pieces WHERE image = ? ORDER BY rowid"
        return Pieces(self._base.execute(query, (image,)).fetchall())

    def _flush(self) -> None:
        with _disk():
            self._base.executemany("INSERT INTO pieces VALUES (?, ?, ?)", self._waiting)
        self._waiting.clear()


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OSError(
            f"joining annotations on disk failed ({error}): free space, or set SQLITE_TMPDIR to a larger folder"
        ) from error
