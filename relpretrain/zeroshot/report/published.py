"""Published figures, to stand beside ours where protocol, split and number of items are the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from relpretrain.errors import counted
from relpretrain.zeroshot.analysis.table import Table
from relpretrain.zeroshot.results.versions import GENERATED, UNCHECKED

FILE = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class PublishedRow:
    """A model's published figures.

    Args:
        model: The model, with the number of its training images.
        values: Figures in percent by row of our tables, as printed.
        source: Who published them.
        where: In which table of theirs.
        address: Where that is.
        read: How the figures were taken from there.
    """

    model: str
    values: dict[str, float]
    source: str
    where: str
    address: str
    read: str


@dataclass(frozen=True)
class PublishedTable:
    """Published figures on one split.

    Args:
        task: Name of the task.
        split: Name of the split.
        protocol: Version of the protocol, such as "valse-1".
        n: Number of items; None where the publication does not say.
        columns: Names of the rows of our tables that it has figures for; by the first one models are ranked.
        rows: The models.
        digits: Digits after the point that are printed.
        caveat: What is not known of how the figures came about.
    """

    task: str
    split: str
    protocol: str
    n: int | None
    columns: tuple[str, ...]
    rows: tuple[PublishedRow, ...]
    digits: int = 1
    caveat: str = ""


@cache
def published_tables() -> tuple[PublishedTable, ...]:
    """All that we know of."""
    state = json.loads(FILE.read_text(encoding="utf-8"))
    tables = []
    for table in state["tables"]:
        rows = []
        for model, source, figures in table["rows"]:
            values = {c: v for c, v in zip(table["columns"], figures, strict=True) if v is not None}
            about = state["sources"][source]
            where = table["where"][source]
            rows.append(PublishedRow(model, values, about["title"], where, about["address"], about["read"]))
        head = (table["task"], table["split"], table["protocol"], table["n"])
        rest = (table.get("digits", 1), table.get("caveat", ""))
        tables.append(PublishedTable(*head, tuple(table["columns"]), tuple(rows), *rest))
    return tuple(tables)


def published_line(task: str) -> str:
    """The line of a task's card that says whose figures are at hand."""
    found: dict[str, set[str]] = {}
    for table in published_tables():
        for row in table.rows if table.task == task else ():
            found.setdefault(row.source, set()).add(row.model)
    said = "; ".join(f"{counted(len(models), 'model')} of {source}" for source, models in found.items())
    return f"- **Published figures at hand**: {said or 'none that could be read at its source'}\n"


def published_for(table: Table) -> PublishedTable | None:
    """Published figures that may stand beside a table: those of the same task, split, protocol and number of items.

    Where a publication does not say the number of items, that is not asked, but annotations must have been at hand.
    Generated items have none.
    """
    if not table.rows or table.version == GENERATED:
        return None
    protocol = table.protocol.partition(":")[0]
    ours = (table.task, table.split, protocol)
    sizes = {table.overall.n} if UNCHECKED in table.notes else {table.overall.n, None}
    return next((p for p in published_tables() if (p.task, p.split, p.protocol) == ours and p.n in sizes), None)


def reproduced(table: Table) -> tuple[str, ...]:
    """The models whose published row a table repeats, in every figure and to the printed digit."""
    published = published_for(table)
    if published is None:
        return ()
    digits = published.digits
    printed = {row.category: f"{100 * row.accuracy:.{digits}f}" for row in table.rows}
    rows = [row for row in published.rows if set(row.values) == set(published.columns)]
    return tuple(r.model for r in rows if all(printed.get(c) == f"{v:.{digits}f}" for c, v in r.values.items()))
