"""Curves of a run's logged values, and their picture."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relpretrain.writing import aside

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Steps and values, of equal length."""

_NOT_CURVES = ("epoch", "step", "hp_metric")
_COLOURS = ("#2a6fb0", "#d1661f", "#3b8a3f", "#8a4fa3")
_MOST_COLUMNS = 4


def find_metrics(run: Path) -> Path:
    """The metrics.csv of a run's folder; the newest below it if it holds none itself.

    Raises:
        ValueError: If there is none.
    """
    if (run / "metrics.csv").is_file():
        return run / "metrics.csv"
    found = sorted(run.rglob("metrics.csv"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ValueError(
            f"There is no metrics.csv below {run}: relpretrain fit writes one, unless the recipe says trainer.logger: "
            "false; a trainer of your own writes one with Lightning's CSVLogger."
        )
    return found[-1]


def read_curves(path: Path) -> dict[str, Curve]:
    """Read the curves of a metrics.csv: by column, without empty cells, learning rates and counts of samples.

    Raises:
        ValueError: If the file has no column "step", or no number in any other column.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or ())
        if "step" not in columns:
            raise ValueError(f"{path} has no column 'step': it is not a log of Lightning's CSVLogger.")
        for row in reader:
            for name, cell in row.items():
                wanted = name not in _NOT_CURVES and not str(name).startswith(("lr", "data/"))  # no losses
                if wanted and cell and (value := _number(cell)) is not None:
                    points.setdefault(name, []).append((float(row["step"]), value))
    if not points:
        raise ValueError(f"{path} holds no logged values.")
    return {
        name: (np.array([s for s, _ in points[name]]), np.array([v for _, v in points[name]]))
        for name in columns
        if name in points
    }


def smooth(values: NDArray[np.float64], window: int | None = None) -> NDArray[np.float64]:
    """Centred moving average, over fewer values at the ends; values that are not finite are passed over.

    Args:
        values: (n,).
        window: How many values it averages over; a twentieth of them, at least 1, if None.

    Returns:
        (n,); NaN where no value of the window is finite.
    """
    half = max(1, len(values) // 20 if window is None else window) // 2
    finite = np.isfinite(values)
    totals = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    number = counts[high] - counts[low]
    return np.where(number > 0, (totals[high] - totals[low]) / np.maximum(number, 1), np.nan)


def panel_of(column: str) -> str:
    """Name of the panel that a column is drawn in: "train/itc" and "val/itc" share one."""
    return column.split("/", 1)[-1]


def plot_curves(runs: Mapping[str, Mapping[str, Curve]], path: Path) -> None:
    """Draw one small panel per logged value: losses first, single values pale, their moving average in colour.

    Args:
        runs: Curves by column, by the name of the run; several runs are drawn over each other.
        path: Where to write the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = list(dict.fromkeys(column for curves in runs.values() for column in curves))
    panels = sorted(dict.fromkeys(map(panel_of, columns)), key=_is_no_loss)
    across = min(_MOST_COLUMNS, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(3.4 * across, 2.5 * down), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(down, across, number + 1)
        lines = [(run, column) for run, curves in runs.items() for column in curves if panel_of(column) == panel]
        for colour, (run, column) in zip(_COLOURS * len(lines), lines, strict=False):
            label = " ".join(filter(None, (run if len(runs) > 1 else "", column.rpartition("/" + panel)[0])))
            _draw(axes, runs[run][column], colour, label)
        axes.set_title(panel, fontsize=10, loc="left")
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if len(lines) > 1:
            axes.legend(fontsize=7, frameon=False)
        if number >= len(panels) - across:
            axes.set_xlabel("step", fontsize=8)
    with aside(path) as file:
        figure.savefig(file, format=path.suffix[1:])


def _draw(axes: Any, curve: Curve, colour: str, label: str) -> None:
    steps, values = curve
    if len(values) < 8:
        axes.plot(steps, values, color=colour, marker="o", markersize=3, linewidth=1.2, label=label)
        return
    shown = smooth(values)
    axes.plot(steps, values, color=colour, alpha=0.22, linewidth=0.7)
    axes.plot(steps, shown, color=colour, linewidth=1.6, label=label)
    finite = values[np.isfinite(values)]
    if len(finite):  # a single spike must not flatten the curve
        low, high = np.percentile(finite, [0.5, 99.5])
        margin = 0.05 * (high - low) or 0.5
        before = axes.get_ylim() if len(axes.lines) > 2 else (low - margin, high + margin)
        axes.set_ylim(min(low - margin, before[0]), max(high + margin, before[1]))


def _is_no_loss(panel: str) -> bool:
    return any(word in panel for word in ("accuracy", "per_second", "temperature", "seconds", "wait", "norm", "memory"))


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def first_and_last(curve: Curve) -> tuple[float, float]:
    """Mean of the first and of the last tenth of a curve's finite values, at least one each; NaN without any."""
    values = curve[1][np.isfinite(curve[1])]
    if not len(values):
        return math.nan, math.nan
    part = max(1, len(values) // 10)
    return float(values[:part].mean()), float(values[-part:].mean())


def summary(curves: Mapping[str, Curve]) -> list[Sequence[str]]:
    """Rows (column, points, beginning, end) of a table of curves."""
    rows: list[Sequence[str]] = []
    for name, curve in curves.items():
        first, last = first_and_last(curve)
        rows.append((name, f"{len(curve[1]):,}", f"{first:.4g}", f"{last:.4g}"))
    return rows
