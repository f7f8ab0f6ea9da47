"""The report as one HTML file: plots, tables, published figures, and the items on which two models disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relpretrain.showing import unbroken
from relpretrain.showing.html import render_template
from relpretrain.writing import write_text
from relpretrain.zeroshot.analysis.table import OVERALL, Row, Table
from relpretrain.zeroshot.report.plot import Axis, Plot, Point, symmetric_axis
from relpretrain.zeroshot.report.published import PublishedTable, published_for, reproduced
from relpretrain.zeroshot.report.terminal import Report, comparison_grid, table_grid
from relpretrain.zeroshot.results.comparison import Comparison
from relpretrain.zeroshot.results.disagreements import Find, ShownDisagreements, show_disagreements

PAGE_NAME = "zero_shot.html"

TEMPLATE = Path(__file__).with_name("page.html")
"""The page: its title, overview, sections and how it was made."""

_FLOORS = {"chance": "chance", "true": 'always "true"', "majority": "the most frequent answer"}
"""Details that say what can be had without knowledge, in words."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is more than text.

    Args:
        text: What it says.
        anchor: The section that it leads to; "" for none.
        aside: What stands behind it in smaller type; "" for nothing.
        strong: Whether it stands out, as the best of its kind.
    """

    text: str
    anchor: str = ""
    aside: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Grid:
    """A table on the page.

    Args:
        header: Names of the columns.
        rows: Their cells.
        texts: Numbers of further columns that are flush left, as the first is.
        ours: Number of the row that is ours among published ones; -1 for none.
        wide: Whether it may be wider than the text, as one of many columns is.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    texts: Sequence[int] = ()
    ours: int = -1
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """What the page says of a table or a comparison.

    Args:
        title: Above it.
        lead: The headline figure.
        beside: What it is of.
        grid: All figures.
        notes: Below them.
        anchor: Its id on the page.
        plot: A picture of the figures.
        published: Published figures on the same items, as a section of the page.
        disagreements: Items on which two models differ.
    """

    title: str
    lead: str
    beside: str
    grid: Grid
    notes: Sequence[str] = ()
    anchor: str = ""
    plot: Plot | None = None
    published: Section | None = None
    disagreements: ShownDisagreements | None = None


def write_page(path: Path, report: Report, find: Find = lambda name: None) -> None:
    """Write a report as one HTML file that needs no other.

    Args:
        path: Where it goes.
        report: The report.
        find: Gives the path of an image by the name that items know it by; None where it is not at hand.
    """
    write_text(path, to_html(report, find))


def to_html(report: Report, find: Find = lambda name: None) -> str:
    """The page as a string (see `write_page`)."""
    sections = [_table(table, f"table-{i}") for i, table in enumerate(report.tables)]
    sections += [_comparison(c, f"comparison-{i}", find) for i, c in enumerate(report.comparisons)]
    model = str(report.metadata.get("model") or report.metadata.get("models") or "")
    title = f"Zero-shot results of {model}" if model else "Zero-shot results"
    overview = _overview(report)
    return render_template(TEMPLATE, title=title, overview=overview, sections=sections, metadata=report.metadata)


def _overview(report: Report) -> list[Grid]:
    """Headline figures, each leading to its section."""
    grids = []
    if report.tables:
        rows: list[list[str | Cell]] = []
        for number, table in enumerate(report.tables):
            row = table.overall
            link = _link(f"table-{number}", table.title, row.category)
            rows.append([link, f"{row.n:,}", _percent(row.accuracy), range_of(row)])
        grids.append(Grid(["benchmark", "n", "%", "95 % interval"], rows))
    if report.comparisons:
        rows = []
        for number, comparison in enumerate(report.comparisons):
            first = comparison.rows[0]
            link = _link(f"comparison-{number}", comparison.title, first.category)
            numbers = [f"{100 * first.paired.difference:+.2f}", _points(first.paired.low, first.paired.high)]
            rows.append([link, f"{first.n:,}", *numbers, f"{first.paired.p_value:.2g}"])
        grids.append(Grid(["comparison", "n", "difference", "95 % interval", "McNemar p"], rows))
    return grids


def _link(anchor: str, title: str, figure: str) -> Cell:
    return Cell(title, anchor, "" if figure == OVERALL else figure)


def _table(table: Table, anchor: str) -> Section:
    published = published_for(table)
    first = table.overall
    lead = f"{_percent(first.accuracy)} %" if first.accuracy == first.accuracy else "no accuracy"
    beside = f"{first.category}, {_sampled(range_of(first), first.n)}"
    title, header, rows, notes = table_grid(table)
    below = None if published is None else _published(table, published)
    return Section(title, lead, beside, Grid(header, rows), notes, anchor, _table_plot(table, published), below)


def _table_plot(table: Table, published: PublishedTable | None) -> Plot | None:
    points, floors = [], []
    for row in table.rows:
        if row.accuracy != row.accuracy:
            continue
        marks: dict[str, Sequence[float]] = {}
        for name in _FLOORS:
            if name in row.details:
                marks["chance" if name == "chance" else "other"] = [100 * row.details[name]]
                floors.append(name)
        if published is not None:
            marks["published"] = [r.values[row.category] for r in published.rows if row.category in r.values]
        figures = (100 * row.accuracy, 100 * row.low, 100 * row.high)
        aside = f"{range_of(row)} · n {row.n:,}"
        points.append(Point(row.category, *figures, _percent(row.accuracy), aside, marks, row.category == OVERALL))
    if not points:
        return None
    legend = [("dot", "this model, with its 95 % interval")]
    for name in dict.fromkeys(floors):
        legend.append(("chance" if name == "chance" else "other", _FLOORS[name]))
    legend += [("published", "published models")] if published is not None else []
    return Plot(points, Axis(0, 100, (0, 25, 50, 75, 100), "%"), legend)


def _published(table: Table, published: PublishedTable) -> Section:
    """Published rows beside ours, best first; a small number says who published a row."""
    places = {(row.source, row.where, row.read, row.address): "" for row in published.rows}
    places = {place: str(number) for number, place in enumerate(places, start=1)}
    ours = {row.category: 100 * row.accuracy for row in table.rows}
    lines = [("this model", "", ours)]
    for row in published.rows:
        lines.append((row.model, places[row.source, row.where, row.read, row.address], row.values))
    lines.sort(key=lambda line: -line[2].get(published.columns[0], 0.0))
    rows: list[list[str | Cell]] = [
        [
            Cell(model, aside=mark),
            *(f"{values[c]:.{published.digits}f}" if c in values else "-" for c in published.columns),
        ]
        for model, mark, values in lines
    ]
    notes = [f"{mark}: {source}, {where}: {read}, {address}" for (source, where, read, address), mark in places.items()]
    equal = reproduced(table)
    if equal:
        notes.insert(0, f"all {len(published.columns)} figures equal those published for {' and '.join(equal)}")
    notes += [published.caveat] if published.caveat else []
    notes.append("models differ in size and training data, some of which holds images of this benchmark")
    number = next(i for i, line in enumerate(lines) if not line[1])
    on = f"on the same {published.n:,} items" if published.n else "whose number of items is not stated"
    title = f"Published figures {on}, protocol {published.protocol}"
    return Section(title, "", "", Grid(["model", *published.columns], rows, ours=number), notes)


def _comparison(comparison: Comparison, anchor: str, find: Find) -> Section:
    _, second = comparison.names
    row = comparison.rows[0]
    lead = f"{100 * row.paired.difference:+.2f} points"
    beside = f"{second} minus {comparison.names[0]}, {row.category}, "
    beside += f"{_sampled(_points(row.paired.low, row.paired.high), row.n)}, "
    beside += unbroken(f"McNemar p {row.paired.p_value:.2g}")
    title, header, rows, notes = comparison_grid(comparison)
    grid = Grid(header, rows, texts=(1,))
    shown = show_disagreements(comparison, find)
    return Section(title, lead, beside, grid, notes, anchor, _comparison_plot(comparison), disagreements=shown)


def _comparison_plot(comparison: Comparison) -> Plot:
    points = []
    for row in comparison.rows:
        paired = row.paired
        figures = (100 * paired.difference, 100 * paired.low, 100 * paired.high)
        p = unbroken(f"p {paired.p_value:.2g}" if row.p_holm is None else f"Holm p {row.p_holm:.2g}")
        points.append(
            Point(row.category, *figures, f"{figures[0]:+.2f}", f"{p} · n {row.n:,}", {}, row.category == OVERALL)
        )
    axis = symmetric_axis(max(abs(bound) for point in points for bound in (point.low, point.high, 1.0)), "points")
    first, second = comparison.names
    legend = [("dot", f"accuracy of {second} minus that of {first}, in points, with its 95 % interval")]
    return Plot(points, axis, legend)


def _sampled(interval: str, n: int) -> str:
    """An interval and the number of items, of which no line end divides a figure from its name."""
    return f"{unbroken('95 % interval')} {unbroken(interval)}, {unbroken(f'n = {n:,}')}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}" if share == share else "-"


def range_of(row: Row) -> str:
    """The interval of a row in percent, "-" if it has none."""
    return f"{100 * row.low:.2f} to {100 * row.high:.2f}" if row.low == row.low else "-"


def _points(low: float, high: float) -> str:
    return f"{100 * low:+.2f} to {100 * high:+.2f}"
