"""A benchmark's result as a table: what tasks fill in and reports print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from relpretrain.zeroshot.statistics import SAMPLES, bootstrap_interval

OVERALL = "overall"
"""Name of the row over all items."""


@dataclass(frozen=True)
class Row:
    """Accuracy, or another share, on one category of items.

    Args:
        category: Name of the category.
        n: Number of items.
        correct: Number of items that were right.
        low: Lower bound of the 95 % interval of the accuracy, a share.
        high: Upper bound.
        details: Further figures by name, such as ties or AUROC, shares in [0, 1] or counts.
        value: The figure where it is not `correct / n`, such as a mean over categories; NaN where there is none.
    """

    category: str
    n: int
    correct: int
    low: float
    high: float
    details: dict[str, float] = field(default_factory=dict)
    value: float | None = None

    @property
    def accuracy(self) -> float:
        """The figure: share of right items unless `value` says otherwise; NaN without items."""
        if self.value is not None:
            return self.value
        return self.correct / self.n if self.n else float("nan")


@dataclass(frozen=True)
class Table:
    """The result of one split of one task.

    Args:
        task: Name of the task.
        split: Name of the split; "" where the task has one only.
        protocol: Version of the protocol, in words that say how an item is decided.
        rows: The overall row first, then the categories.
        notes: What a reader of the figures must know, such as items left out.
        version: Version of the data; "" where it is none that is known.
    """

    task: str
    split: str
    protocol: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    version: str = ""

    @property
    def title(self) -> str:
        """Task and split."""
        return f"{self.task} {self.split}".strip()

    @property
    def overall(self) -> Row:
        """The row over all items."""
        return self.rows[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        rows = [
            {"category": r.category, "n": r.n, "correct": r.correct, "accuracy": _known(r.accuracy)}
            | {"interval": [r.low, r.high] if r.low == r.low else None, "details": r.details}
            | ({} if r.value is None else {"value": _known(r.value)})
            for r in self.rows
        ]
        head = {"task": self.task, "split": self.split, "protocol": self.protocol, "version": self.version}
        return head | {"notes": list(self.notes), "rows": rows}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Table:
        """The inverse of `to_dict`."""
        rows = []
        for r in state["rows"]:
            low, high = r["interval"] or (float("nan"), float("nan"))
            value = float("nan") if "value" in r and r["value"] is None else r.get("value")
            rows.append(Row(r["category"], r["n"], r["correct"], low, high, r["details"], value))
        names, notes = (state["task"], state["split"], state["protocol"]), tuple(state["notes"])
        return cls(*names, tuple(rows), notes, state.get("version", ""))


def make_row(category: str, n: int, correct: int, seed: int = 0, **details: float) -> Row:
    """Fill in a row from its counts, with the bootstrap interval of the accuracy; undefined details are left out."""
    outcomes = np.repeat([1.0, 0.0], [correct, n - correct])
    _, low, high = bootstrap_interval(outcomes, seed)
    return Row(category, n, correct, low, high, _defined(details))


def make_mean_row(category: str, values: Sequence[float], seed: int = 0, **details: float) -> Row:
    """Fill in a row whose figure is the mean of per-item values, with its bootstrap interval."""
    value, low, high = bootstrap_interval(values, seed)
    return Row(category, len(values), sum(v == 1 for v in values), low, high, _defined(details), value)


def make_macro_row(category: str, counts: Sequence[tuple[int, int]], seed: int = 0, **details: float) -> Row:
    """Fill in a row whose figure is the plain mean of the categories' accuracies.

    The interval resamples items within each category, so that every resample has all of them.

    Args:
        category: Name of the row.
        counts: (items, right ones) of each category, none empty.
        seed: Seed of the resampling.
        details: Further figures.
    """
    n, correct = (np.array([pair[i] for pair in counts], dtype=np.int64) for i in (0, 1))
    if not len(n):
        return Row(category, 0, 0, float("nan"), float("nan"), _defined(details), float("nan"))
    draws = np.random.default_rng(seed).binomial(n, correct / n, size=(SAMPLES, len(n)))
    low, high = np.quantile((draws / n).mean(axis=1), [0.025, 0.975])
    value = float((correct / n).mean())
    return Row(category, int(n.sum()), int(correct.sum()), float(low), float(high), _defined(details), value)


def make_bare_row(category: str, n: int, **details: float) -> Row:
    """Fill in a row that has no accuracy, only details."""
    nan = float("nan")
    return Row(category, n, 0, nan, nan, _defined(details), nan)


def _defined(details: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in details.items() if value == value}


def _known(value: float) -> float | None:
    return value if value == value else None
