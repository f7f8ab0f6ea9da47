"""Result folders side by side as a page, as Markdown and on the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relpretrain.showing import markdown
from relpretrain.showing.html import render_template
from relpretrain.writing import write_text
from relpretrain.zeroshot.analysis.table import LOWER_IS_BETTER, OVERALL, Row
from relpretrain.zeroshot.report.page import TEMPLATE, Cell, Grid, Section, range_of
from relpretrain.zeroshot.report.plot import Axis, Plot, Point
from relpretrain.zeroshot.report.published import PublishedTable, published_for
from relpretrain.zeroshot.report.terminal import JSON_NAME, NamedGrid, markdown_table, print_grids, read_report
from relpretrain.zeroshot.results.board import Contest, Entry, Model
from relpretrain.zeroshot.results.further import TITLE

BOARD_NAME = "board"

_WIDE = 9  # columns of a grid on a terminal, and of the overview

_BESIDE = ("by category", "by tag", TITLE)
"""Ends of the titles of tables that stand beside others and are not in the overview."""


@dataclass(frozen=True)
class Board:
    """Models side by side.

    Args:
        contests: The tables that they have, with all models that have them.
        metadata: How this was made.
    """

    contests: Sequence[Contest]
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def models(self) -> list[str]:
        """The models, those first that stand higher on average."""
        places: dict[str, list[int]] = {}
        for contest in self.contests:
            for place, entry in enumerate(contest.entries):
                places.setdefault(entry.model, []).append(place)
        return sorted(places, key=lambda model: (sum(places[model]) / len(places[model]), model))

    def print(self) -> None:
        """Print the grids to the terminal."""
        print_grids([grid for contest in self.contests for grid in _narrow(contest)])

    def write(self, folder: Path) -> None:
        """Write the page, Markdown and JSON."""
        write_text(folder / f"{BOARD_NAME}.html", self.to_html())
        parts = ["# Results side by side\n"]
        for contest in self.contests:
            rows = [_flat(row) for row in _rows(contest)]
            parts += [f"## {markdown(contest.title)}\n", markdown_table(_header(contest), rows)]
            parts += [*(f"- {markdown(note)}" for note in contest.notes), ""]
        write_text(folder / f"{BOARD_NAME}.md", "\n".join(parts) + "\n")
        state = {"metadata": self.metadata, "contests": [_state(contest) for contest in self.contests]}
        write_text(folder / f"{BOARD_NAME}.json", json.dumps(state, indent=1) + "\n")

    def to_html(self) -> str:
        """The page."""
        sections = [_section(contest, f"contest-{number}") for number, contest in enumerate(self.contests)]
        return render_template(
            TEMPLATE,
            title=f"{len(self.models)} models side by side",
            overview=self._overview(),
            sections=sections,
            metadata=self.metadata,
        )

    def _overview(self) -> list[Grid]:
        """Headline figures, a row per benchmark; the best of each in bold."""
        models = self.models
        grids = []
        for start in range(0, len(models), _WIDE - 2):
            some = models[start : start + _WIDE - 2]
            rows: list[list[str | Cell]] = []
            for number, contest in enumerate(self.contests):
                if contest.split.endswith(_BESIDE):
                    continue
                shown = {entry.model: entry.headline for entry in contest.entries}
                best = _best(list(shown.values()))
                headline = contest.entries[0].headline.category
                cells: list[str | Cell] = [_value(shown.get(model), best) for model in some]
                link = Cell(contest.title, f"contest-{number}", "" if headline == OVERALL else headline)
                rows.append([link, f"{contest.n:,}", *cells])
            grids.append(Grid(["benchmark", "n", *some], rows, wide=len(some) > 3))
        return grids


def read_models(folders: Sequence[Path]) -> list[Model]:
    """The models of report folders; two of one name are told apart by their folders.

    Raises:
        ValueError: If a folder holds no report.
    """
    models = []
    for folder in folders:
        if not (folder / JSON_NAME).is_file():
            raise ValueError(f"{folder} holds no {JSON_NAME}: make it by scoring a model, or --scores, with --out.")
        report = read_report(folder / JSON_NAME)
        data = tuple((key, str(value)) for key, value in report.metadata.items() if key.startswith("data "))
        models.append(Model(str(report.metadata.get("model") or folder.name), report.tables, folder, data))
    names = [model.name for model in models]
    return [
        m if names.count(m.name) == 1 else Model(f"{m.name} ({m.folder})", m.tables, m.folder, m.data) for m in models
    ]


def _value(row: Row | None, best: float) -> str | Cell:
    if row is None or row.accuracy != row.accuracy:
        return "-"
    text = f"{100 * row.accuracy:.2f}"
    return Cell(text, strong=True) if row.accuracy == best else text


def _best(rows: Sequence[Row]) -> float:
    """The best figure of rows of one name."""
    known = [row.accuracy for row in rows if row.accuracy == row.accuracy]
    choose = min if rows and rows[0].category in LOWER_IS_BETTER else max
    return choose(known, default=0.0)


def _narrow(contest: Contest) -> list[NamedGrid]:
    """The grid of a contest in pieces that fit a terminal, each with the models' names."""
    header, rows = _header(contest), [_flat(row) for row in _rows(contest)]
    last = len(contest.columns) + 1  # the interval and the tests go with the first columns
    first = [*range(1, min(last, _WIDE - 4)), *range(last, len(header))]
    rest = [n for n in range(1, last) if n not in first]
    pieces = [first, *(rest[start : start + _WIDE] for start in range(0, len(rest), _WIDE))]
    grids = []
    for number, columns in enumerate(pieces):
        shown = [[row[0], *(row[n] for n in columns)] for row in rows]
        notes = tuple(contest.notes) if number == len(pieces) - 1 else ()
        grids.append((contest.title, [header[0], *(header[n] for n in columns)], shown, notes))
    return grids


def _header(contest: Contest) -> list[str]:
    tests = any(entry.test is not None for entry in contest.entries)
    return ["model", *contest.columns, "95 % interval", *(("to the best", "interval", "p") if tests else ())]


def _rows(contest: Contest) -> list[list[str | Cell]]:
    """A row per model, best first; of each column the best in bold."""
    tests = any(entry.test is not None for entry in contest.entries)
    figures = [{row.category: row for row in entry.table.rows} for entry in contest.entries]
    best = {c: _best([f[c] for f in figures if c in f]) for c in contest.columns}
    rows: list[list[str | Cell]] = []
    for entry, found in zip(contest.entries, figures, strict=True):
        line: list[str | Cell] = [entry.model, *(_value(found.get(c), best[c]) for c in contest.columns)]
        line.append(range_of(entry.headline))
        rows.append([*line, *(_tested(entry) if tests else ())])
    return rows


def _tested(entry: Entry) -> tuple[str, str, str]:
    if entry.test is None or entry.p is None:
        return "", "", ""
    paired = entry.test.paired
    low, high = 100 * paired.low, 100 * paired.high
    return f"{100 * paired.difference:+.2f}", f"{low:+.2f} to {high:+.2f}", f"{entry.p:.2g}"


def _flat(row: Sequence[str | Cell]) -> list[str]:
    return [cell if isinstance(cell, str) else cell.text for cell in row]


def _section(contest: Contest, anchor: str) -> Section:
    first = contest.entries[0]
    lead = f"{100 * first.headline.accuracy:.2f} %"
    beside = f"{first.model}, {first.headline.category}, n = {contest.n:,}"
    version = f"data: {contest.version}" if contest.version else "data: no version that is known"
    notes = (f"protocol {contest.protocol}", version, *contest.notes)
    grid = Grid(_header(contest), _rows(contest))
    published = published_for(first.table)
    below = None if published is None else _published(contest, published)
    return Section(contest.title, lead, beside, grid, notes, anchor, _plot(contest, published), below)


def _plot(contest: Contest, published: PublishedTable | None) -> Plot:
    """The headline of each model with its interval."""
    points = []
    for entry in contest.entries:
        row = entry.headline
        marks: dict[str, Sequence[float]] = {}
        if "chance" in row.details:
            marks["chance"] = [100 * row.details["chance"]]
        if published is not None:
            marks["published"] = [r.values[row.category] for r in published.rows if row.category in r.values]
        figures = (100 * row.accuracy, 100 * row.low, 100 * row.high)
        points.append(Point(entry.model, *figures, f"{figures[0]:.2f}", range_of(row), marks))
    legend = [("dot", "a model, with its 95 % interval")]
    legend += [("chance", "chance")] if any("chance" in point.marks for point in points) else []
    legend += [("published", "published models")] if published is not None else []
    return Plot(points, Axis(0, 100, (0, 25, 50, 75, 100), "%"), legend)


def _published(contest: Contest, published: PublishedTable) -> Section:
    """Published rows among these models, best first."""
    lines: list[tuple[str, dict[str, float], bool]] = [(row.model, row.values, False) for row in published.rows]
    for entry in contest.entries:
        lines.append((entry.model, {row.category: 100 * row.accuracy for row in entry.table.rows}, True))
    lines.sort(key=lambda line: -line[1].get(published.columns[0], 0.0))
    rows: list[list[str | Cell]] = [
        [
            Cell(model, strong=True) if ours else model,
            *(f"{v[c]:.{published.digits}f}" if c in v else "-" for c in published.columns),
        ]
        for model, v, ours in lines
    ]
    sources = dict.fromkeys(f"{row.source}, {row.where}: {row.read}, {row.address}" for row in published.rows)
    notes = [*sources, *([published.caveat] if published.caveat else [])]
    return Section("Published figures among these", "", "", Grid(["model", *published.columns], rows), notes)


def _state(contest: Contest) -> dict[str, Any]:
    """Plain types, for JSON; figures in percent."""
    head = {"task": contest.task, "split": contest.split, "protocol": contest.protocol, "version": contest.version}
    entries = []
    for entry in contest.entries:
        rows = {row.category: round(100 * row.accuracy, 4) for row in entry.table.rows if row.accuracy == row.accuracy}
        paired = None if entry.test is None else entry.test.paired._asdict() | {"p_holm": entry.p}
        entries.append({"model": entry.model, "figures": rows, "to_the_best": paired})
    return head | {"n": contest.n, "entries": entries, "notes": list(contest.notes)}
