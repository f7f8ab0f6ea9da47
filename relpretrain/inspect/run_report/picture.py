"""The curves of runs as one picture, for the Markdown report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relpretrain.inspect.run_report.curves import Curve, axis, smooth
from relpretrain.inspect.run_report.groups import grouped, panel_of
from relpretrain.writing import aside

_COLOURS = ("#2a6fb0", "#d1661f", "#3b8a3f", "#8a4fa3")
_ACROSS = 4


def plot_curves(runs: Mapping[str, Mapping[str, Curve]], path: Path, chance: Mapping[str, float] | None = None) -> None:
    """Draw a small panel for each logged value, a band of panels for each objective.

    Single values are pale, their moving average is in colour; a dashed line is what knowing nothing gives.

    Args:
        runs: Curves by column, by the name of the run; several runs are drawn over each other.
        path: Where to write the PNG.
        chance: Heights of the dashed lines by panel.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = grouped(panel_of(column) for curves in runs.values() for column in curves)
    across = min(_ACROSS, max(map(len, groups.values())))
    rows = [-(-len(panels) // across) for panels in groups.values()]
    figure = Figure(figsize=(3.4 * across, 2.4 * sum(rows) + 0.35 * len(rows)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    bands = figure.subfigures(len(rows), 1, height_ratios=[2.4 * number + 0.35 for number in rows], squeeze=False)
    for (band,), down, (name, panels) in zip(bands, rows, groups.items(), strict=True):
        band.suptitle(name, x=0.01, ha="left", fontsize=12, fontweight="bold")
        for number, panel in enumerate(panels):
            axes = band.add_subplot(down, across, number + 1)
            _panel(axes, runs, panel, (chance or {}).get(panel))
            if number >= len(panels) - across:
                axes.set_xlabel("step", fontsize=8)
    with aside(path) as file:
        figure.savefig(file, format=path.suffix[1:])


def _panel(axes: Any, runs: Mapping[str, Mapping[str, Curve]], panel: str, chance: float | None) -> None:
    lines = [(run, column) for run, curves in runs.items() for column in curves if panel_of(column) == panel]
    for colour, (run, column) in zip(_COLOURS * len(lines), lines, strict=False):
        label = " ".join(filter(None, (run if len(runs) > 1 else "", column.rpartition("/" + panel)[0])))
        steps, values = runs[run][column]
        if len(values) < 8:
            axes.plot(steps, values, color=colour, marker="o", markersize=3, linewidth=1.2, label=label)
        else:
            axes.plot(steps, values, color=colour, alpha=0.22, linewidth=0.7)
            axes.plot(steps, smooth(values), color=colour, linewidth=1.6, label=label)
    axes.set_ylim(*axis([(column, runs[run][column]) for run, column in lines], chance))
    if chance is not None:
        axes.axhline(chance, color="#888888", linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    axes.set_title(panel, fontsize=10, loc="left")
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if len(lines) > 1:
        axes.legend(fontsize=7, frameon=False)
