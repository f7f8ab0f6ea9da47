"""Two models side by side: their outcomes on the same items, overall and by category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from relpretrain.errors import counted
from relpretrain.zeroshot.analysis.statistics import Paired, compare_paired, holm
from relpretrain.zeroshot.analysis.table import OVERALL
from relpretrain.zeroshot.results.items import Disagreements, item_images, without_items
from relpretrain.zeroshot.tasks.common.base import Task
from relpretrain.zeroshot.tasks.common.source import Record


@dataclass(frozen=True)
class ComparisonRow:
    """Two models on the same items of one category.

    Args:
        category: Name of the category.
        n: Number of items.
        first: Accuracy of the first model, a share.
        second: Accuracy of the second.
        paired: Their difference.
        p_holm: The p-value corrected for the number of categories; None of the row over all items, a test of its own.
    """

    category: str
    n: int
    first: float
    second: float
    paired: Paired
    p_holm: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Two models side by side on one split of one task.

    Args:
        task: Name of the task.
        split: Name of the split.
        names: What the two models are called.
        rows: The row over all items first, then the categories.
        notes: What a reader must know.
        disagreements: Items on which the two differ.
    """

    task: str
    split: str
    names: tuple[str, str]
    rows: tuple[ComparisonRow, ...]
    notes: tuple[str, ...] = ()
    disagreements: Disagreements = Disagreements()  # noqa: RUF009  (frozen)

    @property
    def title(self) -> str:
        """Task, split and names."""
        return f"{self.task} {self.split}".strip() + f": {self.names[0]} and {self.names[1]}"

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        rows = [vars(row) | {"paired": row.paired._asdict()} for row in self.rows]
        head = {"task": self.task, "split": self.split, "names": list(self.names), "notes": list(self.notes)}
        sample = self.disagreements
        ids = [first.id for first, _ in sample.shown]
        return head | {"rows": rows, "disagreements": {"gained": sample.gained, "lost": sample.lost, "shown": ids}}


def compare(
    task: Task,
    first: Sequence[Record],
    second: Sequence[Record],
    names: tuple[str, str],
    split: str = "",
    seed: int = 0,
    allow_missing: bool = False,
) -> Comparison:
    """Compare two score files of the same items.

    Raises:
        ValueError: If they are not of the same items and that is not allowed, or share none.
    """
    a, b = task.outcomes(first), task.outcomes(second)
    shared = [key for key in a if key in b]
    differ = f"{names[0]} has {counted(len(a), 'item')}, {names[1]} {len(b)}, and they share {len(shared)}"
    if not shared or (len(shared) < max(len(a), len(b)) and not allow_missing):
        remedy = "; --allow-missing compares the shared ones" if shared else ""
        raise ValueError(f"A paired comparison needs the same items: {differ}{remedy}.")
    if any(a[key].category != b[key].category for key in shared):
        raise ValueError(f"{names[0]} and {names[1]} disagree on the categories of items: they are of different data.")
    notes: tuple[str, ...] = (differ,) if len(shared) < max(len(a), len(b)) else ()
    notes += _ways(names, first, second)
    images = item_images(task, [*first, *second])  # published files do not name images, ours do
    categories = list(dict.fromkeys(a[key].category for key in shared if a[key].category))

    def row(name: str, keys: Sequence[Any]) -> ComparisonRow:
        right, other = [a[key].correct for key in keys], [b[key].correct for key in keys]
        paired = compare_paired(right, other, seed, clusters=[images(key) for key in keys])
        return ComparisonRow(name, len(keys), sum(right) / len(keys), sum(other) / len(keys), paired)

    rows = [row(OVERALL, shared)]
    by_category = []
    for category in categories if len(categories) > 1 else []:
        by_category.append(row(category, [key for key in shared if a[key].category == category]))
    adjusted = holm([row.paired.p_value for row in by_category])
    rows += [replace(row, p_holm=p) for row, p in zip(by_category, adjusted, strict=True)]
    notes += _other_average(task, without_items(task, (first, second), a.keys() ^ b.keys()), names)
    if by_category:
        alone = "" if task.several else "; overall is a test of its own"
        notes += (f"Holm p: McNemar p corrected for the {len(by_category)} categories{alone}",)
    return Comparison(task.name, split, names, tuple(rows[1:] if task.several and by_category else rows), notes)


def _other_average(task: Task, shared: Sequence[Sequence[Record]], names: tuple[str, str]) -> tuple[str, ...]:
    """A note where the headline of the task's own table is no share of items, as the rows of a comparison are.

    Args:
        task: The task.
        shared: Each model's lines on the items that both have whole.
        names: What the models are called.
    """
    if not all(shared):
        return ()
    heads = [task.summarise(records).overall for records in shared]
    if any(head.value is None or head.accuracy != head.accuracy for head in heads):
        return ()
    shown = ", ".join(f"{name} {100 * head.accuracy:.2f}" for name, head in zip(names, heads, strict=True))
    return (f"each item counts alike here (micro average); the headline of {task.card.title} is another average, "
            f"{heads[0].category!r}: {shown}",)  # fmt: skip


_WAYS = {"k_test": "re-ranked candidates", "box": "boxes", "by": "scored by"}
"""Keys of a line that say how a model was asked, by words for them."""


def _ways(names: tuple[str, str], first: Sequence[Record], second: Sequence[Record]) -> tuple[str, ...]:
    """Notes on what two models were asked in different ways."""
    notes = []
    for key, what in _WAYS.items():
        said = [", ".join(sorted({str(r[key]) for r in some if key in r})) or "none" for some in (first, second)]
        if said[0] != said[1]:
            notes.append(f"{what}: {names[0]} {said[0]}, {names[1]} {said[1]}")
    return tuple(notes)
