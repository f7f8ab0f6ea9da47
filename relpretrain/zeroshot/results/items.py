"""Item by item: what was shown, what it scored and whether that was right; and where two models disagree."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from relpretrain.showing import from_cell, to_cell
from relpretrain.writing import write_text
from relpretrain.zeroshot.analysis.statistics import linked
from relpretrain.zeroshot.tasks.common.base import Item, Task, UndecidedError
from relpretrain.zeroshot.tasks.common.grid import SIZES
from relpretrain.zeroshot.tasks.common.source import Record

ITEMS_NAME = "items.csv"

_COLUMNS = ("model", "task", "split", "category", "id", "image", "texts", "roles", "scores", "right")


@dataclass(frozen=True)
class Scored:
    """A split with its scores.

    Args:
        task: The task, which decides.
        split: Name of the split; "" where the task has one only.
        records: The score file's lines.
        notes: What a reader of its figures must know.
        items: The annotated items, or nothing if they are not at hand.
        version: Version of the data; "" where it is none that is known.
        model: What the model is called.
    """

    task: Task
    split: str
    records: Sequence[Record]
    notes: tuple[str, ...] = ()
    items: Sequence[Any] = field(default=(), repr=False)
    version: str = ""
    model: str = ""


@dataclass(frozen=True)
class ItemResult:
    """One item and how a model did on it: a line of `items.csv`.

    Args:
        task: Name of the task.
        split: Name of the split.
        category: The item's category; "" if it has none.
        id: What identifies it in the split.
        image: File name of its image; several are joined by "|", and "" means that the annotations were not at hand.
        texts: Its texts; empty likewise, and where all items share them, as the prompts of classes.
        roles: What each text is, such as "caption" and "foil", or whether it is "true" or "false"; empty likewise.
        scores: The score of each text, in the same order; empty where a task stores answers instead of scores.
        right: Whether the model was right.
        model: What the model is called.
    """

    task: str
    split: str
    category: str
    id: str
    image: str
    texts: tuple[str, ...]
    roles: tuple[str, ...]
    scores: tuple[float, ...]
    right: bool
    model: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What identifies the item among all tasks and splits; VALSE's numbers do so in all its categories."""
        return self.task, self.split, self.category, self.id


def item_results(scored: Scored) -> list[ItemResult]:
    """The outcome of every item of a split, with its texts where the annotations are at hand.

    Scores on which the task's rule means nothing have none.
    """
    shown: dict[Any, list[Item]] = {}
    for item in scored.items:
        if isinstance(item, Item):
            shown.setdefault(_id(scored.task, item.records[0]), []).append(item)
    lines: dict[Any, list[Record]] = {}
    for record in scored.records:
        lines.setdefault(_id(scored.task, record), []).append(record)
    results = []
    try:
        outcomes = scored.task.outcomes(scored.records)
    except UndecidedError:
        return []
    for key, outcome in outcomes.items():
        item_id = _find(key, lines)
        items = [item for item in shown.get(item_id, []) if item.has_line_each]
        scores = {_sign(line): line["score"] for line in lines.get(item_id, ()) if "score" in line}
        ordered = [scores[sign] for item in items for r in item.records if (sign := _sign(r)) in scores]
        results.append(
            ItemResult(
                scored.task.name,
                scored.split,
                outcome.category,
                "/".join(map(str, key)) if isinstance(key, tuple) else str(key),
                "|".join(dict.fromkeys(item.image for item in shown.get(item_id, []))),
                tuple(text for item in items for text in item.texts),
                tuple(_role(record) for item in items for record in item.records),
                tuple(ordered or scores.values()),
                outcome.correct,
                scored.model,
            )
        )
    return results


def item_images(task: Task, records: Sequence[Record]) -> Callable[[Any], Hashable]:
    """What tells which items share an image with the one of a key of `Task.outcomes`, directly or through others.

    It is None where the lines do not name images.
    """
    images: dict[Any, list[str]] = {}
    for record in records:
        images.setdefault(_id(task, record), []).extend([str(record["image"])] if record.get("image") else [])
    numbers = dict(zip(images, linked(list(images.values())), strict=True))
    return lambda key: numbers.get(_find(key, numbers))


def without_items(task: Task, files: Sequence[Sequence[Record]], keys: Collection[Any]) -> list[list[Record]]:
    """The lines of score files without the items that some keys of `Task.outcomes` are of.

    Args:
        task: The task.
        files: The lines of each file; together they have all items of the keys.
        keys: The keys.
    """
    lines = dict.fromkeys(_id(task, record) for records in files for record in records)
    left_out = {_find(key, lines) for key in keys}
    return [[record for record in records if _id(task, record) not in left_out] for records in files]


def write_items(path: Path, results: Sequence[ItemResult]) -> None:
    """Write a table of items as CSV; texts, roles and scores are JSON lists in their cells."""
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for r in results:
        lists = (json.dumps(cell, ensure_ascii=False) for cell in (r.texts, r.roles, r.scores))
        words = map(to_cell, (r.model, r.task, r.split, r.category, r.id, r.image))
        writer.writerow((*words, *lists, int(r.right)))
    write_text(path, table.getvalue())


def read_items(path: Path) -> list[ItemResult]:
    """Read a table that `write_items` wrote.

    Raises:
        ValueError: If it is none.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        try:
            return [_result(row) for row in csv.DictReader(stream)]
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError, csv.Error) as error:
            raise ValueError(f"{path} is no table of items: {type(error).__name__}: {error}") from error


def _result(row: dict[str, str]) -> ItemResult:
    texts, roles, scores = (tuple(json.loads(row[name])) for name in ("texts", "roles", "scores"))
    task, split, category, key, image, model = (
        from_cell(row[name]) for name in ("task", "split", "category", "id", "image", "model")
    )
    return ItemResult(task, split, category, key, image, texts, roles, scores, row["right"] == "1", model)


@dataclass(frozen=True)
class Disagreements:
    """Items that one model gets right and the other wrong.

    Args:
        gained: How many only the second gets right.
        lost: How many only the first gets right.
        seed: Of the draw of the sample.
        shown: The sample, as the two models' results, ordered by category.
    """

    gained: int = 0
    lost: int = 0
    seed: int = 0
    shown: tuple[tuple[ItemResult, ItemResult], ...] = ()

    @property
    def total(self) -> int:
        """How many there are."""
        return self.gained + self.lost


def disagreements(
    first: Sequence[ItemResult], second: Sequence[ItemResult], limit: int = 24, seed: int = 0
) -> Disagreements:
    """Draw a sample of the items on which two models disagree, each with the same chance.

    Args:
        first: Results of the first model.
        second: Of the second; items that only one has are passed over.
        limit: Size of the sample.
        seed: Of the draw.
    """
    others = {result.key: result for result in second}
    found = [(a, others[a.key]) for a in first if a.key in others and a.right != others[a.key].right]
    drawn = np.random.default_rng([seed, len(found)]).permutation(len(found))[:limit]
    sample = [found[i] for i in sorted(drawn.tolist())]
    gained = sum(b.right for _, b in found)
    shown = tuple(sorted(sample, key=lambda pair: pair[0].category))
    return Disagreements(gained, len(found) - gained, seed, shown)


def _id(task: Task, record: Record) -> Any:
    return (record["probe"], record["id"]) if "probe" in record else task.item_id(record)


def _find(key: Any, lines: Mapping[Any, Any]) -> Any:
    """The item that a key of `Task.outcomes` is about: itself, or a part of it where a task asks several questions."""
    if key in lines or not isinstance(key, tuple):
        return key
    return next((part for part in key if part in lines), key)


def _role(record: Record) -> str:
    """What a text is, as its record says."""
    named = record.get("type") or record.get("option")
    label = record.get("label")
    return str(named or {0: "false", 1: "true"}.get(label if isinstance(label, int) else -1, ""))


_ADDED = ("score", "calibrated", "image", "at_limit", "box", *SIZES)
"""What a line of a score file has beside the record of its text."""


def _sign(record: Record) -> str:
    return json.dumps({name: value for name, value in record.items() if name not in _ADDED}, sort_keys=True)
