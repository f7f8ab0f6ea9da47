"""What a plot of shares or differences holds; the template draws it as HTML rows, which fit any width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


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


@dataclass(frozen=True)
class Axis:
    """The horizontal axis of a plot.

    Args:
        low: Left end.
        high: Right end.
        ticks: Where it is labelled.
        unit: What the last label ends with.
        zero: Whether the line at 0 is drawn stronger.
    """

    low: float
    high: float
    ticks: Sequence[float]
    unit: str
    zero: bool = False

    def place(self, value: float) -> str:
        """Where a value lies, in percent of the width; at the nearer end if it is outside."""
        return f"{100 * (min(max(value, self.low), self.high) - self.low) / (self.high - self.low):.2f}%"


@dataclass(frozen=True)
class Plot:
    """Dots with whiskers, one row each.

    Args:
        points: The rows.
        axis: Their axis.
        legend: Marks and their meanings; a mark is "dot", "chance", "other" or "published".
    """

    points: Sequence[Point]
    axis: Axis
    legend: Sequence[tuple[str, str]]


def symmetric_axis(bound: float, unit: str) -> Axis:
    """An axis around 0 that holds +-`bound`, which ends at 1, 2 or 5 times a power of ten."""
    size = 10.0 ** math.floor(math.log10(bound)) if bound > 0 else 1.0
    end = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= bound)
    return Axis(-end, end, [-end, -end / 2, 0.0, end / 2, end], unit, zero=True)
