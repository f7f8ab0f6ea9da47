"""Where the files of benchmarks are, and reading them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relpretrain.zeroshot.images import ImageFinder

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
    """

    path: Path
    images: tuple[Path, ...] = ()
    allow_missing: bool = False
    splits: tuple[str, ...] = ()
    blind: bool = False

    @property
    def is_item_file(self) -> bool:
        """Whether the items come from one JSON file."""
        return self.path.is_file()

    def folder(self, task: str) -> Path:
        """The folder of a task's annotations.

        Raises:
            ValueError: If it is not there.
        """
        folder = next((root / task for root in self._roots if (root / task).is_dir()), self.path / task)
        if not folder.is_dir():
            there = sorted(p.name for p in self.path.iterdir() if p.is_dir()) if self.path.is_dir() else []
            what = f"it holds {', '.join(there) or 'no folders'}" if self.path.is_dir() else "no such folder"
            raise ValueError(f"Task {task!r} expects its annotations in {folder}, but {self.path}: {what}.")
        return folder

    def finder(self, task: str) -> ImageFinder:
        """Where the images of a task are looked for."""
        if self.is_item_file:
            return ImageFinder([*self.images, self.path.parent])
        usual = [folder for root in self._roots for folder in (root / "images", root / task / "images")]
        return ImageFinder([*self.images, *usual])

    @property
    def _roots(self) -> tuple[Path, Path]:
        """Where task folders may be: generated data keeps them below its shards, in "benchmarks"."""
        return self.path, self.path / "benchmarks"

    def listed_items(self, task: str) -> list[Record]:
        """The items of a task in an item file."""
        items = read_json(self.path)
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
            raise ValueError(suggest(name, known, "split"))
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
            raise ValueError(suggest(name, names, "split"))
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


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: If it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def read_lines(path: Path) -> list[Record]:
    """Read the records of a file of JSON lines; empty lines are passed over.

    Raises:
        ValueError: If the file is missing, or a line is not a JSON object.
    """
    if not path.is_file():
        raise ValueError(f"There is no annotation file {path}.")
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"Line {number} of {path} is not valid JSON: {error}") from error
        if not isinstance(records[-1], dict):
            raise ValueError(f"Line {number} of {path} is not a JSON object.")
    return records


def require(record: Record, keys: Iterable[str], where: str) -> None:
    """Refuse a record that lacks a key.

    Raises:
        ValueError: Naming the keys that are missing.
    """
    missing = [key for key in keys if key not in record] if isinstance(record, dict) else list(keys)
    if missing:
        raise ValueError(f"{where} lacks {', '.join(map(repr, missing))}.")


def suggest(name: str, known: Iterable[str], what: str) -> str:
    """The error text for an unknown name, with the nearest known one."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"Unknown {what} {name!r}.{hint} Known: {', '.join(known)}."
