"""Which version of a benchmark's data something is of, and refusing to mix them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relpretrain.errors import counted
from relpretrain.zeroshot.tasks.common.base import Item, Task
from relpretrain.zeroshot.tasks.common.card import digest
from relpretrain.zeroshot.tasks.common.source import Record


def version_of_items(task: Task, split: str, items: Sequence[Any]) -> str:
    """Name of the known version that annotated items are, "" if they are none: by their numbers and their content."""
    if not all(isinstance(item, Item) for item in items):
        return ""
    records = [record for item in items for record in item.records]
    known = any(version.digest for version in task.card.versions)
    return task.card.identify(split, task.count(records), digest(items) if known else "") if records else ""


def version_of_scores(task: Task, split: str, records: Sequence[Record]) -> str:
    """Name of the known version that a score file has all items of, "" if there is none: by their numbers."""
    return task.card.identify(split, task.count(records))


def version_note(task: Task, split: str, version: str, n: int) -> str:
    """What a table says of its data."""
    if version:
        return f"data: {version}"
    versions = [v for v in task.card.versions if v.split == split] or task.card.versions
    if not versions:
        return f"data: {counted(n, 'item')}, which have no published versions"
    known = ", ".join(dict.fromkeys(f"{v.name} with {v.n:,}" for v in versions))
    return f"data: no version that is known ({counted(n, 'item')}; known: {known})"


def refuse_other_version(task: Task, names: Sequence[str], first: Sequence[Record], second: Sequence[Record]) -> None:
    """Refuse to set scores of different data side by side, even if some items have the same numbers.

    Raises:
        ValueError: If the two are of two known versions, or their lines on the same items say different things.
    """
    versions = [version_of_scores(task, "", records) for records in (first, second)]
    if all(versions) and versions[0] != versions[1]:
        both = " and ".join(f"{name} of {version!r}" for name, version in zip(names, versions, strict=True))
        raise ValueError(f"Figures on different versions of {task.card.title} cannot be compared: {both}.")
    said = {_line(task, record): record for record in first}
    differ = [r for r in second if (line := said.get(_line(task, r))) is not None and _fixed(line, r)]
    if differ:
        other = said[_line(task, differ[0])]
        key = _fixed(other, differ[0])
        item, (a, b) = task.item_id(differ[0]), names
        raise ValueError(f"{a} and {b} are of different data: {len(differ)} lines on the same items differ, first "
                         f"on item {item}: {key} is {other[key]!r} and {differ[0][key]!r}.")  # fmt: skip


_ANNOTATED = (
    *("label", "relation", "instrument", "file", "subset", "category", "pos_triplet", "neg_triplet"),
    *("pairs", "candidates", "class", "classes", "templates"),
)
"""Keys of a line that say what was asked, not what a model answered."""


def _fixed(first: Record, second: Record) -> str:
    """The first annotated key on which two lines differ, "" if none.

    An id that is a number alone says nothing of its item, so that the image counts as well: by its file name, for
    folders differ from copy to copy.
    """
    differ = (key for key in _ANNOTATED if key in first and key in second and first[key] != second[key])
    images = [str(line.get("image") or "").rpartition("/")[2] for line in (first, second)]
    other = isinstance(first.get("id"), int) and all(images) and images[0] != images[1]
    return next(differ, "image" if other else "")


def _line(task: Task, record: Record) -> tuple[Any, ...]:
    """What identifies a line among those of its item."""
    return (task.item_id(record), record.get("probe"), record.get("type"), record.get("option"), _role(record))


def _role(record: Record) -> str:
    """The end of a textual label, "c0_i0" or "p": its beginning is the item's number."""
    label = record.get("label")
    return label.partition("_")[2] if isinstance(label, str) and label[:1].isdigit() else ""
