"""What a zero-shot task is, and what those that score image-text pairs share."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from PIL import Image

from relpretrain.types import PairScorer
from relpretrain.zeroshot.images import ImageFinder
from relpretrain.zeroshot.scorer import match_probability
from relpretrain.zeroshot.table import Table

Record = dict[str, Any]
"""A line of a score file: one text of an item with its score, or one answer of a probe."""

_CHUNK = 256  # images whose features are held at once


@dataclass(frozen=True)
class Source:
    """Where a benchmark's files are.

    Args:
        path: The data folder, with a folder per task; or one JSON file of items, with a list per task.
        images: Further folders with images, searched first.
        allow_missing: Whether items without their image are left out instead of refused.
        splits: The splits to use; empty for all there are.
    """

    path: Path
    images: tuple[Path, ...] = ()
    allow_missing: bool = False
    splits: tuple[str, ...] = ()

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


@dataclass(frozen=True)
class Item:
    """An image with the texts to score against it.

    Args:
        image: File name of the image; after `locate_images` its path.
        texts: The texts.
        records: For each text, the line of the score file, which only lacks its score.
    """

    image: str
    texts: tuple[str, ...]
    records: tuple[Record, ...]


class Outcome(NamedTuple):
    """Whether an item was right."""

    category: str
    correct: bool


class Task(Protocol):
    """A benchmark: reads its items, scores them, and decides what is right."""

    name: str
    protocol: str
    """How an item is decided, in words, with a version."""

    def items(self, source: Source) -> dict[str, list[Any]]:
        """The items by split, in the order that numbers them."""
        ...

    def locate(self, items: Sequence[Any], source: Source) -> tuple[list[Any], tuple[str, ...]]:
        """The items that can be scored, with notes on those that cannot; refuses missing images unless allowed."""
        ...

    def score(self, scorer: PairScorer, items: Sequence[Any]) -> list[Record]:
        """The score file's lines of located items."""
        ...

    def outcomes(self, records: Sequence[Record]) -> dict[Any, Outcome]:
        """Whether each item was right, by what identifies it."""
        ...

    def summarise(self, records: Sequence[Record], split: str = "", seed: int = 0) -> Table:
        """The table of a split."""
        ...


class PairTask:
    """What tasks over `Item` share."""

    name = ""

    def locate(self, items: Sequence[Item], source: Source) -> tuple[list[Item], tuple[str, ...]]:
        """Find the image of every item (see `Task.locate`)."""
        return locate_images(items, source, self.name)

    def score(self, scorer: PairScorer, items: Sequence[Item]) -> list[Record]:
        """Match probability of every text with its image (see `Task.score`)."""
        return score_items(scorer, items)


def locate_images(items: Sequence[Item], source: Source, task: str) -> tuple[list[Item], tuple[str, ...]]:
    """Put paths in the place of image names.

    Returns:
        The items whose image was found, and a note if there are others.

    Raises:
        ValueError: If an image is missing and that is not allowed, or all are.
    """
    finder = source.finder(task)
    paths = {name: finder.find(name) for name in dict.fromkeys(item.image for item in items)}
    found = [replace(item, image=str(paths[item.image])) for item in items if paths[item.image] is not None]
    missing = [name for name, path in paths.items() if path is None]
    if not missing:
        return found, ()
    first = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    what = f"{len(missing)} of {len(paths)} images of {task} were not found ({first})"
    if not source.allow_missing or not found:
        looked = ", ".join(str(folder) for folder in finder.folders) or "no folder: none of the usual ones exists"
        remedy = "Name their folder with --images" + ("" if not found else ", or leave them out with --allow-missing")
        raise ValueError(f"{what}; looked in {looked}. {remedy}.")
    return found, (f"{what}: {len(items) - len(found)} of {len(items)} items left out, n = {len(found)}",)


def score_items(scorer: PairScorer, items: Sequence[Item]) -> list[Record]:
    """Score every text of every item; each image is read and encoded once.

    Args:
        scorer: The model.
        items: Items with paths as images.

    Returns:
        The items' records with "score" (a match probability) added, in the order of the items.

    Raises:
        ValueError: If an image cannot be decoded, or a score is not a finite number.
    """
    by_image: dict[str, list[int]] = {}
    for number, item in enumerate(items):
        by_image.setdefault(item.image, []).append(number)
    scored: dict[int, list[Record]] = {}
    for names in _chunks(list(by_image), _CHUNK):
        features = scorer.encode_images([read_image(name) for name in names])
        rows = [(row, number) for row, name in enumerate(names) for number in by_image[name]]
        index = [row for row, number in rows for _ in items[number].texts]
        texts = [text for _, number in rows for text in items[number].texts]
        scores: Iterator[float] = iter(match_probability(scorer.score(features, index, texts)).tolist())
        for _, number in rows:
            scored[number] = [_with_score(record, next(scores)) for record in items[number].records]
    return [record for number in range(len(items)) for record in scored[number]]


def read_image(path: str) -> Image.Image:
    """Decode an image to RGB.

    Raises:
        ValueError: If it cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"Image {path} cannot be decoded: {error}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: If it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


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


def _with_score(record: Record, score: float) -> Record:
    """Put the score after the label, where score files have it."""
    return {"label": record["label"], "score": score} | record


def _chunks(names: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]
