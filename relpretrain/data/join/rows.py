"""Rows of annotation files, one at a time: CSV, TSV, JSON, JSON lines, Parquet and tar."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from relpretrain.progress import Meter
from relpretrain.reading import decode, parse_json
from relpretrain.sources.common.dropped import note
from relpretrain.sources.common.files import json_items, json_lines, json_pairs, opening
from relpretrain.sources.common.folders import files_below
from relpretrain.sources.common.tables import table_rows

WHAT = "annotations to join"
ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".tar")
_BATCH = 512  # rows of a Parquet file that are in memory at a time


class Row(NamedTuple):
    """What a file says of one image.

    Args:
        place: File and row, for reports.
        name: What the row is called: the key of an entry of a JSON object, a sample's name in a tar; else "".
        cells: What stands in it, by column.
    """

    place: str
    name: str
    cells: dict[str, Any]


def annotation_files(paths: Sequence[Path]) -> list[Path]:
    """The files that are named, with all readable ones of folders, at any depth, in the order of their names.

    Raises:
        ValueError: If a path does not exist, a folder holds no such file, or a file has another ending.
    """
    found: list[Path] = []
    for path in paths:
        below = (p for p in files_below(path) if p.suffix in ENDINGS and p.is_file())
        inside = sorted(below) if path.is_dir() else [path]
        if not path.exists():
            raise ValueError(f"--annotations {path} does not exist")
        if not inside:
            raise ValueError(f"--annotations {path} holds no file that ends in {', '.join(ENDINGS)}")
        if inside[0].suffix not in ENDINGS:
            raise ValueError(f"--annotations {path} is of an unknown kind: expected {', '.join(ENDINGS)}")
        found += inside
    return list(dict.fromkeys(found))


def rows(path: Path, columns: Sequence[str], dropped: Counter[str], meter: Meter) -> Iterator[Row]:
    """Read a file row by row, in bounded memory.

    Args:
        path: The file; its ending says what it is.
        columns: Those that are wanted; of a Parquet file no others are read. All where it is empty.
        dropped: Counts what cannot be used as "malformed_row".
        meter: Told how far reading has got.

    Raises:
        ValueError: If the file cannot be read, or is not what its ending says.
    """
    for row in _READERS[path.suffix](path, columns, dropped, meter):
        if isinstance(row.cells, dict):
            yield row
        else:
            note(dropped, "malformed_row", row.place)


def _table(path: Path, columns: Sequence[str], dropped: Counter[str], meter: Meter) -> Iterator[Row]:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    for number, cells in table_rows(path, WHAT, dropped, delimiter=delimiter, meter=meter):
        yield Row(f"{path.name}, line {number}", "", cells)


def _lines(path: Path, columns: Sequence[str], dropped: Counter[str], meter: Meter) -> Iterator[Row]:
    for number, cells in json_lines(path, WHAT, meter):
        yield Row(f"{path.name}, line {number}", "", cells)


def _json(path: Path, columns: Sequence[str], dropped: Counter[str], meter: Meter) -> Iterator[Row]:
    """The items of a list, the entries of an object, or an object that is about one image."""
    if opening(path, WHAT) == "[":
        for number, cells in enumerate(json_items(path, WHAT, meter=meter)):
            yield Row(f"{path.name}, item {number}", "", cells)
        return
    own: dict[str, Any] = {}
    for key, value in json_pairs(path, WHAT, meter):
        if isinstance(value, dict):
            yield Row(f"{path.name}, {key!r:.60}", key, value)
        else:
            own[key] = value
    if own:
        yield Row(path.name, "", {"image": path.stem} | own)


def _parquet(path: Path, columns: Sequence[str], dropped: Counter[str], meter: Meter) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError as error:
        raise ValueError(
            f'{path} is a Parquet file, which pyarrow reads: pip install "relpretrain[join]", or convert it to JSON '
            "lines"
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            there = set(file.schema_arrow.names)
            chosen = [name for name in dict.fromkeys(columns) if name in there] or None
            meter.begin(f"reading {path.name}", file.metadata.num_rows)
            number = 0
            for batch in file.iter_batches(_BATCH, columns=chosen):
                for cells in batch.to_pylist():
                    yield Row(f"{path.name}, row {number}", "", cells)
                    number += 1
                meter.advance(batch.num_rows)
    except (OSError, ArrowException) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from error


def _tar(path: Path, columns: Sequence[str], dropped: Counter[str], meter: Meter) -> Iterator[Row]:
    """JSON and text members by their names, neighbours of one name together; images are passed over."""
    meter.begin(f"reading {path.name}", path.stat().st_size if path.exists() else 0)
    last = ""
    cells: dict[str, Any] = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                folder, _, base = member.name.rpartition("/")
                stem, _, ending = base.partition(".")
                name = f"{folder}/{stem}" if folder else stem
                if name != last:
                    if cells:
                        yield Row(f"{path.name}/{last}", last, cells)
                    last, cells = name, {}
                file = tar.extractfile(member) if ending in ("json", "txt") else None
                if file is not None:
                    cells |= _member(file.read(), ending, f"{path.name}/{member.name}", dropped)
                meter.advance(member.size)
                tar.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
    except (OSError, tarfile.TarError) as error:
        raise ValueError(f"cannot read {WHAT} from {path}: {error}") from error
    if cells:
        yield Row(f"{path.name}/{last}", last, cells)


def _member(content: bytes, ending: str, place: str, dropped: Counter[str]) -> dict[str, Any]:
    if ending == "txt":
        return {"txt": decode(content, place, "replace")}
    try:
        cells = parse_json(content, place)
    except ValueError:
        cells = None
    if not isinstance(cells, dict):
        note(dropped, "malformed_row", place)
        return {}
    return cells


_Reader = Callable[[Path, Sequence[str], Counter[str], Meter], Iterator[Row]]
_READERS: dict[str, _Reader] = {
    ".csv": _table,
    ".tsv": _table,
    ".json": _json,
    ".jsonl": _lines,
    ".parquet": _parquet,
    ".tar": _tar,
}
