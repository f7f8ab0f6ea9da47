"""A leaderboard file: a CSV row per figure of a model, which others can add theirs to."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from relpretrain.showing import from_cell, to_cell
from relpretrain.writing import write_text
from relpretrain.zeroshot.analysis.table import Row, Table
from relpretrain.zeroshot.tasks.common.rows import read_rows

_SHARES = ("value", "low", "high")
_WORDS = ("model", "task", "split", "category", "protocol", "version", "source")


@dataclass(frozen=True)
class Figure:
    """A model's figure: a row of the file.

    Args:
        model: The model.
        task: Name of the task.
        split: Name of the split, with what its table is about; "" where the task has one only.
        category: Name of the row of our tables, such as "overall" or "group".
        protocol: Version of the protocol, such as "cola-1".
        version: Version of the data; "" where it is none that is known.
        n: Number of items.
        value: The figure in percent.
        low: Lower bound of its 95 % interval; NaN where it has none.
        high: Upper bound.
        source: Who says so: an address, or how it was made.
    """

    model: str
    task: str
    split: str
    category: str
    protocol: str
    version: str
    n: int
    value: float
    low: float = math.nan
    high: float = math.nan
    source: str = ""

    @property
    def head(self) -> tuple[str, ...]:
        """What the rows of a table share."""
        return self.model, self.task, self.split, self.protocol, self.version


def figures_of(model: str, table: Table, source: str = "") -> list[Figure]:
    """The rows of a table that have a figure."""
    found = []
    for row in table.rows:
        if row.accuracy == row.accuracy:
            value, low, high = (round(100 * share, 4) for share in (row.accuracy, row.low, row.high))
            head = (model, table.task, table.split, row.category, table.protocol_name, table.version)
            found.append(Figure(*head, row.n, value, low, high, source))
    return found


def to_tables(figures: Sequence[Figure]) -> dict[str, list[Table]]:
    """The tables of each model that a leaderboard knows of."""
    tables: dict[str, list[Table]] = {}
    for rows in _runs(figures).values():
        model, task, split, protocol, version = rows[0].head
        source = tuple(dict.fromkeys(figure.source for figure in rows if figure.source))
        tables.setdefault(model, []).append(Table(task, split, protocol, tuple(map(_row, rows)), source, version))
    return tables


def _runs(figures: Iterable[Figure]) -> dict[tuple[Any, ...], list[Figure]]:
    """The rows of each table, by its head, and the category and number of items of its headline.

    A category that comes again, as of a run on another number of items, begins another table: figures of two runs are
    never one. Of two tables of one key the later stays.
    """
    found: dict[tuple[str, ...], list[dict[str, Figure]]] = {}
    for figure in figures:
        runs = found.setdefault(figure.head, [{}])
        if figure.category in runs[-1]:
            runs.append({})
        runs[-1][figure.category] = figure
    tables = [list(run.values()) for runs in found.values() for run in runs]
    return {(*rows[0].head, rows[0].category, rows[0].n): rows for rows in tables}


def _row(figure: Figure) -> Row:
    value, low, high = (getattr(figure, name) / 100 for name in _SHARES)
    return Row(figure.category, figure.n, round(value * figure.n), low, high, value=value)


def read_leaderboard(path: Path) -> list[Figure]:
    """Read a leaderboard file.

    Raises:
        ValueError: If a column or a figure is missing; names the row.
    """
    names = [field.name for field in fields(Figure)]
    found = []
    for key, row in read_rows(path, "figures"):
        where = f"Row {int(key) + 2} of {path}"
        if missing := [name for name in names[:8] if row.get(name) is None]:
            raise ValueError(f"{where} lacks {', '.join(missing)}; a leaderboard has the columns {', '.join(names)}.")
        try:
            numbers = {name: float(row.get(name) or "nan") for name in _SHARES}
            n = int(row["n"])
        except ValueError as error:
            raise ValueError(f"{where}: n, value, low and high are numbers: {error}.") from error
        if not 0 <= numbers["value"] <= 100:
            raise ValueError(f"{where}: value is in percent, 0 to 100, not {row['value']!r}.")
        model, task, split, category, protocol, version, source = (
            from_cell(str(row.get(name) or "")) for name in _WORDS
        )
        value, low, high = numbers.values()
        found.append(Figure(model, task, split, category, protocol, version, n, value, low, high, source))
    return found


def add_to_leaderboard(path: Path, figures: Iterable[Figure]) -> int:
    """Write figures into a leaderboard file, which need not be there yet.

    A table takes the place of the one of the same model, split, protocol and version whose headline is of as many
    items. Other rows may count others each time, as those of what a blind model gets wrong.

    Returns:
        How many rows the file has now.

    Raises:
        ValueError: If the file is no leaderboard.
    """
    known = read_leaderboard(path) if path.is_file() else []
    rows = [figure for table in (_runs(known) | _runs(figures)).values() for figure in table]
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, [field.name for field in fields(Figure)], lineterminator="\n")
    writer.writeheader()
    for figure in rows:
        state = {name: to_cell(v) if isinstance(v, str) else v for name, v in asdict(figure).items()}
        writer.writerow({name: "" if value != value else value for name, value in state.items()})
    write_text(path, table.getvalue())
    return len(rows)
