"""A benchmark's result as a table: what tasks fill in and reports print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from relpretrain.zeroshot.analysis.statistics import (
    Clusters,
    effective_items,
    mean_share_interval,
    share_interval,
    wilson_interval,
)

OVERALL = "overall"
"""Name of the row over all items."""

LOWER_IS_BETTER = frozenset({"brittleness", "items that equal scores decide", "texts that reach the model's limit"})
"""Names of rows of which a lower figure is the better one."""


_LARGEST = 10**15
"""No count is larger; a float holds these exactly."""


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
    def protocol_name(self) -> str:
        """The protocol's version alone, such as "valse-1"."""
        return self.protocol.partition(":")[0].partition(",")[0]

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
        """The inverse of `to_dict`.

        Raises:
            TypeError: If a value is of another kind.
            LookupError: If one is missing.
        """
        rows = []
        for r in state["rows"]:
            low, high = r["interval"] or (float("nan"), float("nan"))
            value = float("nan") if "value" in r and r["value"] is None else r.get("value")
            details = r["details"]
            _are((int, float), low, high, *(() if value is None else (value,)), *dict.values(details))
            _are(int, r["n"], r["correct"])
            _are(str, r["category"])
            rows.append(Row(r["category"], r["n"], r["correct"], low, high, details, value))
        names, notes = (state["task"], state["split"], state["protocol"]), tuple(state["notes"])
        version = state.get("version", "")
        _are(str, *names, *notes, version)
        if not rows:
            raise LookupError("a table without rows")
        return cls(*names, tuple(rows), notes, version)


def _are(kind: type | tuple[type, ...], *values: Any) -> None:
    """Refuse values of another kind, and numbers that no figure is.

    Raises:
        TypeError: If there is one.
    """
    for value in values:
        if not isinstance(value, kind) or (isinstance(value, int) and abs(value) > _LARGEST):
            raise TypeError(f"{value!r:.80} stands where another kind of value is expected")


def images_of(records: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """The image of each line of a score file, by which items are clustered; None where they do not say it."""
    images = [record.get("image") for record in records]
    return [str(image) for image in images] if all(images) else None


def make_row(category: str, n: int, correct: int, independent: float | None = None, **details: float) -> Row:
    """Fill in a row from its counts, with Wilson's interval of the accuracy; undefined details are left out.

    Args:
        category: Name of the row.
        n: Number of items.
        correct: Number of right ones.
        independent: How many independent items they are worth (`statistics.effective_items`); None for all.
        details: Further figures.
    """
    _, low, high = wilson_interval(correct / n if n else 0.0, n if independent is None else independent)
    return Row(category, n, correct, low, high, _defined(details))


def make_share_row(category: str, right: ArrayLike, images: Clusters | None = None, **details: float) -> Row:
    """Fill in a row from its items: whether each was right, and which image it is of (see `statistics`)."""
    outcomes = np.asarray(right, dtype=bool)
    return make_row(category, len(outcomes), int(outcomes.sum()), effective_items(outcomes, images), **details)


def make_image_mean_row(category: str, right: ArrayLike, images: Sequence[str], **details: float) -> Row:
    """Fill in a row whose figure is the mean over images of the share of an image's items that are right.

    Args:
        category: Name of the row.
        right: Whether each item was right, (items,).
        images: The image of each item, (items,).
        details: Further figures.
    """
    outcomes = np.asarray(right, dtype=bool)
    sizes = Counter(images)
    missed = {image for image, hit in zip(images, outcomes.tolist(), strict=True) if not hit}
    value, low, high = share_interval(outcomes, images, [1 / sizes[image] for image in images])
    return Row(category, len(sizes), len(sizes) - len(missed), low, high, _defined(details), value)


Part = tuple[ArrayLike, Clusters | None]
"""A category's outcomes, and the images of its items where they are known."""


def make_macro_row(category: str, parts: Sequence[Part], **details: float) -> Row:
    """Fill in a row whose figure is the plain mean of the categories' accuracies.

    Args:
        category: Name of the row.
        parts: The categories, none empty.
        details: Further figures.
    """
    outcomes = [np.asarray(right, dtype=bool) for right, _ in parts]
    value, low, high = mean_share_interval(outcomes, [images for _, images in parts])
    n, correct = sum(map(len, outcomes)), sum(int(right.sum()) for right in outcomes)
    return Row(category, n, correct, low, high, _defined(details), value)


def make_bare_row(category: str, n: int, **details: float) -> Row:
    """Fill in a row that has no accuracy, only details."""
    nan = float("nan")
    return Row(category, n, 0, nan, nan, _defined(details), nan)


def _defined(details: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in details.items() if value == value}


def _known(value: float) -> float | None:
    return value if value == value else None
