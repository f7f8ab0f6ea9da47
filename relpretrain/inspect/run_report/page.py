"""The report of a run as one HTML file: curves by objective, zero-shot figures, what the data was."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relpretrain.inspect.run_report.curves import Curve, axis, smooth, summary
from relpretrain.inspect.run_report.groups import grouped, panel_of
from relpretrain.showing.html import render_template

_TEMPLATE = Path(__file__).with_name("page.html")
_WIDTH, _HEIGHT = 300, 130
_MOST_POINTS = 400
_COLOURS = 4
"""Lines of a panel that page.css tells apart."""


class Line(NamedTuple):
    """A curve of a panel: its colour's number, its name, and the points of its values and of their moving average."""

    colour: int
    label: str
    values: str
    mean: str


class Panel(NamedTuple):
    """A panel: its lines, the range of its values, its last step, and the height of chance; "" without one."""

    name: str
    lines: list[Line]
    low: str
    high: str
    last: str
    chance: str
    chance_value: str


def render(
    title: str,
    runs: Mapping[str, Mapping[str, Curve]],
    chance: Mapping[str, float],
    tables: Sequence[tuple[str, Sequence[Any]]],
    data: Sequence[tuple[str, str]],
) -> str:
    """The page.

    Args:
        title: Of the page.
        runs: Curves by column, by the name of the run.
        chance: What knowing nothing gives, by panel.
        tables: Zero-shot results: whose they are, and for each benchmark its title, header, rows and notes.
        data: What each run was trained on: its name and the text of its data record.

    Returns:
        HTML, style included.
    """
    groups = grouped(panel_of(column) for curves in runs.values() for column in curves)
    drawn = [
        (f"g{i}", name, [_panel(runs, p, chance.get(p)) for p in panels])
        for i, (name, panels) in enumerate(groups.items())
    ]
    values = [(name, summary(curves)) for name, curves in runs.items()]
    jumps = [(anchor, f"Curves: {name}") for anchor, name, _ in drawn]
    jumps += [(f"z{i}", f"Zero-shot: {name}") for i, (name, _) in enumerate(tables)]
    jumps += [("data", "Data")] * bool(data) + [("values", "Logged values")]
    sizes = {"width": _WIDTH, "height": _HEIGHT, "several": len(runs) > 1}
    return render_template(
        _TEMPLATE, title=title, groups=drawn, tables=tables, data=data, values=values, jumps=jumps, **sizes
    )


def _panel(runs: Mapping[str, Mapping[str, Curve]], panel: str, chance: float | None) -> Panel:
    found = [
        (run, column, curve)
        for run, curves in runs.items()
        for column, curve in curves.items()
        if panel_of(column) == panel
    ]
    low, high = axis([(column, curve) for _, column, curve in found], chance)
    first = min(float(steps[0]) for _, _, (steps, _) in found)
    last = max(float(steps[-1]) for _, _, (steps, _) in found)

    def points(steps: NDArray[np.float64], values: NDArray[np.float64]) -> str:
        chosen = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), _MOST_POINTS)).astype(int))
        x = (steps[chosen] - first) / (last - first or 1) * _WIDTH
        y = _HEIGHT - (np.clip(values[chosen], low, high) - low) / (high - low) * _HEIGHT
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True) if math.isfinite(b))

    lines = []
    for number, (run, column, (steps, values)) in enumerate(found):
        label = " ".join(filter(None, (run if len(runs) > 1 else "", column.rpartition("/" + panel)[0])))
        mean = points(steps, smooth(values)) if len(values) >= 8 else points(steps, values)
        lines.append(Line(number % _COLOURS, label, points(steps, values), mean))
    height = "" if chance is None else f"{_HEIGHT - (chance - low) / (high - low) * _HEIGHT:.1f}"
    return Panel(
        panel, lines, f"{low:.3g}", f"{high:.3g}", f"{last:,.0f}", height, "" if chance is None else f"{chance:.3g}"
    )
