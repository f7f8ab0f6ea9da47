"""Where the files of benchmarks are, and checks of what they hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relpretrain.errors import suggest
from relpretrain.reading import read_json, read_json_lines
from relpretrain.zeroshot.tasks.common.images import ImageFinder

Record = dict[str, Any]
"""A line of a score file: one text of an item with its score, or one answer of a probe."""


@dataclass(frozen=True)
class Source:
    """Where a benchmark's files are.

    Args:
        path: The data folder, with a folder per task; or one JSON file of items, with a list per task.
        images: Further folders with images, searched first.
        allow_missing: Whether items without their image are left out instead of refused.
        splits: The splits to use; empty for all there are.
        blind: Whether the scorer never looks at images, so that none need be there.
        at: The folder of the one task that is read, where it is not called after the task.
    """

    path: Path
    images: tuple[Path, ...] = ()
    allow_missing: bool = False
    splits: tuple[str, ...] = ()
    blind: bool = False
    at: Path | None = None

    @property
    def is_item_file(self) -> bool:
        """Whether the items come from one JSON file."""
        return self.path.is_file()

    @property
    def is_generated(self) -> bool:
        """Whether the items are of a generated world, whose `world.json` lies beside their folder."""
        return any((place / "world.json").is_file() for place in (self.path, self.path.parent))

    def folder(self, task: str) -> Path:
        """The folder of a task's annotations.

        Raises:
            ValueError: If it is not there.
        """
        folder = self.at or next((root / task for root in self._roots if (root / task).is_dir()), self.path / task)
        if not folder.is_dir():
            there = sorted(p.name for p in self.path.iterdir() if p.is_dir()) if self.path.is_dir() else []
            what = f"holds {', '.join(there) or 'no folders'}" if self.path.is_dir() else "is no folder"
            raise ValueError(f"Task {task!r} expects its annotations in {folder}, but {self.path} {what}.")
        return folder

    def finder(self, task: str) -> ImageFinder:
        """Where the images of a task are looked for."""
        if self.is_item_file:
            return ImageFinder([*self.images, self.path.parent])
        usual = [root / below for root in self._roots for below in ("images", f"{task}/images", task)]
        own = [self.at, self.at / "images"] if self.at else []
        return ImageFinder([*self.images, *own, *usual])

    @property
    def _roots(self) -> tuple[Path, Path]:
        """Where task folders may be: generated data keeps them below its shards, in "benchmarks"."""
        return self.path, self.path / "benchmarks"

    def listed_items(self, task: str) -> list[Record]:
        """The items of a task in an item file."""
        items = read_json(self.path, "items")
        if not isinstance(items, dict) or not isinstance(items.get(task), list):
            names = ", ".join(map(str, items)) if isinstance(items, dict) else "a list"
            raise ValueError(f"{self.path} holds no list of items called {task!r}, only {names}.")
        return list(items[task])


def select_splits(splits: dict[str, list[Any]], wanted: Sequence[str]) -> dict[str, list[Any]]:
    """The splits "<split>/<part>" whose whole name, split or part is wanted; all if none is.

    Raises:
        ValueError: If a wanted name fits none.
    """
    if not wanted:
        return splits
    for name in wanted:
        known = list(dict.fromkeys(n for split in splits for n in (split, *split.split("/"))))
        if name not in known:
            raise ValueError(f"Unknown split {name!r}{suggest(name, known)}")
    return {name: items for name, items in splits.items() if {name, *name.split("/")} & set(wanted)}


def find_files(source: Source, task: str, names: Mapping[str, str]) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The annotation files of a task that has several.

    Args:
        source: Where to look; where it names splits, only their files are wanted.
        task: Name of the task.
        names: File name by split or category.

    Returns:
        The path of each file, and a note if some are missing.

    Raises:
        ValueError: If a file is missing and that is not allowed, or all are, or a wanted name is unknown.
    """
    for name in source.splits:
        if name not in names:
            raise ValueError(f"Unknown split {name!r}{suggest(name, names)}")
    wanted = {name: file for name, file in names.items() if not source.splits or name in source.splits}
    folder = source.folder(task)
    found = {name: folder / file for name, file in wanted.items() if (folder / file).is_file()}
    missing = [file for name, file in wanted.items() if name not in found]
    if not missing:
        return found, ()
    what = f"{len(missing)} of the {len(wanted)} files of {task} are not in {folder} ({', '.join(missing)})"
    if not found or not source.allow_missing:
        remedy = "; --allow-missing scores the others" if found else ""
        raise ValueError(f"{what}{remedy}.")
    return found, (what,)


def numbered_lines(path: Path) -> Iterator[tuple[int, Record]]:
    """The records of a file of JSON lines with the numbers of their lines; empty lines are passed over.

    Raises:
        ValueError: If the file is missing, or a line is not a JSON object.
    """
    if not path.is_file():
        raise ValueError(f"There is no annotation file {path}.")
    for number, record in read_json_lines(path):
        if not isinstance(record, dict):
            raise ValueError(f"Line {number} of {path} is not a JSON object.")
        yield number, record


def require(record: Record, keys: Iterable[str], where: str) -> None:
    """Check that a record has some keys.

    Raises:
        ValueError: Naming the keys that are missing.
    """
    if not isinstance(record, dict):
        raise ValueError(f"{where} is not an object with {', '.join(map(repr, keys))}, but {_short(record)}.")
    missing = [key for key in keys if key not in record]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(map(repr, missing))}.")


def require_texts(record: Record, keys: Iterable[str], where: str) -> None:
    """Check that a record has non-empty texts under some keys.

    Raises:
        ValueError: Naming the key and the value.
    """
    keys = list(keys)
    require(record, keys, where)
    for key in keys:
        if not isinstance(record[key], str) or not record[key].strip():
            raise ValueError(f"{where}: {key!r} must be a text, not {_short(record[key])}.")


def require_numbers(record: Record, keys: Iterable[str], where: str) -> None:
    """Check that a record has finite numbers under some keys.

    Raises:
        ValueError: Naming the key and the value.
    """
    keys = list(keys)
    require(record, keys, where)
    for key in keys:
        value = record[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{where}: {key!r} must be a finite number, not {_short(value)}.")


def refuse_twice(ids: Sequence[Any], what: str) -> None:
    """Check that no id comes twice.

    Raises:
        ValueError: Naming the first that does.
    """
    seen: set[Any] = set()
    for number in ids:
        if number in seen:
            raise ValueError(f"{what} {number} comes twice in the scores.")
        seen.add(number)


def list_of_texts(value: Any, where: str) -> list[str]:
    """Check that a value is a list of texts, and return it.

    Raises:
        ValueError: If it is something else, such as one text, which a loop would take apart.
    """
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{where} must be a list of texts, not {_short(value)}.")
    return value


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
