"""What tasks share that ask which of several options belongs together with an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from relpretrain.zeroshot.analysis.table import OVERALL, Row, Table, images_of, make_share_row
from relpretrain.zeroshot.tasks.common.base import Item, Outcome, PairTask
from relpretrain.zeroshot.tasks.common.source import Record, require

if TYPE_CHECKING:
    from torch import Tensor


class Grouped(NamedTuple):
    """The scores of a file, one row per item."""

    keys: list[Any]  # what identifies each item
    records: list[Record]  # the first record of each item
    scores: Tensor  # (items, roles), float64


def group(
    records: Sequence[Record],
    title: str,
    roles: Sequence[str],
    key: Callable[[Record], Hashable],
    role: Callable[[Record], str],
) -> Grouped:
    """Bring the records of each item together, in the order in which items come first.

    Args:
        records: Lines of a score file.
        title: Name of the benchmark, for messages.
        roles: What an item's records must be: exactly one of each.
        key: What identifies the item of a record.
        role: Which of the roles a record has.

    Raises:
        ValueError: If an item lacks a role or has one twice.
    """
    import torch

    items: dict[Hashable, dict[str, Record]] = {}
    for record in records:
        require(record, ("score",), f"A {title} score record")
        sides, name = items.setdefault(key(record), {}), role(record)
        if name in sides:
            raise ValueError(f"{title} item {key(record)} has two scores for its {name}.")
        sides[name] = record
    for number, sides in items.items():
        if set(sides) != set(roles):
            raise ValueError(f"{title} item {number} needs one score for its {' and one for its '.join(roles)}; "
                             f"it has: {', '.join(sides)}.")  # fmt: skip
    rows = [[sides[name]["score"] for name in roles] for sides in items.values()]
    scores = torch.tensor(rows, dtype=torch.float64).reshape(-1, len(roles))
    return Grouped(list(items), [next(iter(sides.values())) for sides in items.values()], scores)


def refuse_same_labels(items: Sequence[Item], title: str) -> None:
    """Check that no two items have lines of one label, by which the lines of an item are brought together.

    Raises:
        ValueError: Naming the first that comes again.
    """
    label, times = next(iter(Counter(r["label"] for i in items for r in i.records).most_common(1)), ("", 1))
    if times > 1:
        raise ValueError(f"{title}: {times} items have the same id, that of the line {label!r}: give each its own.")


class ChoiceTask(PairTask):
    """An item is right if its first role scores best.

    A record says which item it is of ("id"), which role it has there ("option"), and, where a task says so in `part`,
    which category the item belongs to.
    """

    roles: tuple[str, ...] = ("caption", "foil")
    """The options, the right one first."""
    ties_win: bool = False
    """Whether the right option wins where another scores the same."""
    part: str = ""
    """The key of a record that holds its category."""
    parts: Sequence[str] = ()
    """The order of the categories; others follow in the order of the alphabet."""

    def grouped(self, records: Sequence[Record]) -> Grouped:
        """The scores by item, columns in the order of the roles."""
        for record in records:
            require(record, ("id", "option", *filter(None, [self.part])), f"A {self.card.title} score record")
        return group(records, self.card.title, self.roles, lambda r: r["id"], lambda r: str(r["option"]))

    def check(self, items: Sequence[Item]) -> None:
        """Refuse two items of one id (see `Task.check`)."""
        refuse_same_labels(items, self.card.title)

    def category(self, record: Record) -> str:
        """The category of a record's item, "" where there are none."""
        return str(record[self.part]) if self.part else ""

    def outcomes(self, records: Sequence[Record]) -> dict[Any, Outcome]:
        """Whether the right option won, by item."""
        from relpretrain.zeroshot.analysis.decisions import choice_correct

        keys, first, scores = self.grouped(records)
        correct = choice_correct(scores, self.ties_win).tolist()
        return {k: Outcome(self.category(r), c) for k, r, c in zip(keys, first, correct, strict=True)}

    def summarise(self, records: Sequence[Record], split: str = "") -> Table:
        """Accuracy over all items and by category, with ties."""
        return Table(self.name, split, self.protocol, tuple(self.rows(self.grouped(records))))

    def rows(self, grouped: Grouped) -> list[Row]:
        """The row over all items, and one per category if there are several."""
        names = [self.category(record) for record in grouped.records]
        images = images_of(grouped.records)
        rows = [self.row(OVERALL, grouped.scores, images)]
        for name in self.ordered(names) if len(set(names)) > 1 or (names and names[0]) else ():
            chosen = [i for i, n in enumerate(names) if n == name]
            rows.append(self.row(name, grouped.scores[chosen], images and [images[i] for i in chosen]))
        return rows

    def row(self, name: str, scores: Tensor, images: Sequence[str] | None = None) -> Row:
        """A row about items with these scores, (items, roles), and these images, where they are known."""
        from relpretrain.zeroshot.analysis.decisions import choice_correct, choice_tied

        correct, tied = choice_correct(scores, self.ties_win), choice_tied(scores)
        details: dict[str, float] = {"ties": int(tied.sum()), "chance": 1 / scores.shape[1]}
        if self.ties_win and len(scores):
            details["strict"] = int((correct & ~tied).sum()) / len(scores)
        return make_share_row(name, correct, images, **details)

    def ordered(self, names: Sequence[str]) -> list[str]:
        """The distinct categories in the task's order."""
        known = {name: number for number, name in enumerate(self.parts)}
        return sorted(set(names), key=lambda name: (known.get(name, len(known)), name))

    def count(self, records: Sequence[Record]) -> Mapping[str, int]:
        """Number of items by category."""
        found = {record["id"]: self.category(record) for record in records}
        return dict(Counter(found.values()))
