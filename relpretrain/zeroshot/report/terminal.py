"""Reports of zero-shot results: for the terminal, as Markdown and as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from relpretrain.reading import read_json
from relpretrain.showing import literal, markdown
from relpretrain.writing import write_text
from relpretrain.zeroshot.analysis.table import Table
from relpretrain.zeroshot.results.comparison import Comparison
from relpretrain.zeroshot.results.items import ITEMS_NAME, ItemResult, write_items

JSON_NAME = "zero_shot.json"
MARKDOWN_NAME = "zero_shot.md"

_TITLES = {"true": "true %", "chance": "chance %", "majority": "majority %", "auroc": "AUROC"}
_TITLES |= {name: f"{name} %" for name in ("strict", "text", "image", "positives", "negatives", "caption", "caption2")}
_TITLES |= {"calibration_error": "calibration error", "ties": "ties"}
_TITLES |= {"oracle": "oracle %", "oracle_threshold": "oracle's threshold"}


@dataclass(frozen=True)
class Report:
    """Tables, comparisons and where they come from.

    Args:
        tables: Results.
        comparisons: Models side by side.
        metadata: Version, hashes, hardware, command: what it takes to get the figures again.
        items: Outcomes item by item, which go into a file of their own.
    """

    tables: tuple[Table, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    items: tuple[ItemResult, ...] = field(default=(), repr=False)

    def to_json(self) -> str:
        """The report as JSON, accuracies as shares."""
        state = {"metadata": self.metadata, "tables": [table.to_dict() for table in self.tables]}
        if self.comparisons:
            state["comparisons"] = [comparison.to_dict() for comparison in self.comparisons]
        return json.dumps(state, indent=1, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """The report as Markdown tables, accuracies in percent."""
        parts = ["# Zero-shot results\n"]
        for title, header, rows, notes in _grids(self):
            parts.append(f"## {markdown(title)}\n")
            parts.append(markdown_table(header, rows))
            parts += [f"- {markdown(note)}" for note in notes]
            parts.append("")
        parts += [f"- {markdown(f'{key}: {value}')}" for key, value in self.metadata.items()]
        return "\n".join(parts) + "\n"

    def print(self, console: Console | None = None) -> None:
        """Print the tables to the terminal."""
        print_grids(_grids(self), console)

    def write(self, folder: Path) -> None:
        """Write the report into a folder, as JSON and Markdown, and its items as CSV."""
        write_text(folder / JSON_NAME, self.to_json())
        write_text(folder / MARKDOWN_NAME, self.to_markdown())
        if self.items:
            write_items(folder / ITEMS_NAME, self.items)


_WORDS = 12
"""Characters below which a column of words is not made narrower."""


def print_grids(grids: Sequence[NamedGrid], console: Console | None = None) -> None:
    """Print grids to the terminal."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=140)
    for title, header, rows, notes in grids:
        table = RichTable(title=literal(title, "table.title"), title_justify="left")
        for number, name in enumerate(header):  # words may be divided where a terminal is narrow, numbers never
            words = number == 0 or name == "category"
            longest = max((len(row[number]) for row in rows), default=0)
            least = min(longest, _WORDS) if words else longest
            table.add_column(
                literal(name),
                justify="left" if words else "right",
                min_width=max([least, *map(len, name.split())]),
                no_wrap=not words and len(name) <= longest,
                overflow="fold",
            )
        for row in rows:
            table.add_row(*map(literal, row))
        console.print(table, crop=False)
        for note in notes:
            console.print(literal(f"  {note}"), soft_wrap=True)


def read_report(path: Path) -> Report:
    """Read the tables and metadata of a JSON report.

    Raises:
        ValueError: If the file is not one.
    """
    try:
        state = read_json(path, "a zero-shot report")
        tables = tuple(Table.from_dict(table) for table in state["tables"])
        return Report(tables, (), {str(name): said for name, said in dict.items(state["metadata"])})
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a zero-shot report: {type(error).__name__}: {error}") from error


def refuse_other_data(first: Path, second: Path, tasks: Sequence[str] | None = None) -> None:
    """Refuse to compare two report folders that were made on different data of the same name.

    Args:
        first: A report folder, or anything else, of which nothing is known.
        second: Likewise.
        tasks: The tasks to look at; all if None.

    Raises:
        ValueError: If their reports have different hashes of the data of a split.
    """
    paths = [folder / JSON_NAME for folder in (first, second)]
    if not all(path.is_file() for path in paths):
        return
    a, b = (read_report(path).metadata for path in paths)
    for key in (key for key in a if key.startswith("data ") and key in b):
        if a[key] != b[key] and (not tasks or key.split()[1] in tasks):
            raise ValueError(f"{first} and {second} were made on different annotations of {key.removeprefix('data ')} "
                             f"(hashes {a[key][:8]} and {b[key][:8]}): score both on the same.")  # fmt: skip


def hash_items(splits: Mapping[str, Sequence[Any]]) -> str:
    """SHA-256 of a task's items as they were read (texts, labels, image names; not the images' pixels)."""
    digest = hashlib.sha256()
    for name, items in splits.items():
        digest.update(name.encode())
        prompts = next((item.texts for item in items if not getattr(item, "has_line_each", True)), None)
        digest.update(b"" if prompts is None else json.dumps(prompts).encode())
        for item in items:
            digest.update(json.dumps(_shown(item, prompts), sort_keys=True).encode())
    return digest.hexdigest()


def _shown(item: Any, prompts: Sequence[str] | None = None) -> list[Any]:
    """What of an item its hash covers: not the prompts that all items share, megabytes of which are hashed once."""
    if hasattr(item, "texts"):
        box = getattr(item, "box", None)
        texts = [] if item.texts is prompts else item.texts
        return [item.image, texts, item.records] + ([] if box is None else [box])
    return [str(item.triplets)] if hasattr(item, "triplets") else [repr(item)]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its first column flush left and the others flush right."""
    rule = [":--", *["--:"] * (len(header) - 1)]
    lines = [rule, *(map(markdown, row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [map(markdown, header), *lines]) + "\n"


NamedGrid = tuple[str, list[str], list[list[str]], tuple[str, ...]]
"""Title, header, rows and notes."""


def _grids(report: Report) -> list[NamedGrid]:
    """Title, header, rows and notes of every table and comparison, as strings."""
    return [*map(table_grid, report.tables), *map(comparison_grid, report.comparisons)]


def table_grid(table: Table) -> NamedGrid:
    """Title, header, rows and notes of a table, as strings."""
    details = list(dict.fromkeys(name for row in table.rows for name in row.details))
    header = ["category", "n", "accuracy %", "95 % interval", *(_TITLES.get(name, name) for name in details)]
    rows = []
    for row in table.rows:
        interval = f"{_percent(row.low)}-{_percent(row.high)}" if row.low == row.low else "-"
        shown = [_percent(row.accuracy) if row.accuracy == row.accuracy else "-", interval]
        rows.append([row.category, f"{row.n:,}", *shown, *(_detail(name, row.details.get(name)) for name in details)])
    return table.title, header, rows, (f"protocol {table.protocol}", *table.notes)


def comparison_grid(comparison: Comparison) -> NamedGrid:
    """Title, header, rows and notes of a comparison, as strings."""
    first, second = comparison.names
    header = ["model", "category", "n", "accuracy %", "difference", "95 % interval", "McNemar p", "Holm p"]
    rows = []
    for row in comparison.rows:
        paired = row.paired
        interval = f"{100 * paired.low:+.2f} to {100 * paired.high:+.2f}"
        rows.append([first, row.category, f"{row.n:,}", _percent(row.first), "", "", "", ""])
        rows.append([second, row.category, f"{row.n:,}", _percent(row.second), f"{100 * paired.difference:+.2f}"])
        rows[-1] += [interval, f"{paired.p_value:.2g}", "-" if row.p_holm is None else f"{row.p_holm:.2g}"]
    return comparison.title, header, rows, comparison.notes


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _detail(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name == "ties":
        return f"{value:,}"
    return f"{value:.3f}" if name in ("auroc", "calibration_error", "oracle_threshold") else _percent(value)
