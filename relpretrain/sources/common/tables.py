"""Tables with commas or tabs, in which a stray quote costs its own row and no other."""

from __future__ import annotations

import csv
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path

from relpretrain.progress import Meter
from relpretrain.reading import decoded_lines
from relpretrain.sources.common.dropped import note
from relpretrain.sources.common.files import opened

_LONGEST_FIELD = 1 << 17  # characters after which a quote that is still open was never meant to be closed


def csv_rows(
    path: Path, what: str, delimiter: str = ",", meter: Meter | None = None
) -> Iterator[tuple[int, list[str] | None]]:
    """Yield the rows of a table, its head included, each with the number of the line where it begins.

    In a table with commas a quoted field may go on over several lines. With tabs it may not: what is no proper quoting
    within a line is taken as it stands, for most such tables are written without any. Empty lines are passed over.

    Yields:
        None in place of a row that is malformed: of a quote that is never closed, or closed within a field. It counts
        for one line, and the rows after it are read.

    Raises:
        ValueError: If the file is absent or not UTF-8.
    """
    with opened(path, what, meter) as file:
        lines = decoded_lines(file, path)
        waiting: deque[tuple[int, str]] = deque()  # lines that were read in search of a quote's end
        while waiting or (waiting := deque(islice(lines, 1))):
            number, text = waiting.popleft()
            if not text.strip():
                continue
            if '"' not in text:
                yield number, text.split(delimiter)
                continue
            row, unclosed = _row(text, delimiter)
            if row is None and delimiter == "\t":
                row = text.split(delimiter)
            elif unclosed:
                row = _long_row(text, waiting, lines, delimiter)
            yield number, row


def _long_row(
    text: str, waiting: deque[tuple[int, str]], lines: Iterator[tuple[int, str]], delimiter: str
) -> list[str] | None:
    """A row whose quoted field goes on in the lines that follow; these stay where there is no such row."""
    for used in count(1):
        if used > len(waiting):
            waiting.extend(islice(lines, 1))
        if used > len(waiting) or len(text) > _LONGEST_FIELD:
            return None
        text += "\n" + waiting[used - 1][1]
        if '"' not in waiting[used - 1][1]:
            continue
        row, unclosed = _row(text, delimiter)
        if not unclosed:
            for _ in range(used if row is not None else 0):
                waiting.popleft()
            return row
    return None


def _row(text: str, delimiter: str) -> tuple[list[str] | None, bool]:
    """The fields of a row, None if it is malformed; and whether that is for want of a closing quote."""
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True)), False
    except csv.Error as error:
        return None, "unexpected end" in str(error)


def table_rows(
    path: Path,
    what: str,
    dropped: Counter[str],
    *,
    columns: Sequence[str] = (),
    delimiter: str = ",",
    meter: Meter | None = None,
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a table with a head, by column, each with the number of its line.

    Args:
        path: The file.
        what: What it should hold, for errors.
        dropped: Counts rows that do not fit the head as "malformed_row".
        columns: Those that it must have.
        delimiter: Between its fields.
        meter: Told how much was read.

    Raises:
        ValueError: If the file is absent, or not UTF-8, or has no head, or its head lacks or repeats a column.
    """
    rows = csv_rows(path, what, delimiter, meter)
    _, first = next(rows, (0, []))
    head = [name.strip() for name in first or ()]
    if not head:
        raise ValueError(f"{path} should hold {what}: expected names of columns in its first line, got none")
    if any("\r" in name for name in head):
        raise ValueError(
            f"{path} ends its lines by carriage returns alone, expected line feeds: convert it (tr '\\r' '\\n')"
        )
    if twice := [name for name, number in Counter(head).items() if name and number > 1]:
        raise ValueError(
            f"{path} has several columns called {', '.join(twice)}, and one would count: rename or remove the others"
        )
    if missing := [column for column in columns if column not in head]:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}; its first line is {','.join(head)}")
    for number, row in rows:
        if row is None or len(row) != len(head):
            note(dropped, "malformed_row", f"{path.name}, line {number}")
        else:
            yield number, dict(zip(head, row, strict=True))
