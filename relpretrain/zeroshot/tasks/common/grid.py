"""Tasks about several texts and images at once: a reader, a card and rules make one."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from relpretrain.zeroshot.analysis.rules import GROUP, IMAGE, MATCH, TEXT, Rule
from relpretrain.zeroshot.analysis.statistics import linked
from relpretrain.zeroshot.analysis.table import OVERALL, Row, Table, make_macro_row, make_share_row
from relpretrain.zeroshot.tasks.common.base import Item, Outcome, PairTask
from relpretrain.zeroshot.tasks.common.rows import cell, find_file, image_cell, read_rows, text_cell
from relpretrain.zeroshot.tasks.common.source import Record, Source, require

if TYPE_CHECKING:
    from torch import Tensor

    from relpretrain.types import PairScorer


@dataclass(frozen=True)
class Puzzle:
    """Texts and images of which text i belongs to image i; further ones belong to nothing.

    Args:
        id: What identifies it in its split; not a number alone.
        texts: The texts.
        images: File names of the images.
        category: Its category, "" where there are none.
        box: (left, top, right, bottom) in pixels of the part of the images that is scored.
        turn: How many places its options are moved on where ties are "turned" (`rules.Ties`).
        more: Further keys of its lines in score files.
    """

    id: str
    texts: tuple[str, ...]
    images: tuple[str, ...]
    category: str = ""
    box: tuple[float, float, float, float] | None = None
    turn: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


SIZES = ("texts", "images")
"""Under which names a line says how many texts and images its puzzle has."""


class Grid(NamedTuple):
    """The scores of one puzzle."""

    key: Any
    record: Record  # the first of its lines
    scores: Tensor  # (texts, images), float64


class Answers(NamedTuple):
    """What a rule says of puzzles, answer by answer."""

    correct: list[bool]
    tied: list[bool]
    owner: list[int]  # number of each answer's puzzle
    shapes: list[tuple[int, int]]  # number of texts and images that each answer is about


class GridTask(PairTask):
    """A task whose items are puzzles; a subclass says how they are read and which rules decide them."""

    rules: tuple[Rule, ...] = (TEXT,)
    """The headline first."""
    categories: Sequence[str] = ()
    """The order of the categories; others follow in the order of the alphabet."""
    shape: tuple[int, int] = (1, 1)
    """Texts and images that each puzzle has at least: scores of fewer are refused."""
    mean: str = ""
    """What the plain mean over the categories is called, where that is the official figure; it then comes first."""

    def __init__(self) -> None:
        self.name = self.card.task
        self.protocol = self.card.protocol
        self.several = len(self.rules) > 1

    @abstractmethod
    def puzzles(self, source: Source) -> dict[str, list[Puzzle]]:
        """The puzzles by split."""

    def rules_of(self, records: Sequence[Record]) -> tuple[Rule, ...]:
        """The rules that decide some lines, the headline first."""
        return self.rules

    @staticmethod
    def split_of(records: Sequence[Record]) -> str:
        """The split that lines are of, by the beginning of their ids, where a score file alone is at hand."""
        return str(records[0]["id"]).split("/")[0]

    def items(self, source: Source) -> dict[str, list[Item]]:
        """For each puzzle an item per image, with all texts (see `Task.items`)."""
        found = self.puzzles(source)
        for puzzles in found.values():
            number, times = Counter(puzzle.id for puzzle in puzzles).most_common(1)[0] if puzzles else ("", 1)
            if times > 1:
                raise ValueError(f"{self.card.title}: {times} items in {source.path} have the id {number!r}.")
        return {split: [i for p in puzzles for i in self._items(p)] for split, puzzles in found.items()}

    def _items(self, puzzle: Puzzle) -> Iterator[Item]:
        shared = {"task": self.name, **({"category": puzzle.category} if puzzle.category else {}), **puzzle.more}
        shared |= {} if puzzle.turn is None else {"turn": puzzle.turn}
        for i, image in enumerate(puzzle.images):
            options = [f"c{c}_i{i}" for c in range(len(puzzle.texts))]
            lines = tuple({"label": f"{puzzle.id}_{o}", **shared, "option": o, "id": puzzle.id} for o in options)
            yield Item(image, puzzle.texts, lines, puzzle.box, group=puzzle.id)

    def score(self, scorer: PairScorer, items: Sequence[Item], done: list[Record] | None = None) -> list[Record]:
        """Lines that say how many texts and images their puzzle has, so that one left out is noticed."""
        return super().score(scorer, with_sizes(items), done)

    def truth(self, record: Record) -> bool | None:
        """Whether the text of a line is true of its image; None where that is not said."""
        text, _, image = str(record["option"]).partition("_")
        return text[1:] == image[1:]

    def category(self, record: Record) -> str:
        """The category of a record's item, "" where there are none."""
        return str(record.get("category", ""))

    def grids(self, records: Sequence[Record]) -> list[Grid]:
        """The scores by puzzle, in the order in which puzzles come first.

        Raises:
            ValueError: If a puzzle lacks a score or has one twice.
        """
        import torch

        found: dict[Any, dict[tuple[int, int], Record]] = {}
        for record in records:
            require(record, ("id", "option", "score"), f"A {self.card.title} score record")
            text, _, image = str(record["option"]).partition("_")
            if not (text[1:].isdecimal() and image[1:].isdecimal()):
                raise ValueError(f'{self.card.title}: an option is "c<text>_i<image>", not {record["option"]!r}.')
            cells = found.setdefault(record["id"], {})
            if (place := (int(text[1:]), int(image[1:]))) in cells:
                raise ValueError(f"{self.card.title} item {record['id']} has two scores for {record['option']}.")
            cells[place] = record
        grids = []
        for key, cells in found.items():
            said = [record.get(name, 0) for name in SIZES for record in list(cells.values())[:1]]
            texts, images = (max(self.shape[axis], said[axis], *(1 + p[axis] for p in cells)) for axis in (0, 1))
            if len(cells) != texts * images:
                raise ValueError(f"{self.card.title} item {key} needs a score for each of its {texts} texts with each "
                                 f"of its {images} images; it has {len(cells)} of {texts * images}.")  # fmt: skip
            values = [[cells[c, i]["score"] for i in range(images)] for c in range(texts)]
            grids.append(Grid(key, cells[0, 0], torch.tensor(values, dtype=torch.float64)))
        return grids

    def answers(self, rule: Rule, grids: Sequence[Grid]) -> Answers:
        """Judge puzzles, those of one shape together."""
        import torch

        by_shape: dict[tuple[int, int], list[int]] = {}
        for number, grid in enumerate(grids):
            by_shape.setdefault((grid.scores.shape[0], grid.scores.shape[1]), []).append(number)
        correct: dict[int, list[bool]] = {}
        tied: dict[int, list[bool]] = {}
        for (texts, images), numbers in by_shape.items():
            turn = torch.tensor([int(grids[n].record.get("turn", 0)) for n in numbers])
            try:
                verdict = rule.judge(torch.stack([grids[n].scores for n in numbers]), turn)
            except IndexError as error:
                raise ValueError(f"{self.card.title} item {grids[numbers[0]].key} has scores of {texts} texts and "
                                 f"{images} images only, too few for {rule.name!r}.") from error  # fmt: skip
            correct |= dict(zip(numbers, verdict.correct.tolist(), strict=True))
            tied |= dict(zip(numbers, verdict.tied.tolist(), strict=True))
        order = range(len(grids))
        owner = [n for n in order for _ in correct[n]]
        shape_of = {n: shape for shape, numbers in by_shape.items() for n in numbers}
        right, ties = ([value for n in order for value in found[n]] for found in (correct, tied))
        return Answers(right, ties, owner, [shape_of[n] for n in owner])

    def outcomes(self, records: Sequence[Record]) -> dict[Any, Outcome]:
        """Whether each puzzle is right; by (rule, puzzle) where there are several rules."""
        grids, found = self.grids(records), {}
        rules = self.rules_of(records)
        for rule in rules:
            answers = self.answers(rule, grids)
            for number, answer in groupby(zip(answers.owner, answers.correct, strict=True), key=lambda pair: pair[0]):
                right = [correct for _, correct in answer]
                for n, correct in enumerate(right):
                    key = grids[number].key
                    category = rule.name if self.several else self.category(grids[number].record)
                    if self.several:
                        key = (rule.name, key) if len(right) == 1 else (rule.name, key, n)
                    found[key] = Outcome(category, correct)
        return found

    def summarise(self, records: Sequence[Record], split: str = "") -> Table:
        """A row per rule; of a single rule, a row per category."""
        return self.tables(records, split)[0]

    def tables(self, records: Sequence[Record], split: str = "") -> tuple[Table, ...]:
        """The rules' figures, and where there are several rules and categories, the headline by category."""
        grids, rules = self.grids(records), self.rules_of(records)
        images = clusters(grids, records)
        names = self.ordered([self.category(grid.record) for grid in grids])
        notes = self.remarks(records, grids)
        if len(rules) == 1:
            rows = self.by_category(rules[0], grids, images, names, named=len(names) > 1 or names != [""])
            return (Table(self.name, split, self.protocol, tuple(rows), notes),)
        rows = [self.row(rule, rule.name, grids, images) for rule in rules]
        main = Table(self.name, split, self.protocol, tuple(rows), notes)
        if len(names) < 2:
            return (main,)
        rows = self.by_category(rules[0], grids, images, names, rules[1:])
        note = f"the figure {rules[0].name!r} by category, the others beside it"
        return main, Table(self.name, f"{split} by category".strip(), self.protocol, tuple(rows), (note,))

    def remarks(self, records: Sequence[Record], grids: Sequence[Grid]) -> tuple[str, ...]:
        """What a reader of the tables must know of these items."""
        return ()

    def by_category(
        self,
        rule: Rule,
        grids: Sequence[Grid],
        images: Sequence[Any] | None,
        names: Sequence[str],
        beside: Sequence[Rule] = (),
        named: bool = True,
    ) -> list[Row]:
        """A rule's row over all puzzles and one per category, with other rules' figures as details."""
        rows = [self.row(rule, rule.name if beside else OVERALL, grids, images, beside)]
        for name in names if named else ():
            chosen = [n for n, grid in enumerate(grids) if self.category(grid.record) == name]
            some = None if images is None else [images[n] for n in chosen]
            rows.append(replace(self.row(rule, name, [grids[n] for n in chosen], some, beside), category=name))
        return rows

    def row(
        self,
        rule: Rule,
        name: str,
        grids: Sequence[Grid],
        images: Sequence[Any] | None = None,
        beside: Sequence[Rule] = (),
    ) -> Row:
        """A rule's row over puzzles; the mean over their categories where that is the official figure."""
        answers = self.answers(rule, grids)
        owners = None if images is None else [images[n] for n in answers.owner]
        chances = [rule.chance(*shape) for shape in answers.shapes]
        chance = sum(chances) / len(chances) if chances else math.nan
        details: dict[str, float] = {"ties": sum(answers.tied), "chance": chance}
        if rule.ties != "wrong" and answers.correct:
            strict = (c and not t for c, t in zip(answers.correct, answers.tied, strict=True))
            details["strict"] = sum(strict) / len(answers.correct)
        for other in beside:
            found = self.answers(other, grids).correct
            details[other.name] = sum(found) / len(found)
        categories = [self.category(grids[n].record) for n in answers.owner]
        if not self.mean or len(set(categories)) < 2:
            return make_share_row(name, answers.correct, owners, **details)
        parts = []
        for category in self.ordered(categories):
            chosen = [n for n, c in enumerate(categories) if c == category]
            some = None if owners is None else [owners[n] for n in chosen]
            parts.append(([answers.correct[n] for n in chosen], some))
        return make_macro_row(self.mean if name == OVERALL else name, parts, **details)

    def ordered(self, names: Sequence[str]) -> list[str]:
        """The distinct categories in the task's order."""
        known = {name: number for number, name in enumerate(self.categories)}
        return sorted(set(names), key=lambda name: (known.get(name, len(known)), name))

    def count(self, records: Sequence[Record]) -> Mapping[str, int]:
        """Number of items by category."""
        found = {record["id"]: self.category(record) for record in records}
        return dict(Counter(found.values()))


def with_sizes(items: Sequence[Item]) -> list[Item]:
    """Items whose lines say how many texts and images their puzzle has."""
    images = Counter(item.group for item in items)
    sized = [dict(zip(SIZES, (len(item.texts), images[item.group]), strict=True)) for item in items]
    return [replace(i, records=tuple(r | s for r in i.records)) for i, s in zip(items, sized, strict=True)]


def unnoticed(task: Any, records: Sequence[Record]) -> tuple[str, ...]:
    """A note where lines of a score file do not say how many options an item has, and the task does not fix it."""
    if not isinstance(task, GridTask) or task.shape != (1, 1) or all(records[0].get(name) for name in SIZES):
        return ()
    return ("the scores do not say how many options an item has: one that was left out is noticed with --data only",)


def clusters(grids: Sequence[Grid], records: Sequence[Record]) -> list[int | None] | None:
    """What each puzzle shares with others: those with an image in common, directly or through others, are together."""
    named: dict[Any, list[str]] = {}
    for record in records:
        named.setdefault(record["id"], []).append(str(record.get("image") or ""))
    images = [named[grid.key] for grid in grids]
    return linked(images) if all(all(some) for some in images) else None


@dataclass(frozen=True)
class Columns:
    """Under which names a file has what; several where copies differ.

    Args:
        texts: Of each text.
        images: Of each image, in the order of the texts.
        category: Of the category.
    """

    texts: tuple[tuple[str, ...], ...]
    images: tuple[tuple[str, ...], ...]
    category: tuple[str, ...] = ()


class SquareTask(GridTask):
    """Two texts and two images, by Winoground's scores and GroupMatch: a card, names of columns, and files."""

    rules: tuple[Rule, ...] = (GROUP, TEXT, IMAGE, MATCH)
    shape = (2, 2)
    columns: Columns
    files: tuple[str, ...] = ("test.jsonl", "test.json", "test.*", "*.jsonl", "*.json", "*.csv", "*.parquet")
    """Names or patterns of the annotation file, the best first."""

    def puzzles(self, source: Source) -> dict[str, list[Puzzle]]:
        """One puzzle per row of the file."""
        if source.is_item_file:
            rows, where = [(str(n), r) for n, r in enumerate(source.listed_items(self.name))], source.path
        else:
            where = find_file(source.folder(self.name), self.files, f"the items of {self.card.title}")
            rows = read_rows(where, "items")
        return {"": [self.puzzle(key, row, f"{self.card.title} item {key!r} of {where}") for key, row in rows]}

    def puzzle(self, key: str, row: Any, where: str) -> Puzzle:
        """The puzzle of a row."""
        texts = tuple(text_cell(row, names, where) for names in self.columns.texts)
        images = tuple(image_cell(row, names, where) for names in self.columns.images)
        category = self.category_of(cell(row, self.columns.category, where)) if self.columns.category else ""
        return Puzzle(f"{self.name}/{key}", texts, images, category)

    def category_of(self, value: Any) -> str:
        """The category in a cell."""
        return str(value)
