"""The report as one HTML file: plots, tables, published figures, and the items on which two models disagree."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from relpretrain.zeroshot.analysis.table import OVERALL, Row, Table
from relpretrain.zeroshot.report.plot import Point, legend, plot, symmetric_axis
from relpretrain.zeroshot.report.published import PublishedTable, published_for, reproduced
from relpretrain.zeroshot.report.terminal import Report, comparison_grid, table_grid
from relpretrain.zeroshot.results.comparison import Comparison
from relpretrain.zeroshot.results.disagreements import Find, disagreement_cards

PAGE_NAME = "zero_shot.html"

_STYLE = Path(__file__).with_name("page.css")
_FIT = 10
"""Columns that fit beside each other in the width of the text."""

_FLOORS = {"chance": "chance", "true": 'always "true"', "majority": "the most frequent answer"}
"""Details that say what can be had without knowledge, in words."""


def write_page(path: Path, report: Report, find: Find = lambda name: None) -> None:
    """Write a report as one HTML file that needs no other.

    Args:
        path: Where it goes.
        report: The report.
        find: Gives the path of an image by the name that items know it by; None where it is not at hand.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_html(report, find), encoding="utf-8")


def to_html(report: Report, find: Find = lambda name: None) -> str:
    """The page as a string (see `write_page`)."""
    sections = [_table(table, f"table-{i}") for i, table in enumerate(report.tables)]
    sections += [_comparison(c, f"comparison-{i}", find) for i, c in enumerate(report.comparisons)]
    model = str(report.metadata.get("model") or report.metadata.get("models") or "")
    title = escape(f"Zero-shot results of {model}" if model else "Zero-shot results")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n"
        f"<h1>{title}</h1>\n{_overview(report)}\n{chr(10).join(sections)}\n{_metadata(report.metadata)}\n"
        "</body>\n</html>\n"
    )


def _overview(report: Report) -> str:
    """Headline figures, each leading to its section."""
    parts = []
    if report.tables:
        rows = []
        for number, table in enumerate(report.tables):
            row = table.overall
            link = _link(f"table-{number}", table.title, row.category)
            rows.append([link, f"{row.n:,}", _percent(row.accuracy), _range(row)])
        parts.append(_html_table(["benchmark", "n", "%", "95 % interval"], rows))
    if report.comparisons:
        rows = []
        for number, comparison in enumerate(report.comparisons):
            first = comparison.rows[0]
            link = _link(f"comparison-{number}", comparison.title, first.category)
            numbers = [f"{100 * first.paired.difference:+.2f}", _points(first.paired.low, first.paired.high)]
            rows.append([link, f"{first.n:,}", *numbers, f"{first.paired.p_value:.2g}"])
        parts.append(_html_table(["comparison", "n", "difference", "95 % interval", "McNemar p"], rows))
    return "".join(parts)


def _link(anchor: str, title: str, figure: str) -> str:
    said = "" if figure == OVERALL else f' <span class="quiet">{escape(figure)}</span>'
    return f'<a href="#{anchor}">{escape(title)}</a>{said}'


def _table(table: Table, anchor: str) -> str:
    published = published_for(table)
    first = table.overall
    lead = f"{_percent(first.accuracy)} %" if first.accuracy == first.accuracy else "no accuracy"
    beside = f"{first.category}, 95 % interval {_range(first)}, n = {first.n:,}"
    title, header, rows, notes = table_grid(table)
    parts = [
        f'<section id="{anchor}">\n<h2>{escape(title)}</h2>',
        f'<p class="headline">{lead} <small>{escape(beside)}</small></p>',
        _table_plot(table, published),
        _html_table(header, [[escape(cell) for cell in row] for row in rows]),
        _notes(notes),
        _published(table, published) if published is not None else "",
        "</section>",
    ]
    return "\n".join(filter(None, parts))


def _table_plot(table: Table, published: PublishedTable | None) -> str:
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
        aside = f"{_range(row)} · n {row.n:,}"
        points.append(Point(row.category, *figures, _percent(row.accuracy), aside, marks, row.category == OVERALL))
    if not points:
        return ""
    entries = [("dot", "this model, with its 95 % interval")]
    for name in dict.fromkeys(floors):
        entries.append(("chance" if name == "chance" else "other", _FLOORS[name]))
    entries += [("published", "published models")] if published is not None else []
    return f"<figure>{plot(points, 0, 100, (0, 25, 50, 75, 100), '%')}{legend(entries)}</figure>"


def _published(table: Table, published: PublishedTable) -> str:
    """Published rows beside ours, best first; a small number says who published a row."""
    places = {(row.source, row.where, row.read, row.address): "" for row in published.rows}
    places = {place: str(number) for number, place in enumerate(places, start=1)}
    ours = {row.category: 100 * row.accuracy for row in table.rows}
    lines = [("this model", "", ours)]
    for row in published.rows:
        lines.append((row.model, places[row.source, row.where, row.read, row.address], row.values))
    lines.sort(key=lambda line: -line[2].get(published.columns[0], 0.0))
    rows = [
        [
            escape(model) + (f" <sup>{mark}</sup>" if mark else ""),
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
    title = f"<h3>Published figures on the same {published.n:,} items, protocol {escape(published.protocol)}</h3>"
    return title + _html_table(["model", *published.columns], rows, ours=number) + _notes(notes)


def _comparison(comparison: Comparison, anchor: str, find: Find) -> str:
    first, second = comparison.names
    row = comparison.rows[0]
    lead = f"{100 * row.paired.difference:+.2f} points"
    beside = f"{second} minus {first}, {row.category}, 95 % interval {_points(row.paired.low, row.paired.high)}, "
    beside += f"n = {row.n:,}, McNemar p {row.paired.p_value:.2g}"
    title, header, rows, notes = comparison_grid(comparison)
    parts = [
        f'<section id="{anchor}">\n<h2>{escape(title)}</h2>',
        f'<p class="headline">{lead} <small>{escape(beside)}</small></p>',
        _comparison_plot(comparison),
        _html_table(header, [[escape(cell) for cell in line] for line in rows], text=(1,)),
        _notes(notes),
        disagreement_cards(comparison, find),
        "</section>",
    ]
    return "\n".join(filter(None, parts))


def _comparison_plot(comparison: Comparison) -> str:
    points = []
    for row in comparison.rows:
        paired = row.paired
        figures = (100 * paired.difference, 100 * paired.low, 100 * paired.high)
        p = f"p {paired.p_value:.2g}" if row.p_holm is None else f"Holm p {row.p_holm:.2g}"
        points.append(
            Point(row.category, *figures, f"{figures[0]:+.2f}", f"{p} · n {row.n:,}", {}, row.category == OVERALL)
        )
    end, ticks = symmetric_axis(max(abs(bound) for point in points for bound in (point.low, point.high, 1.0)))
    first, second = comparison.names
    entries = [("dot", f"accuracy of {second} minus that of {first}, in points, with its 95 % interval")]
    return f"<figure>{plot(points, -end, end, ticks, 'points', zero=True)}{legend(entries)}</figure>"


def _metadata(metadata: dict[str, Any]) -> str:
    lines = "".join(f"<dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd>" for key, value in metadata.items())
    return (
        f"<details open>\n<summary>How these figures were made</summary>\n<dl>{lines}</dl>\n</details>" if lines else ""
    )


def _html_table(header: Sequence[str], rows: Sequence[Sequence[str]], text: Sequence[int] = (), ours: int = -1) -> str:
    """A table in a box; cells are HTML, and columns in `text` are flush left. On narrow screens a row is a block."""
    names = [escape(name, quote=True) for name in header]

    def line(tag: str, cells: Sequence[str], css: str = "") -> str:
        flush = ['class="text"' if i in text else "" for i in range(len(cells))]
        named = [f'data-name="{name}"' if tag == "td" else "" for name in names]
        starts = [" ".join(filter(None, (tag, *more))) for more in zip(flush, named, strict=True)]
        inner = "".join(f"<{start}>{cell}</{tag}>" for start, cell in zip(starts, cells, strict=True))
        return f"<tr{css}>{inner}</tr>"

    body = "\n".join(line("td", row, ' class="ours"' if i == ours else "") for i, row in enumerate(rows))
    head = line("th", names)
    wide = " wide" if len(header) > _FIT else ""
    return (
        f'<div class="box{wide}" tabindex="0"><table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )


def _notes(notes: Sequence[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>' if notes else ""


def _percent(share: float) -> str:
    return f"{100 * share:.2f}" if share == share else "-"


def _range(row: Row) -> str:
    return f"{100 * row.low:.2f} to {100 * row.high:.2f}" if row.low == row.low else "-"


def _points(low: float, high: float) -> str:
    return f"{100 * low:+.2f} to {100 * high:+.2f}"
