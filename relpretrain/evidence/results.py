"""What was measured: one row for each figure of a run, and what picks rows."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from relpretrain.data.shards.writer import write_atomically
from relpretrain.errors import suggest
from relpretrain.evidence.design import Run

Selection = Mapping[str, Any]
"""Wanted values by name of a field of `Run` or `Figure`; a tuple stands for any of its values."""


@dataclass(frozen=True)
class Figure:
    """One figure of a run at one step.

    Args:
        run: The run.
        step: Steps trained.
        seconds: Time that they took.
        teraflops: Floating point operations that they took, in 10^12.
        probe: What it was measured on, as "held_out_pairs/valse/relations": folder, task, category or split.
        metric: What was measured, as "accuracy" or "tr@1".
        value: The figure, a share in [0, 1].
        n: Items it was measured on; 0 where nobody counted.
    """

    run: Run
    step: int
    seconds: float
    teraflops: float
    probe: str
    metric: str
    value: float
    n: int


_OF_RUN = tuple(field.name for field in fields(Run))
_OF_FIGURE = tuple(field.name for field in fields(Figure) if field.name != "run")
_TYPES = {**get_type_hints(Run), **get_type_hints(Figure)}
MAIN: dict[str, Any] = {field.name: field.default for field in fields(Run) if field.default is not MISSING}
"""The factors of the main comparison."""
_WORDS = {int: "a whole number", float: "a number", bool: "true or false"}


def write_figures(path: Path, figures: Iterable[Figure]) -> None:
    """Write a table as CSV, whole or not at all; `read_figures` gives equal figures back."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_OF_RUN + _OF_FIGURE)
    for figure in figures:
        cells = [getattr(figure.run, name) for name in _OF_RUN] + [getattr(figure, name) for name in _OF_FIGURE]
        writer.writerow([str(cell).lower() if isinstance(cell, bool) else cell for cell in cells])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue().encode())


def read_figures(path: Path) -> list[Figure]:
    """Read a table that `write_figures` wrote; the order of the columns does not matter.

    Raises:
        ValueError: If columns are missing or unknown, or a cell does not hold what its column does.
    """
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        columns = next(lines, [])
        names = _OF_RUN + _OF_FIGURE
        wrong = [f"no column {name!r}" for name in names if name not in columns]
        wrong += [f"an unknown column {name!r}{suggest(name, names)}" for name in columns if name not in names]
        if wrong or len(columns) != len(names):
            problem = ", ".join(wrong) or "a column twice"
            raise ValueError(f"{path} has {problem}: it is not a table of figures of this version; make it anew.")
        return [_figure(cells, columns, f"{path}, line {lines.line_num}") for cells in lines]


def select(figures: Iterable[Figure], **wanted: Any) -> list[Figure]:
    """The figures whose run, step, probe and so on are as wanted.

    Args:
        figures: To choose from.
        wanted: See `Selection`.

    Raises:
        ValueError: If there is no field of that name.
    """
    known = _OF_RUN + _OF_FIGURE
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"Figures have no {unknown[0]!r}{suggest(unknown[0], known)}")
    sets = {name: value if isinstance(value, tuple) else (value,) for name, value in wanted.items()}
    of_run = [(name, values) for name, values in sets.items() if name in _OF_RUN]
    of_figure = [(name, values) for name, values in sets.items() if name in _OF_FIGURE]
    return [
        figure
        for figure in figures
        if all(getattr(figure, name) in values for name, values in of_figure)
        and all(getattr(figure.run, name) in values for name, values in of_run)
    ]


def final(figures: Sequence[Figure]) -> list[Figure]:
    """The figures of each run's last step."""
    last: dict[Run, int] = {}
    for figure in figures:
        last[figure.run] = max(figure.step, last.get(figure.run, 0))
    return [figure for figure in figures if figure.step == last[figure.run]]


def composite(figures: Iterable[Figure], probes: Sequence[str], name: str) -> list[Figure]:
    """Plain means over several probes within a run, at each step and for each metric that it has on all of them.

    Args:
        figures: To choose from.
        probes: Their probes.
        name: What the mean's probe is called.

    Raises:
        ValueError: If a run has a figure twice.
    """
    groups: dict[tuple[Run, int, str], dict[str, Figure]] = {}
    for figure in figures:
        if figure.probe in probes:
            group = groups.setdefault((figure.run, figure.step, figure.metric), {})
            if figure.probe in group:
                raise ValueError(
                    f"{figure.run.name} has two figures of {figure.probe} {figure.metric} at step {figure.step}."
                )
            group[figure.probe] = figure
    means = []
    for (run, step, metric), group in groups.items():
        if len(group) == len(set(probes)):
            first = next(iter(group.values()))
            value = math.fsum(figure.value for figure in group.values()) / len(group)
            items = sum(figure.n for figure in group.values())
            means.append(Figure(run, step, first.seconds, first.teraflops, name, metric, value, items))
    return means


def by_seed(figures: Iterable[Figure], probes: Sequence[str], metric: str, **where: Any) -> dict[int, float]:
    """One figure, or its mean over probes, of each seed that has it.

    Args:
        figures: To choose from, of one step of each run.
        probes: The probes; a run that lacks one is left out.
        metric: The metric.
        where: Which runs (see `Selection`); factors that are not named have their values of the main comparison.

    Returns:
        Values by seed; those that are no numbers are left out.

    Raises:
        ValueError: If several runs or figures of one seed are meant.
    """
    found: dict[int, Figure] = {}
    for figure in composite(select(figures, **{**MAIN, **where}, metric=metric), probes, "mean"):
        run = figure.run
        if other := found.get(run.seed):
            raise ValueError(
                f"{where} means two figures of seed {run.seed}: "
                f"{other.run.name} at step {other.step} and {run.name} at step {figure.step}."
            )
        found[run.seed] = figure
    return {seed: found[seed].value for seed in sorted(found) if math.isfinite(found[seed].value)}


def _figure(cells: list[str], columns: list[str], where: str) -> Figure:
    if len(cells) != len(columns):
        raise ValueError(f"{where} has {len(cells)} cells; expected {len(columns)}. Make the table anew.")
    values = {name: _value(name, cell, where) for name, cell in zip(columns, cells, strict=True)}
    return Figure(Run(**{name: values.pop(name) for name in _OF_RUN}), **values)


def _value(name: str, cell: str, where: str) -> Any:
    kind = _TYPES[name]
    if get_origin(kind) is Literal:
        if cell not in get_args(kind):
            raise ValueError(f"{where} has {cell!r} in the column {name!r}{suggest(cell, get_args(kind))}")
        return cell
    try:
        return {"true": True, "false": False}[cell] if kind is bool else kind(cell)
    except (KeyError, ValueError):
        raise ValueError(f"{where} has {cell!r} in the column {name!r}; expected {_WORDS[kind]}.") from None
