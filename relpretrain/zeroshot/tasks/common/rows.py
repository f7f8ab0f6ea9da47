"""Rows of annotation files in the forms in which benchmarks come: JSON, JSON lines, CSV, TSV, Parquet, Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from relpretrain.reading import read_json, read_json_lines, read_text
from relpretrain.sources.common.tables import csv_rows
from relpretrain.zeroshot.tasks.common.source import Record

ENDINGS = (".json", ".jsonl", ".jsonlines", ".csv", ".tsv", ".parquet", ".arrow")

_NO_ROWS = ("dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json")
"""What the `datasets` library writes beside the rows."""

_ROOTS = ("annotations", "data", "items", "examples", "rows", "test")


def find_file(folder: Path, patterns: Sequence[str], what: str) -> Path:
    """The file that the first fitting pattern names: in a folder, or else one below it.

    Args:
        folder: Where to look.
        patterns: Names or patterns such as "*.parquet", the best first.
        what: What the file holds, for the error.

    Raises:
        ValueError: If there is none, or several fit one pattern.
    """
    for pattern in (*patterns, *(f"*/{pattern}" for pattern in patterns)):
        found = sorted(path for path in folder.glob(pattern) if path.is_file() and path.suffix in ENDINGS)
        found = [path for path in found if path.name not in _NO_ROWS]
        if len(found) > 1:
            names = ", ".join(path.name for path in found[:3])
            raise ValueError(f"{folder} holds {len(found)} files called {pattern} ({names}): keep the one with {what}.")
        if found:
            return found[0]
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing" if folder.is_dir() else "nothing"
    raise ValueError(f"{folder} lacks the file with {what}: expected {' or '.join(patterns)}, found {there}. "
                     "`relpretrain data fetch TASK` says where it comes from.")  # fmt: skip


def read_rows(path: Path, what: str = "annotations") -> list[tuple[str, Any]]:
    """The rows of a file with their keys: those of an object, or numbers from 0.

    Raises:
        ValueError: If the file has another ending, cannot be read, or holds no rows.
    """
    if path.suffix in (".jsonl", ".jsonlines"):
        rows = [(str(n), row) for n, (_, row) in enumerate(read_json_lines(path))]
    elif path.suffix == ".json":
        rows = _of_json(path, what)
    elif path.suffix in (".csv", ".tsv"):
        rows = [(str(n), row) for n, (_, row) in enumerate(table_rows(path, what))]
    elif path.suffix in (".parquet", ".arrow"):
        rows = [(str(n), row) for n, row in enumerate(_of_arrow(path))]
    else:
        raise ValueError(f"{path} is no table of {what}: expected a file ending in {', '.join(ENDINGS)}.")
    if not rows:
        raise ValueError(f"{path} holds no {what}.")
    return rows


def table_rows(path: Path, what: str, whole: bool = False) -> Iterator[tuple[int, Record]]:
    """The rows of a table with a head, each with the number of its line; a cell that is not there is None.

    Args:
        path: The file, `.tsv` with tabs, others with commas.
        what: What it holds, for errors.
        whole: Whether a row must have all its cells.

    Raises:
        ValueError: If a row has more cells than the head, or no end: its texts would be those of other columns.
    """
    head: list[str] = []
    for number, row in csv_rows(path, what, "\t" if path.suffix == ".tsv" else ","):
        if row is None:
            raise ValueError(f"Line {number} of {path} is no row of a table: close every quote.")
        if not head:
            head = [name.strip() for name in row]
            continue
        cells: list[str | None] = list(row)
        while len(cells) > len(head) and not cells[-1]:
            cells.pop()
        if len(cells) > len(head) or (whole and len(cells) < len(head)):
            raise ValueError(f"Line {number} of {path} begins a row of {len(cells)} cells under a head of {len(head)}: "
                             "quote cells that hold commas, and close every quote.")  # fmt: skip
        cells += [None] * (len(head) - len(cells))
        yield number, {name: cell for name, cell in zip(head, cells, strict=True) if name}


def _of_json(path: Path, what: str) -> list[tuple[str, Any]]:
    try:
        state = read_json(path, what)
    except ValueError:
        first = read_text(path).lstrip()[:1]
        if first != "{":
            raise
        return [(str(n), row) for n, (_, row) in enumerate(read_json_lines(path))]  # JSON lines by another name
    if isinstance(state, dict):
        root = next((name for name in _ROOTS if isinstance(state.get(name), list)), None)
        if root is None:
            return list(state.items())
        state = state[root]
    if not isinstance(state, list):
        raise ValueError(f"{path} holds no {what}: expected a list or an object, found {type(state).__name__}.")
    return [(str(n), row) for n, row in enumerate(state)]


def _of_arrow(path: Path) -> list[Record]:
    """The rows of a Parquet file, or of an Arrow file as `datasets` saves them."""
    try:
        from pyarrow import ArrowException, ipc, parquet  # type: ignore[import-untyped,import-not-found]
    except ImportError as error:
        raise ValueError(f"{path} is a {path.suffix} file, which pyarrow reads: "
                         'pip install "relpretrain[benchmarks]", or convert it to JSON lines.') from error  # fmt: skip
    try:
        if path.suffix == ".parquet":
            return list(parquet.read_table(path).to_pylist())
        with path.open("rb") as stream:
            return list(ipc.open_stream(stream).read_all().to_pylist())
    except (OSError, ValueError, ArrowException) as error:
        raise ValueError(f"{path} cannot be read as {path.suffix}: {error}") from error


def cell(row: Mapping[str, Any], names: Sequence[str], where: str) -> Any:
    """What a row has under the first of several names, which differ between copies of a benchmark.

    Raises:
        ValueError: If it has none of them.
    """
    if not isinstance(row, Mapping):
        raise ValueError(f"{where} must be an object with {' or '.join(map(repr, names))}, not {str(row)[:80]!r}.")
    for name in names:
        if row.get(name) is not None:
            return row[name]
    alike = {_plain(name): value for name, value in row.items() if value is not None}
    for name in names:
        if _plain(name) in alike:
            return alike[_plain(name)]
    raise ValueError(f"{where} lacks {' or '.join(map(repr, names))}; it has "
                     f"{', '.join(str(n) for n, value in row.items() if value is not None) or 'nothing'}.")  # fmt: skip


def _plain(name: Any) -> str:
    """A name of a column without case, blanks and underscores, in which copies differ."""
    return "".join(c for c in str(name).lower() if c.isalnum())


def text_cell(row: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    """A text that is not empty, see `cell`; the first of a list.

    Raises:
        ValueError: If it is none.
    """
    value = cell(row, names, where)
    value = value[0] if isinstance(value, list) and value else value
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: {names[0]!r} must be a text, not {str(value)[:80]!r}.")
    return value


def image_cell(row: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    """The name of an image, see `cell`: a path, the end of an address, or the path inside a Parquet image.

    Raises:
        ValueError: If it is none, as where a Parquet file holds the image itself.
    """
    value = cell(row, names, where)
    if isinstance(value, Mapping):
        if not value.get("path"):
            raise ValueError(f"{where}: the image {names[0]!r} lies inside the file: unpack it with "
                             "`relpretrain data fetch TASK --unpack FOLDER`.")  # fmt: skip
        value = value["path"]
    return image_name(value, f"{where}: {names[0]!r}")


def image_name(value: Any, where: str) -> str:
    """A path, or the last two parts of an address.

    Raises:
        ValueError: If it is no text.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value}.jpg"
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where} must name an image, not {str(value)[:80]!r}.")
    return "/".join(urlsplit(value).path.split("/")[-2:]) if "://" in value else value.replace("\\", "/")


def box_of(values: Sequence[Any], where: str) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of x, y, width and height.

    Raises:
        ValueError: If they are no numbers, or the box has no area.
    """
    try:
        x, y, width, height = map(float, values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: a box is x, y, width and height, not {str(values)[:80]!r}.") from error
    if not (width > 0 and height > 0):
        raise ValueError(f"{where}: the box {[x, y, width, height]} has no area.")
    return x, y, x + width, y + height
