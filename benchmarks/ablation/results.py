"""The table of what was measured, a row for each figure of a run at a step; means over seeds with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.ablation.design import Run
from relpretrain.data.shards.writer import write_atomically
from relpretrain.errors import suggest

RUN = [field.name for field in fields(Run)]
"""Columns that say which run a row is of."""
COLUMNS: dict[str, Any] = {
    **get_type_hints(Run),
    **{"step": int, "seconds": float, "teraflops": float, "probe": str, "metric": str, "value": float, "n": int},
}
"""Columns and their types. `seconds` and `teraflops` (10^12 operations) are what the steps so far took; `probe` is what
was asked, as "held_out_pairs/valse/relations" (folder, task, category or split); `metric` is "accuracy", "tr@1" and so
on; `value` a share in [0, 1]; `n` the number of items, 0 where nobody counted."""
_LATER = {"graphs": Run.graphs, "fusion": Run.fusion}
"""Columns that tables of earlier versions lack, and what all their runs had."""
_BOOLS = [name for name, kind in COLUMNS.items() if kind is bool]
_LEVEL = 0.95
"""Share of the intervals that cover the true mean, if seeds' values are normally distributed."""


def write_results(path: Path, results: pd.DataFrame) -> None:
    """Write a table as CSV, whole or not at all; `read_results` gives an equal one back."""
    words = results.assign(**{name: results[name].map({True: "true", False: "false"}) for name in _BOOLS})
    path.parent.mkdir(parents=True, exist_ok=True)
    text = words.to_csv(columns=list(COLUMNS), index=False, na_rep="nan", lineterminator="\n")
    write_atomically(path, text.encode())


def read_results(path: Path) -> pd.DataFrame:
    """Read a table that `write_results` wrote; the order of the columns does not matter.

    Of columns that came later, an older table has the usual value.

    Raises:
        ValueError: If columns are missing or unknown, or a cell does not hold what its column does.
    """
    try:
        cells = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} is not a table of results ({' '.join(str(error).split())}); make it anew.") from None
    cells = cells.assign(**{name: value for name, value in _LATER.items() if name not in cells})
    wrong = [f"no column {name!r}" for name in COLUMNS if name not in cells]
    wrong += [f"an unknown column {name!r}{suggest(name, COLUMNS)}" for name in cells if name not in COLUMNS]
    if wrong:
        raise ValueError(f"{path} has {', '.join(wrong)}: it is not a table of this version; make it anew.")
    return pd.DataFrame({name: _parse(path, name, cells[name]) for name in COLUMNS})


def _parse(path: Path, name: str, cells: Iterable[str]) -> pd.Series:
    kind = COLUMNS[name]
    choices = {"true": True, "false": False} if kind is bool else {choice: choice for choice in get_args(kind)}
    parse: Callable[[str], Any] = choices.__getitem__ if kind is bool or get_origin(kind) is Literal else kind
    values = []
    for line, cell in enumerate(cells, 2):
        try:
            values.append(parse(cell))
        except (KeyError, TypeError, ValueError):
            expected = " or ".join(choices) or {int: "a whole number", float: "a number"}[kind]
            message = f"{path}, line {line} has {cell!r} in the column {name!r}; expected {expected}."
            raise ValueError(message) from None
    return pd.Series(values, dtype=kind if kind in (bool, int, float) else object)


def select(results: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """The rows whose columns have the wanted values; a tuple stands for any of its values."""
    there = [results[name].isin(v if isinstance(v, tuple) else (v,)) for name, v in wanted.items()]
    return results[np.logical_and.reduce(there)] if there else results


def by_step(results: pd.DataFrame) -> pd.DataFrame:
    """A row for each run and step: factors, step, seconds, teraflops, and a column (metric, probe) for each value.

    Raises:
        ValueError: If a run has two values of a probe at a step.
    """
    wide = results.pivot(index=[*RUN, "step", "seconds", "teraflops"], columns=["metric", "probe"], values="value")
    wide.columns = wide.columns.to_flat_index()
    return wide.reset_index()


def final(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of each run's last step."""
    return rows[rows["step"] == rows.groupby(RUN)["step"].transform("max")]


class Estimate(NamedTuple):
    """A mean over seeds, of shares or of differences of shares, with its 95 % interval."""

    mean: float  # NaN without seeds
    low: float  # NaN with fewer than two seeds, which give no interval
    high: float
    seeds: int

    @property
    def percent(self) -> str:
        """As a share: "93.8 (91.3 to 96.0)" percent."""
        return self._words("")

    @property
    def points(self) -> str:
        """As a difference: "+1.2 (-2.0 to +4.4)" percentage points."""
        return self._words("+")

    @property
    def sign(self) -> int:
        """1 or -1 if the interval is above or below 0, as it is shown, with one decimal; 0 if neither or none."""
        return int(self.seeds > 1) * (int(round(100 * self.low, 1) > 0) - int(round(100 * self.high, 1) < 0))

    def _words(self, sign: str) -> str:
        if not self.seeds:
            return "not run"
        interval = f"{percent(self.low, sign)} to {percent(self.high, sign)}" if self.seeds > 1 else "one seed"
        return f"{percent(self.mean, sign)} ({interval})"


def percent(share: float, sign: str = "") -> str:
    """A share in percent with one decimal, with its sign if `sign` is "+"; never "-0.0"."""
    return f"{round(100 * share, 1) + 0.0:{sign}.1f}"


def mean_over_seeds(shares: Iterable[float]) -> Estimate:
    """The mean of a share over several runs, with Student's t interval cut to [0, 1]."""
    found = _student(list(shares))
    return found._replace(low=max(found.low, 0.0), high=min(found.high, 1.0)) if found.seeds > 1 else found


def paired_difference(control: pd.Series, treatment: pd.Series) -> Estimate:
    """Mean of treatment minus control within a seed, over the seeds that both have; shares indexed by seed."""
    return _student((treatment - control).dropna().tolist())


def _student(values: list[float]) -> Estimate:
    seeds = len(values)
    mean = fmean(values) if seeds else math.nan
    if seeds < 2:
        return Estimate(mean, math.nan, math.nan, seeds)
    # Not `t.interval`, which is NaN where all values are equal.
    margin = float(stats.t.ppf((1 + _LEVEL) / 2, seeds - 1) * stats.sem(values))
    return Estimate(mean, mean - margin, mean + margin, seeds)
