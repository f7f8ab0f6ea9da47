"""CREPE, productivity (Ma et al., CVPR 2023): the true text of growing complexity among hard negatives."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relpretrain.zeroshot.analysis.rules import recall
from relpretrain.zeroshot.analysis.table import Part, Table, make_macro_row
from relpretrain.zeroshot.tasks.common.card import Card
from relpretrain.zeroshot.tasks.common.grid import GridTask, Puzzle, clusters
from relpretrain.zeroshot.tasks.common.rows import box_of, cell, read_rows, text_cell
from relpretrain.zeroshot.tasks.common.source import Record, Source, list_of_texts, select_splits

KINDS = ("atom", "swap", "negate")
COMPLEXITIES = range(4, 13)

CARD = Card(
    task="crepe",
    title="CREPE productivity",
    question="Does the true text of a region score above hard negatives, however complex it is?",
    paper="Ma et al., CVPR 2023, <https://arxiv.org/abs/2212.07796>.",
    licence="no licence file; texts and images of Visual Genome, CC BY 4.0",
    files=("`prod_vg_hard_negs_<atom|swap|negate>_complexity_<4..12>.csv`",),
    source="<https://github.com/RAIVNLab/CREPE> (`crepe_eval_set` archives)",
    images="Visual Genome, cut to each row's box",
    protocol="crepe-1: R@k of the true text among its hard negatives, a tied one last among its equals; mean over the "
    "complexities",
    ties="wrong; the official code sorts, and its order among equals is arbitrary",
    constant="0 % as long as k is below the number of texts",
    comparable="R@1 by kind, the mean over complexities 4 to 12; the mean over the kinds in a table of its own",
    not_comparable="CREPE's systematicity sets; figures over all items instead of the mean over complexities",
    versions=(),
)


class CREPE(GridTask):
    """R@1, 3, 5 and 10, a split per kind of negatives, means over the complexities."""

    card = CARD
    rules = (recall(1), recall(3), recall(5), recall(10))
    mean = "mean over complexities"
    categories = tuple(f"complexity {n}" for n in COMPLEXITIES)

    def puzzles(self, source: Source) -> dict[str, list[Puzzle]]:
        """The rows of all files below DIR/crepe, the true text first."""
        folder = source.folder(self.name)
        splits: dict[str, list[Puzzle]] = {}
        for kind in KINDS:
            for complexity in COMPLEXITIES:
                name = f"prod_vg_hard_negs_{kind}_complexity_{complexity}.csv"
                for path in sorted(folder.rglob(name))[:1]:
                    splits.setdefault(kind, []).extend(_puzzles(kind, complexity, path))
        if not splits:
            raise ValueError(f"{folder} holds no prod_vg_hard_negs_<kind>_complexity_<n>.csv. "
                             "`relpretrain data fetch crepe` says where they come from.")  # fmt: skip
        return select_splits(splits, source.splits)

    def across(self, parts: Mapping[str, Sequence[Record]]) -> tuple[Table, ...]:
        """R@1: the mean over the kinds of the means over complexities."""
        found: list[Part] = []
        names = []
        for kind, records in parts.items():
            grids = self.grids(records)
            images = clusters(grids, records)
            for category in self.ordered([self.category(g.record) for g in grids]):
                chosen = [n for n, g in enumerate(grids) if self.category(g.record) == category]
                right = self.answers(self.rules[0], [grids[n] for n in chosen]).correct
                found.append((right, None if images is None else [images[n] for n in chosen]))
            names.append(kind)
        row = make_macro_row(f"R@1: mean over {', '.join(names)}", found)
        note = "" if set(names) == set(KINDS) else f"of {', '.join(names)} alone: published means are over all three"
        return (Table(self.name, "mean over kinds", self.protocol, (row,), tuple(filter(None, (note,)))),)


def _puzzles(kind: str, complexity: int, path: Path) -> list[Puzzle]:
    return [_puzzle(kind, complexity, key, row, f"Row {key} of {path}") for key, row in read_rows(path, "texts")]


def _puzzle(kind: str, complexity: int, key: str, row: Any, where: str) -> Puzzle:
    said = cell(row, ("hard_negs",), where)
    try:
        wrong = list_of_texts(ast.literal_eval(said) if isinstance(said, str) else said, f"{where}: 'hard_negs'")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:  # the last two of endless nesting
        raise ValueError(f"{where}: 'hard_negs' must be a list of texts, not {str(said)[:80]!r}.") from error
    if not wrong:
        raise ValueError(f"{where}: 'hard_negs' is empty.")
    number = str(cell(row, ("image_id",), where)).removesuffix(".0")
    box = box_of([cell(row, (name,), where) for name in ("x", "y", "width", "height")], where)
    texts = (text_cell(row, ("caption",), where), *wrong)
    return Puzzle(f"{kind}/{complexity}/{key}", texts, (f"{number}.jpg",), f"complexity {complexity}", box)
