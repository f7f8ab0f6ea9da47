"""Curves of a run's logged values."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Steps and values, of equal length."""

_NOT_CURVES = ("epoch", "step", "hp_metric")


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

    Lines without a step, as one that was cut off, are passed over. Of several values at a step the last one counts: a
    run that went on from an earlier checkpoint has come there again.

    Raises:
        ValueError: If the file has no column "step", or no number in any other column, or is no CSV.
    """
    points: dict[str, dict[float, float]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            if "step" not in columns:
                raise ValueError(f"{path} has no column 'step': it is not a log of Lightning's CSVLogger.")
            no_losses = (*_NOT_CURVES, *(name for name in columns if name.startswith(("lr", "data/"))))
            for row in reader:
                step = _number(row["step"])
                if step is None or not math.isfinite(step):  # a line that was cut off
                    continue
                for name in columns:
                    if name not in no_losses and (value := _number(row[name])) is not None:
                        points.setdefault(name, {})[step] = value
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a log: {error}") from error
    if not points:
        raise ValueError(f"{path} holds no logged values.")
    return {name: _curve(points[name]) for name in columns if name in points}


def _curve(points: Mapping[float, float]) -> Curve:
    steps = sorted(points)
    return np.array(steps), np.array([points[step] for step in steps])


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


def _number(cell: str | None) -> float | None:
    try:
        return float(cell or "")
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


def axis(curves: Sequence[tuple[str, Curve]], chance: float | None = None) -> tuple[float, float]:
    """The range that a panel shows: of its curves, which a single spike does not widen, and of chance.

    Shares end at 0 and 1, however little they change.

    Args:
        curves: Those of the panel, each with its column; several runs may have one of the same column.
        chance: What knowing nothing gives; None where that is not known.

    Returns:
        Its lower and its upper end; 0 and 1 where no value is finite.
    """
    ranges = [found for _, (_, values) in curves if (found := _limits(values)) is not None]
    low, high = (min(r[0] for r in ranges), max(r[1] for r in ranges)) if ranges else (0.0, 1.0)
    if chance is not None:
        low, high = min(low, chance), max(high, chance * 1.03)
    shares = all(is_share(column, values) for column, (_, values) in curves)
    return (max(low, 0.0), min(high, 1.0)) if shares else (low, high)


def is_share(column: str, values: NDArray[np.float64]) -> bool:
    """Whether a column holds shares between 0 and 1, by name and values: accuracies of others may be percent."""
    named = column.startswith("zeroshot/") or column.endswith(("accuracy", "data_wait"))
    finite = values[np.isfinite(values)]
    return named and bool(((finite >= 0) & (finite <= 1)).all())


def _limits(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """The range of a curve with a margin; None where no value is finite."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    low, high = np.percentile(finite, [0.5, 99.5]) if len(finite) >= 8 else (finite.min(), finite.max())
    margin = 0.05 * (high - low) or 0.5
    return float(max(low - margin, 0) if finite.min() >= 0 else low - margin), float(high + margin)
