"""Plots of means over seeds with their intervals, as SVG files that are equal for equal figures."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks.ablation.results import mean_over_seeds
from relpretrain.data.shards.writer import write_atomically

Values = Mapping[str, Sequence[float]]
"""A share of every seed, by the name of the setting."""
Lines = Mapping[str, Mapping[float, Sequence[float]]]
"""A share of every seed at each place of the horizontal axis, by the name of the line."""

_STYLE = {"svg.hashsalt": "relpretrain", "svg.fonttype": "none", "font.size": 8}
_COLOURS = {"baseline": "#555555", "+VSG": "#0072b2", "+MRC": "#e69f00", "+both": "#009e73"}
"""Colours of Okabe and Ito (2008), which most colour-blind people tell apart, and grey."""
_OTHER_COLOURS = ("#d55e00", "#cc79a7", "#56b4e9", "#0072b2", "#e69f00", "#009e73")
_MARKERS = {"baseline": "o", "+VSG": "s", "+MRC": "^", "+both": "D"}
_WIDTH = 7.2
"""Inches, which browsers show as 96 pixels each: about 700."""


@dataclass(frozen=True)
class Panel:
    """One of the pictures in a plot."""

    title: str
    data: Any  # `Lines` or `Values`, as the plot wants them
    chance: float | None = None  # where the line of chance goes


def plot_lines(panels: Sequence[Panel], path: Path, axis: str = "step") -> None:
    """Draw means as lines, and behind them each seed: a thin line, or dots where places have unequal numbers of seeds.

    Args:
        panels: Pictures, two in a row; their data are `Lines`.
        path: Where to write the SVG.
        axis: What the horizontal axis is.
    """
    with _drawing(panels, path, 2, lambda down: 2.3 * down + 0.3, axis) as (figure, places):
        for axes, panel, _ in places:
            spare = iter(_OTHER_COLOURS * len(panel.data))
            for label, line in panel.data.items():
                _line(axes, label, line, _COLOURS.get(label.partition(" ")[0]) or next(spare))
            _finish(axes, panel, upright=False)
            axes.set_ylabel("%")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)


def plot_settings(panels: Sequence[Panel], path: Path) -> None:
    """Draw settings one below the other: the mean on its 95 % interval, and each seed as a small dot below.

    Args:
        panels: Pictures side by side, three in a row; their data are `Values` of the same settings.
        path: Where to write the SVG.
    """
    names = list(dict.fromkeys(name for panel in panels for name in panel.data))
    with _drawing(panels, path, 3, lambda down: (0.28 * len(names) + 0.75) * down, "%") as (_, places):
        for axes, panel, is_first in places:
            for row, name in enumerate(names):
                colour = _COLOURS.get(name.partition(" ")[0], _COLOURS["+VSG"])  # of "+both at 1 %" too
                _dots(axes, row, panel.data.get(name, ()), colour, _MARKERS.get(name.partition(" ")[0], "o"))
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.set_yticks(range(len(names)), names if is_first else [""] * len(names))
            axes.tick_params(axis="y", length=0)
            _finish(axes, panel, upright=True)


@contextlib.contextmanager
def _drawing(
    panels: Sequence[Panel], path: Path, most: int, inches: Callable[[int], float], axis: str
) -> Iterator[tuple[Any, Iterator[tuple[Any, Panel, bool]]]]:
    """A figure and its axes, panels and whether they stand first in a row; written, whole or not at all, at the end.

    Settings of the user do not change it. The lowest axes of each column are labelled.
    """
    across = min(most, len(panels))
    down = -(-len(panels) // across)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(_WIDTH, inches(down)), layout="constrained", facecolor="white")
        FigureCanvasSVG(figure)

        def places() -> Iterator[tuple[Any, Panel, bool]]:
            for number, panel in enumerate(panels):
                axes = figure.add_subplot(down, across, number + 1)
                yield axes, panel, number % across == 0
                if number >= len(panels) - across:
                    axes.set_xlabel(axis)

        yield figure, places()
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())


def _line(axes: Any, label: str, line: Mapping[float, Sequence[float]], colour: str) -> None:
    places = sorted(place for place, values in line.items() if len(values))
    means = [mean_over_seeds(line[place]) for place in places]
    marker = _MARKERS.get(label.partition(" ")[0], "o")
    heights = [100 * mean.mean for mean in means]
    axes.plot(places, heights, color=colour, marker=marker, markersize=3.5, linewidth=1.4, label=label)
    seeds = [[100 * value for value in line[place]] for place in places]
    if len(set(map(len, seeds))) == 1:
        if len(seeds[0]) > 1:
            axes.plot(places, seeds, color=colour, alpha=0.45, linewidth=0.6, zorder=1)
        return
    for place, values in zip(places, seeds, strict=True):
        axes.plot([place] * len(values), values, "o", color=colour, alpha=0.45, markersize=2, mew=0, zorder=1)


def _dots(axes: Any, row: int, values: Sequence[float], colour: str, marker: str) -> None:
    mean, low, high, seeds = mean_over_seeds(values)
    axes.plot([100 * value for value in values], [row + 0.3] * seeds, "o", color=colour, alpha=0.5, markersize=3, mew=0)
    if seeds > 1:
        axes.plot([100 * low, 100 * high], [row, row], color=colour, linewidth=1.4)
    axes.plot([100 * mean] * bool(seeds), [row] * bool(seeds), marker, color=colour, markersize=5)


def _finish(axes: Any, panel: Panel, upright: bool) -> None:
    if panel.chance is not None:
        draw = axes.axvline if upright else axes.axhline
        draw(100 * panel.chance, color="#888888", linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    axes.set_title(panel.title, fontsize=8, loc="left")
    axes.grid(axis="x" if upright else "y", alpha=0.3, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
