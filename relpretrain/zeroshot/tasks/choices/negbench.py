"""NegBench, multiple choice (Alhamoud et al., CVPR 2025): which of four texts, some with "no" or "not", is true?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from relpretrain.zeroshot.analysis.rules import TEXT
from relpretrain.zeroshot.tasks.common.card import Card
from relpretrain.zeroshot.tasks.common.grid import GridTask, Puzzle
from relpretrain.zeroshot.tasks.common.rows import cell, image_cell, read_rows, text_cell
from relpretrain.zeroshot.tasks.common.source import Source, find_files

FILES = {
    "coco": "COCO_val_mcq_llama3.1_rephrased.csv",
    "voc2007": "VOC2007_mcq_llama3.1_rephrased.csv",
}

CARD = Card(
    task="negbench",
    title="NegBench multiple choice",
    question='Which of four texts, some with "no" or "not", is true of the image?',
    paper="Alhamoud et al., CVPR 2025, <https://arxiv.org/abs/2501.09425>.",
    licence="code MIT; images under the terms of COCO and Pascal VOC",
    files=tuple(f"`{name}`" for name in FILES.values()),
    source="<https://github.com/m1k2zoo/negbench> (its CSV files lie on Google Drive)",
    images="COCO val2017; Pascal VOC 2007 test",
    protocol="negbench-1: the best of four; among equals the first one, the options of item n of a category being "
    "moved on "
    "by n places",
    ties="decided by the place of the options, which moves on from item to item. The files have the right one first, "
    "so "
    "that the official rule, the first of the best, gives a constant scorer 100 %",
    constant="25 %, chance",
    comparable="total accuracy and that by template (positive, negative, hybrid) of the repository, where scores do "
    "not tie",
    not_comparable="figures before March 2025, which had an error in normalisation; figures with many ties",
    versions=(),
)


class NegBench(GridTask):
    """Accuracy by template, a split each for COCO and VOC 2007."""

    card = CARD
    rules = (replace(TEXT, ties="turned"),)
    categories = ("positive", "negative", "hybrid")
    shape = (4, 1)

    def puzzles(self, source: Source) -> dict[str, list[Puzzle]]:
        """The rows of each file, the right option first."""
        splits: dict[str, list[Puzzle]] = {}
        for split, path in find_files(source, self.name, FILES)[0].items():
            seen: dict[str, int] = {}
            splits[split] = []
            for key, row in read_rows(path, "questions"):
                puzzle = _puzzle(split, key, row, f"Row {key} of {path}")
                seen[puzzle.category] = seen.get(puzzle.category, -1) + 1
                splits[split].append(replace(puzzle, turn=seen[puzzle.category] % 4))
        return splits

    def missing_files(self, source: Source) -> tuple[str, ...]:
        """A note on files that are not there."""
        return find_files(source, self.name, FILES)[1]


def _puzzle(split: str, key: str, row: Any, where: str) -> Puzzle:
    texts = [text_cell(row, (f"caption_{n}",), where) for n in range(4)]
    said = str(cell(row, ("correct_answer",), where)).removesuffix(".0")
    if said not in ("0", "1", "2", "3"):
        raise ValueError(f"{where}: 'correct_answer' is the number of a text, 0 to 3, not {said!r}.")
    texts.insert(0, texts.pop(int(said)))
    category = str(cell(row, ("correct_answer_template",), where))
    return Puzzle(f"{split}/{key}", tuple(texts), (image_cell(row, ("image_path", "filepath"), where),), category)
