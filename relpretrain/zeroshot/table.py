"""A benchmark's result as a table: what tasks fill in and reports print."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from relpretrain.zeroshot.statistics import bootstrap_interval

OVERALL = "overall"
"""Name of the row over all items."""


@dataclass(frozen=True)
class Row:
    """Accuracy on one category of items.

    Args:
        category: Name of the category.
        n: Number of items.
        correct: Number of items that were right.
        low: Lower bound of the 95 % interval of the accuracy, a share.
        high: Upper bound.
        details: Further figures by name, such as ties or AUROC, shares in [0, 1] or counts.
    """

    category: str
    n: int
    correct: int
    low: float
    high: float
    details: dict[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Share of right items; NaN without items."""
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
    """

    task: str
    split: str
    protocol: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

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
            {"category": r.category, "n": r.n, "correct": r.correct, "accuracy": r.accuracy if r.n else None}
            | {"interval": [r.low, r.high] if r.n else None, "details": r.details}
            for r in self.rows
        ]
        head = {"task": self.task, "split": self.split, "protocol": self.protocol}
        return head | {"notes": list(self.notes), "rows": rows}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Table:
        """The inverse of `to_dict`."""
        rows = []
        for r in state["rows"]:
            low, high = r["interval"] or (float("nan"), float("nan"))
            rows.append(Row(r["category"], r["n"], r["correct"], low, high, r["details"]))
        return cls(state["task"], state["split"], state["protocol"], tuple(rows), tuple(state["notes"]))


def make_row(category: str, n: int, correct: int, seed: int = 0, **details: float) -> Row:
    """Fill in a row from its counts, with the bootstrap interval of the accuracy; undefined details are left out."""
    outcomes = np.repeat([1.0, 0.0], [correct, n - correct])
    _, low, high = bootstrap_interval(outcomes, seed)
    return Row(category, n, correct, low, high, {k: v for k, v in details.items() if v == v})
