"""VisMin (Awal et al., NeurIPS 2024): a photo and one with a minimal change, and the text of each."""

from __future__ import annotations

from typing import Any

from relpretrain.zeroshot.tasks.common.card import Card
from relpretrain.zeroshot.tasks.common.grid import Columns, Puzzle, SquareTask
from relpretrain.zeroshot.tasks.common.rows import cell, find_file, read_rows, text_cell
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
    files=("`test.jsonl` or the Parquet files of the split test", f"`{SOLUTION}`", "`images/`"),
    source=f"<https://huggingface.co/datasets/mair-lab/vismin-bench>; `{SOLUTION}` in the folder "
    "`vismin-bench/solutions` of <https://github.com/rabiulcste/vismin>",
    images="COCO and edited images, shipped with the data",
    protocol="vismin-1: text: each image prefers its text; image: each text prefers its image; group: both; ties wrong",
    ties="wrong in all",
    constant="0 % of all",
    comparable="text, image and group scores by category of the paper",
    not_comparable=f"figures without `{SOLUTION}`: in many rows the texts stand the other way round, which only that "
    "file "
    "says; figures of generative models, which answer questions",
    versions=(),
    downloads={
        SOLUTION: "https://raw.githubusercontent.com/rabiulcste/vismin/HEAD/vismin-bench/solutions/sim_solution.csv"
    },
)


class VisMin(SquareTask):
    """Winoground's scores, by category too."""

    card = CARD
    columns = Columns((("text_0",), ("text_1",)), (("image_0",), ("image_1",)), ("category",))
    categories = ("object", "attribute", "counting", "relation")
    files = ("test.jsonl", "test.json", "*.jsonl", "*.json", "*.parquet")

    def puzzles(self, source: Source) -> dict[str, list[Puzzle]]:
        """One puzzle per row, its texts in the order of its images."""
        found = super().puzzles(source)
        if source.is_item_file:
            return found
        path = find_file(source.folder(self.name), (SOLUTION,), "which text belongs to which image")
        said = {
            str(cell(row, ("idx", "id"), f"{path}")): _straight(row, f"Row {n} of {path}") for n, row in read_rows(path)
        }
        puzzles = found[""]
        if set(said) != {puzzle.id.partition("/")[2] for puzzle in puzzles} and len(said) == len(puzzles):
            said = {p.id.partition("/")[2]: order for p, order in zip(puzzles, said.values(), strict=True)}  # by place
        return {"": [self._in_order(puzzle, said, path) for puzzle in puzzles]}

    def puzzle(self, key: str, row: Any, where: str) -> Puzzle:
        """The puzzle of a row, by its own id if it has one."""
        return super().puzzle(str(row.get("id", key)) if isinstance(row, dict) else key, row, where)

    def _in_order(self, puzzle: Puzzle, said: dict[str, bool], path: Any) -> Puzzle:
        number = puzzle.id.partition("/")[2]
        if number not in said:
            raise ValueError(f"{path} says nothing of VisMin item {number}: it is of another version.")
        texts = puzzle.texts if said[number] else puzzle.texts[::-1]
        return Puzzle(puzzle.id, texts, puzzle.images, puzzle.category)


def _straight(row: Any, where: str) -> bool:
    """Whether the first text belongs to the first image."""
    rule = text_cell(row, ("Text",), where).split(" & ")[0].strip()
    for straight, words in _RIGHT.items():
        if rule == words:
            return straight
    raise ValueError(f"{where}: 'Text' begins with {' or '.join(map(repr, _RIGHT.values()))}, not {rule!r}.")
