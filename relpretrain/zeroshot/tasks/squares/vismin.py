"""VisMin (Awal et al., NeurIPS 2024): a photo and one with a minimal change, and the text of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.grid import Columns, Puzzle, SquareTask
from relpretrain.zeroshot.tasks.common.rows import cell, read_rows, text_cell
from relpretrain.zeroshot.tasks.common.source import Source

SOLUTION = "sim_solution.csv"

_RIGHT = {True: "T0_I0 > T1_I0", False: "T1_I0 > T0_I0"}

CARD = Card(
    task="vismin",
    title="VisMin",
    question="Which of two texts belongs to which of two images that differ in one object, attribute, number or "
    "relation?",
    paper="Awal et al., NeurIPS 2024, <https://arxiv.org/abs/2407.16772>.",
    licence="CC BY 4.0",
    files=(
        "`test.jsonl` or the Arrow or Parquet files of the split test",
        "`images/`",
        f"`{SOLUTION}` beside data of November 2024 only",
    ),
    source="<https://huggingface.co/datasets/mair-lab/vismin-bench>; images and rows are unpacked with "
    "`relpretrain data fetch vismin --unpack FOLDER`",
    images="COCO and edited images, shipped with the data",
    protocol="vismin-1: text: each image prefers its text; image: each text prefers its image; group: both; ties wrong",
    ties="wrong in all",
    constant="0 % of all",
    comparable="text, image and group scores by category of the paper",
    not_comparable="figures of generative models, which answer questions. In the data of November 2024 about half of "
    f"the rows have their texts the other way round, which only `{SOLUTION}` says (`vismin-bench/solutions` of "
    "<https://github.com/rabiulcste/vismin> at 4fdeb0f); the authors' evaluation of January 2025 has no such file and "
    "takes the texts in the order of the images",
    versions=(Version("2024", "", {"object": 579, "attribute": 294, "counting": 589, "relation": 622}),),
)


class VisMin(SquareTask):
    """Winoground's scores, by category too."""

    card = CARD
    columns = Columns((("text_0",), ("text_1",)), (("image_0",), ("image_1",)), ("category",))
    categories = ("object", "attribute", "counting", "relation")
    files = ("test.jsonl", "test.json", "*.jsonl", "*.json", "*.parquet", "*.arrow")

    def puzzles(self, source: Source) -> dict[str, list[Puzzle]]:
        """One puzzle per row, its texts in the order of its images."""
        found = super().puzzles(source)
        path = None if source.is_item_file else _solution(source.folder(self.name))
        if path is None:
            return found
        said = _said(path)
        puzzles = found[""]
        keys = [_key(puzzle) for puzzle in puzzles]
        if set(said) != set(keys) and [category for category, _ in said] == [category for category, _ in keys]:
            said = dict(zip(keys, said.values(), strict=True))  # the ids differ, the rows are the same ones
        if lost := [key for key in keys if key not in said]:
            raise ValueError(f"{path} says nothing of VisMin item {'/'.join(lost[0])}: it is of another version.")
        return {"": [replace(p, texts=p.texts if said[_key(p)] else p.texts[::-1]) for p in puzzles]}

    def puzzle(self, key: str, row: Any, where: str) -> Puzzle:
        """The puzzle of a row, by its category and its own id, which starts anew in each, if it has one."""
        found = super().puzzle(str(row.get("id", key)) if isinstance(row, dict) else key, row, where)
        return replace(found, id=f"{self.name}/{found.category}/{found.id.partition('/')[2]}")

    def missing_files(self, source: Source) -> tuple[str, ...]:
        """How it is known which text belongs to which image."""
        if source.is_item_file or _solution(source.folder(self.name)):
            return ()
        return (f"texts in the order of their images, as in the authors' data of January 2025; older data needs "
                f"{SOLUTION}",)  # fmt: skip


def _key(puzzle: Puzzle) -> tuple[str, str]:
    """Category and number."""
    return puzzle.category, puzzle.id.rpartition("/")[2]


def _solution(folder: Path) -> Path | None:
    return next((path for path in sorted(folder.rglob(SOLUTION)) if path.is_file()), None)


def _said(path: Path) -> dict[tuple[str, str], bool]:
    """Whether the first text belongs to the first image, by category and number."""
    said = {}
    for n, row in read_rows(path):
        where = f"Row {n} of {path}"
        key = (text_cell(row, ("category",), where), str(cell(row, ("idx", "id"), where)))
        if key in said:
            raise ValueError(f"{where} is a second one of {' '.join(key)}.")
        said[key] = _straight(row, where)
    return said


def _straight(row: Any, where: str) -> bool:
    """Whether the first text belongs to the first image."""
    rule = text_cell(row, ("Text",), where).split(" & ")[0].strip()
    for straight, words in _RIGHT.items():
        if rule == words:
            return straight
    raise ValueError(f"{where}: 'Text' begins with {' or '.join(map(repr, _RIGHT.values()))}, not {rule!r}.")
