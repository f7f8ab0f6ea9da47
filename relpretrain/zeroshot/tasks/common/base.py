"""What a zero-shot task is, and what those that score image-text pairs share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from relpretrain.pixels import BROKEN, decode
from relpretrain.zeroshot.analysis.table import Table
from relpretrain.zeroshot.tasks.common.ahead import Ahead, Answer, current, forget_limits, learn_limits
from relpretrain.zeroshot.tasks.common.card import Card
from relpretrain.zeroshot.tasks.common.in_shard import InShard
from relpretrain.zeroshot.tasks.common.source import Record, Source

if TYPE_CHECKING:
    from torch import Tensor

    from relpretrain.types import PairScorer

NO_THRESHOLD = "these scores are not probabilities, so that a threshold of 0.5 means nothing: AUROC only"
"""The note of a table whose task needs a threshold that the scores lack."""

_CHUNK = 256  # images whose features are held at once

_View = tuple[str, tuple[float, float, float, float] | None]  # path and box


@dataclass(frozen=True)
class Item:
    """An image, or a part of one, with the texts to score against it.

    A question about several images is several items of one group.

    Args:
        image: File name of the image; after `locate_images` its path.
        texts: The texts.
        records: For each text, the line of the score file, which only lacks its score.
        box: (left, top, right, bottom) in pixels of the part that is scored; None for the whole image.
        group: Items of one group are left out together where an image is missing; None for an item of its own.
    """

    image: str
    texts: tuple[str, ...]
    records: tuple[Record, ...]
    box: tuple[float, float, float, float] | None = None
    group: Hashable = None

    @property
    def has_line_each(self) -> bool:
        """Whether each text has a line of its own; the prompts of all classes, which an image has one line for, not."""
        return len(self.texts) == len(self.records)


class UndecidedError(ValueError):
    """Scores on which the rule of a task means nothing, so that no item is right or wrong."""


class Outcome(NamedTuple):
    """Whether an item, or one question about it, was right."""

    category: str
    correct: bool


class Task(Protocol):
    """A benchmark: reads its items, scores them, and decides what is right."""

    name: str
    card: Card
    """What a reader of its figures must know."""
    protocol: str
    """How an item is decided, in words, with a version."""
    several: bool
    """Whether its outcomes answer different questions, so that no figure over all of them makes sense."""

    def recognises(self, record: Record) -> bool:
        """Whether a line of a score file is of this task."""
        ...

    def items(self, source: Source) -> dict[str, list[Any]]:
        """The items by split, in the order that numbers them."""
        ...

    def check(self, items: Sequence[Any]) -> None:
        """Refuse annotated items of a split that could not be told apart by the lines of a score file."""
        ...

    def locate(self, items: Sequence[Any], source: Source) -> tuple[list[Any], tuple[str, ...]]:
        """The items that can be scored, with notes on those that cannot; refuses missing images unless allowed."""
        ...

    def score(self, scorer: PairScorer, items: Sequence[Any], done: list[Record] | None = None) -> list[Record]:
        """The score file's lines of located items; `done` gets those that are ready when something fails."""
        ...

    def item_id(self, record: Record) -> Any:
        """What identifies the item of a line of a score file."""
        ...

    def outcomes(self, records: Sequence[Record]) -> dict[Any, Outcome]:
        """Whether each item was right, by `item_id`; by (question, `item_id`) where a task has `several`."""
        ...

    def summarise(self, records: Sequence[Record], split: str = "") -> Table:
        """The table of a split; the headline figure is its first row."""
        ...

    def tables(self, records: Sequence[Record], split: str = "") -> tuple[Table, ...]:
        """The table of `summarise`, and further ones where a benchmark has several figures."""
        ...

    def is_pair(self, record: Record) -> bool:
        """Whether a line of a score file is of an annotated text with its image, as most lines are."""
        ...

    def count(self, records: Sequence[Record]) -> Mapping[str, int]:
        """Number of items by part, from the lines of a score file or of unscored items: what tells versions apart."""
        ...


class BaseTask:
    """What all tasks share."""

    name: str = ""
    card: Card
    protocol: str = ""
    several: bool = False

    def recognises(self, record: Record) -> bool:
        """Whether the line says that it is of this task (see `Task.recognises`)."""
        return record.get("task") == self.name

    def is_pair(self, record: Record) -> bool:
        """Always, unless the task says otherwise (see `Task.is_pair`)."""
        return True

    def item_id(self, record: Record) -> Any:
        """The record's "id" (see `Task.item_id`)."""
        return record["id"]

    def check(self, items: Sequence[Any]) -> None:
        """Nothing, unless lines of an item are found again by what they say (see `Task.check`)."""

    @abstractmethod
    def summarise(self, records: Sequence[Record], split: str = "") -> Table:
        """The headline table (see `Task.summarise`)."""

    def tables(self, records: Sequence[Record], split: str = "") -> tuple[Table, ...]:
        """All tables (see `Task.tables`): one, unless the task says otherwise."""
        return (self.summarise(records, split),)

    def count(self, records: Sequence[Record]) -> Mapping[str, int]:
        """Number of items by part (see `Task.count`)."""
        return {"": len({self.item_id(record) for record in records})}


class PairTask(BaseTask):
    """What tasks over `Item` share."""

    def locate(self, items: Sequence[Item], source: Source) -> tuple[list[Item], tuple[str, ...]]:
        """Find the image of every item (see `Task.locate`)."""
        found, notes = locate_images(items, source, self.name)
        return found, (*notes, *self.missing_files(source))

    def images(self, source: Source) -> dict[str, list[str]]:
        """The file name of every item's image, by split; a split of several files counts by file."""
        found: dict[str, list[str]] = {}
        for split, items in self.items(source).items():
            for item in items:
                found.setdefault(split or self.category(item.records[0]), []).append(item.image)
        return found

    def category(self, record: Record) -> str:
        """The category of a record's item, "" where there are none."""
        return ""

    @abstractmethod
    def items(self, source: Source) -> dict[str, list[Item]]:
        """The items by split (see `Task.items`)."""

    def missing_files(self, source: Source) -> tuple[str, ...]:
        """A note on annotation files that are not there, where that was allowed."""
        return ()

    def score(self, scorer: PairScorer, items: Sequence[Item], done: list[Record] | None = None) -> list[Record]:
        """Match probability of every text with its image (see `Task.score`)."""
        return score_items(scorer, items, done)


def locate_images(items: Sequence[Item], source: Source, task: str) -> tuple[list[Item], tuple[str, ...]]:
    """Put paths in the place of image names; the names go into the records, by which results are clustered.

    Returns:
        The items whose image was found, and a note if there are others. A source for scorers that do not look has all
        items found, whose images stay names (`Unseen`).

    Raises:
        ValueError: If an image is missing and that is not allowed, or all are.
    """
    named = [replace(item, records=tuple(r | {"image": item.image} for r in item.records)) for item in items]
    if source.blind:
        return [replace(item, image=Unseen(item.image)) for item in named], ()
    finder = source.finder(task)
    paths = {name: finder.find(name) for name in dict.fromkeys(item.image for item in items)}
    whole = without_groups(named, {name for name, path in paths.items() if path is None})
    found = [replace(item, image=str(paths[item.image])) for item in whole]
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


def without_groups(items: Sequence[Any], images: Set[str]) -> list[Any]:
    """The items that need none of some images, nor belong to a group of which another item does."""
    lost = {group for item in items if item.image in images and (group := getattr(item, "group", None)) is not None}
    return [item for item in items if item.image not in images and getattr(item, "group", None) not in lost]


EncodeRegions = Callable[[Sequence[Any], Sequence[int], Sequence[tuple[float, float, float, float]]], Any]
"""Encodes boxes (left, top, right, bottom) in pixels of whole images: images, the image of each box, the boxes."""


def score_items(
    scorer: PairScorer,
    items: Sequence[Item],
    done: list[Record] | None = None,
    encode_regions: EncodeRegions | None = None,
) -> list[Record]:
    """Score every text of every item; each image is read and encoded once, for later splits as well (`ahead`).

    Args:
        scorer: The model.
        items: Items with paths as images.
        done: Gets the records of the items and groups that were scored when something fails.
        encode_regions: Encodes the boxes of items, which all have one, in their images; None cuts them out.

    Returns:
        The items' records with "score" added, in the order of the items: a match probability, or the difference of the
        two logits of a scorer whose `calibrated` is false, which its records then say. Those of texts that take as many
        tokens as the model reads have "at_limit".

    Raises:
        ValueError: If an image cannot be decoded, or a score is not a finite number.
    """
    from relpretrain.zeroshot.scorers import match_probability
    from relpretrain.zeroshot.scorers.memory import fitting
    from relpretrain.zeroshot.tasks.common.shares import spread, texts_at_limit

    calibrated = getattr(scorer, "calibrated", True)
    ahead = current() if encode_regions is None else Ahead()
    by_image: dict[_View, list[int]] = {}
    for number, item in enumerate(items):
        by_image.setdefault((item.image, item.box), []).append(number)

    def lines(number: int, scores: Iterator[float], long: Set[str]) -> tuple[int, list[Record]]:
        found = [_with_score(r, next(scores), calibrated) for r in items[number].records]
        pairs = zip(found, items[number].texts, strict=True)
        return number, [r | {"at_limit": True} if text in long else r for r, text in pairs] if long else found

    def score(views: Sequence[_View]) -> Iterator[tuple[int, list[Record]] | Answer]:
        numbers = [(row, number) for row, view in enumerate(views) for number in by_image[view]]
        pairs = [(row, text) for row, number in numbers for text in items[number].texts]
        own = {view: {text for number in by_image[view] for text in items[number].texts} for view in views}
        pairs += [(row, text) for row, view in enumerate(views) for text in ahead.further(view, own[view])]
        before = set(texts_at_limit(scorer)).union(*own.values())
        index, texts = [row for row, _ in pairs], [text for _, text in pairs]
        logits = fitting(scorer, partial(_logits, scorer, views, encode_regions, index, texts))
        values = match_probability(logits) if calibrated else (logits[:, 1].double() - logits[:, 0].double())
        found: list[float] = values.tolist()
        long = set(texts_at_limit(scorer))
        forget_limits(scorer, long - before)
        scores = iter(found)
        for _, number in numbers:
            yield lines(number, scores, long)
        for (row, text), value in zip(pairs, found, strict=True):
            if ahead.asked(views[row]):
                yield Answer(views[row], text, value, text in long)

    own: list[tuple[int, list[Record]] | Answer] = []
    views: list[_View] = []  # of which something is still unknown: a task may ask for more than its items say
    for view, numbers in by_image.items():
        known = ahead.known(view) or {}
        if any(text not in known for number in numbers for text in items[number].texts):
            views.append(view)
            continue
        for number in numbers:
            answers = [known[text] for text in items[number].texts]
            learn_limits(scorer, answers)
            long = {answer.text for answer in answers if answer.at_limit}
            own.append(lines(number, iter(answer.score for answer in answers), long))
    chunks = [views[start : start + _CHUNK] for start in range(0, len(views), _CHUNK)]
    try:
        made = spread(chunks, lambda some: list(score(some)), own)
    except BaseException:
        if done is not None:
            ready = dict(found for found in own if not isinstance(found, Answer))
            begun = {item.group for number, item in enumerate(items) if number not in ready} - {None}
            done += [r for number in sorted(ready) if items[number].group not in begun for r in ready[number]]
        raise
    ahead.learn([answer for answer in made if isinstance(answer, Answer)])
    scored = dict(found for found in made if not isinstance(found, Answer))
    return [record for number in range(len(items)) for record in scored[number]]


def _logits(
    scorer: PairScorer,
    views: Sequence[_View],
    encode_regions: EncodeRegions | None,
    index: Sequence[int],
    texts: Sequence[str],
) -> Tensor:
    return scorer.score(_encode(scorer, views, encode_regions), index, texts)


def _encode(scorer: PairScorer, views: Sequence[_View], encode_regions: EncodeRegions | None) -> Any:
    from relpretrain.threads import in_threads  # loads torch

    if encode_regions is None:
        return scorer.encode_images(in_threads(lambda view: show(*view), views))
    paths = {path: number for number, path in enumerate(dict.fromkeys(path for path, _ in views))}
    boxes = [box for _, box in views if box is not None]
    return encode_regions(in_threads(show, list(paths)), [paths[path] for path, _ in views], boxes)


class Unseen(str):
    """The name of an image that stands for it, because the scorer will not look."""


def show(path: str, box: tuple[float, float, float, float] | None = None) -> Any:
    """What a scorer is shown of an item: the image, of a file or a shard, or its name if that is `Unseen`."""
    if isinstance(path, Unseen):
        return path
    if isinstance(path, InShard):
        return path() if box is None else path().crop(box)  # type: ignore[arg-type]
    return read_image(path, box)


def read_image(path: str, box: tuple[float, float, float, float] | None = None) -> Image.Image:
    """Decode an image, or the part of it inside a box, to RGB, see `relpretrain.pixels.decode`.

    An array (`.npy`, height, width, 3) is in BGR, as video frames of EqBen are.

    Raises:
        ValueError: If it cannot be decoded.
    """
    try:
        image = _frame(path) if path.endswith(".npy") else decode(path)
        return image if box is None else image.crop(box)  # type: ignore[arg-type]
    except BROKEN as error:
        raise ValueError(f"Image {path} cannot be decoded: {error}") from error


def _frame(path: str) -> Image.Image:
    """The image of an array; mapped, for its head may tell of more than the file holds."""
    return Image.fromarray(np.load(path, mmap_mode="r")[:, :, 2::-1])


def calibrated(records: Iterable[Record]) -> bool:
    """Whether scores are probabilities, for which 0.5 means something."""
    return all(record.get("calibrated", True) for record in records)


def _with_score(record: Record, score: float, calibrated: bool) -> Record:
    """Put the score after the label, where score files have it."""
    scored = {"label": record["label"], "score": score} | record
    return scored if calibrated else scored | {"calibrated": False}
