"""Plots of shares and differences: HTML rows with small inline SVGs, which fit any width without scaling their text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape


@dataclass(frozen=True)
class Point:
    """A row of a plot: a value with its interval, and what stands beside it.

    Args:
        name: Of the category.
        value: The value, in the unit of the axis.
        low: Lower bound of its interval.
        high: Upper bound.
        shown: The value in words.
        aside: What is said after it in smaller type.
        marks: Further values to mark, by the class of their mark: "chance", "other", or several "published".
        whole: Whether it is the row over all categories.
    """

    name: str
    value: float
    low: float
    high: float
    shown: str
    aside: str = ""
    marks: dict[str, Sequence[float]] = field(default_factory=dict)
    whole: bool = False


def plot(
    points: Sequence[Point], low: float, high: float, ticks: Sequence[float], unit: str, zero: bool = False
) -> str:
    """Draw points as dots with whiskers, one row each.

    Args:
        points: The rows.
        low: Left end of the axis.
        high: Right end.
        ticks: Where the axis is labelled.
        unit: What the last label ends with.
        zero: Whether the line at 0 is drawn stronger.
    """

    def place(value: float) -> str:
        return f"{100 * (min(max(value, low), high) - low) / (high - low):.2f}%"

    def line(css: str, at: float, y1: str = "0", y2: str = "100%") -> str:
        x = place(at)
        return f'<line class="{css}" x1="{x}" x2="{x}" y1="{y1}" y2="{y2}"/>'

    grid = "".join(line("zero" if zero and tick == 0 else "grid", tick) for tick in ticks)
    rows = []
    for point in points:
        drawn = [grid]
        for kind, values in point.marks.items():
            for value in values:
                dot = f'<circle class="published" cx="{place(value)}" cy="50%" r="3"/>'
                drawn.append(dot if kind == "published" else line(kind, value, "15%", "85%"))
        if not math.isnan(point.low):
            ends = f'x1="{place(point.low)}" x2="{place(point.high)}"'
            drawn.append(f'<line class="whisker" {ends} y1="50%" y2="50%"/>')
            drawn += [line("whisker", end, "32%", "68%") for end in (point.low, point.high)]
        if not math.isnan(point.value):
            drawn.append(f'<circle class="dot" cx="{place(point.value)}" cy="50%" r="4.5"/>')
        whole = " whole" if point.whole else ""
        said = escape(f"{point.name}: {point.shown} {point.aside}".strip(), quote=True)
        rows.append(
            f'<div class="row"><div class="name{whole}">{escape(point.name)}</div>'
            f'<div class="strip"><svg role="img" aria-label="{said}">{"".join(drawn)}</svg></div>'
            f'<div class="value{whole}">{escape(point.shown)} <small>{escape(point.aside)}</small></div></div>'
        )
    labels = []
    for number, tick in enumerate(ticks):
        anchor = "start" if number == 0 else "end" if number == len(ticks) - 1 else "middle"
        text = f"{tick:g}" + (f" {unit}" if number == len(ticks) - 1 else "")
        labels.append(f'<text x="{place(tick)}" y="12" text-anchor="{anchor}">{escape(text)}</text>')
    drawn_labels = f'<svg aria-hidden="true">{"".join(labels)}</svg>'
    axis = f'<div class="row"><div></div><div class="strip axis">{drawn_labels}</div><div></div></div>'
    return f'<div class="plot">{"".join(rows)}{axis}</div>'


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Explain marks: (kind, words) each, a kind being "dot", "chance", "other" or "published"."""
    drawings = {
        "dot": '<line class="whisker" x1="2" x2="20" y1="6" y2="6"/><circle class="dot" cx="11" cy="6" r="4.5"/>',
        "published": '<circle class="published" cx="11" cy="6" r="3"/>',
    }
    parts = []
    for kind, words in entries:
        drawing = drawings.get(kind, f'<line class="{kind}" x1="11" x2="11" y1="0" y2="12"/>')
        parts.append(f'<span><svg aria-hidden="true">{drawing}</svg>{escape(words)}</span>')
    return f'<figcaption class="legend">{"".join(parts)}</figcaption>'


def symmetric_axis(bound: float) -> tuple[float, list[float]]:
    """End and labels of an axis around 0 that holds +-`bound`: the end is 1, 2 or 5 times a power of ten."""
    size = 10.0 ** math.floor(math.log10(bound)) if bound > 0 else 1.0
    end = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= bound)
    return end, [-end, -end / 2, 0.0, end / 2, end]
