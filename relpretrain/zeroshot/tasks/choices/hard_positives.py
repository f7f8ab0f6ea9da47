"""Hard positives (Kamath et al., ECCV 2024): is a model still right when the true text is put in other words?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from relpretrain.zeroshot.analysis.rules import Rule, prefers
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.grid import GridTask, Puzzle
from relpretrain.zeroshot.tasks.common.rows import find_file, image_cell, read_rows, text_cell
from relpretrain.zeroshot.tasks.common.source import Record, Source, select_splits

if TYPE_CHECKING:
    from torch import Tensor

_FILES = {"relations": "vl_checklist_relations.json", "attributes": "vl_checklist_attributes.json"}
_FOLDERS = {"data": ("data/", "data_"), "swapped_data": ("swapped_data/", "swapped_data_")}

CARD = Card(
    task="hard_positives",
    title="Hard positives",
    question="Does a model still prefer the true text to a false one when the true one is put in other words?",
    paper="Kamath et al., ECCV 2024, <https://arxiv.org/abs/2409.17958>.",
    licence="no licence file; texts of Visual Genome, CC BY 4.0",
    files=(
        "`data/` and `swapped_data/`, each with `vl_checklist_relations.json` and `vl_checklist_attributes.json`; or "
        "`data_vl_checklist_relations.json` and so on in one folder",
    ),
    source="the folders `data` and `swapped_data` of <https://github.com/amitakamath/hard_positives>",
    images="Visual Genome (`VG_100K`, `VG_100K_2`)",
    protocol="hard_positives-1: original: p(true) > p(false); augmented: that and p(other words) > p(false); "
    "brittleness: "
    "the false one lies strictly between the two true ones; ties wrong",
    ties="wrong, and not brittle",
    constant="0 % of all, brittleness 0 %",
    comparable="original and augmented accuracy, and brittleness (lower is better), of the paper's replaced relations "
    "and "
    "attributes",
    not_comparable="figures on swapped attributes (28,748 items), whose file is not read; VL-CheckList's own: the "
    "items "
    "are a selection of them",
    versions=(
        Version("33addaa", "relations", {"": 16868}, "86c9b46d1307e6b9"),
        Version("33addaa", "attributes", {"": 10575}, "8d797826af3aa749"),
    ),
)


def _between(scores: Tensor) -> Tensor:
    """Above 0 where the last of three texts lies between the others: the lesser of its distances, (items, 1, 1)."""
    import torch

    first, second, false = scores[:, :, 0].unbind(dim=1)
    return torch.minimum(torch.maximum(first, second) - false, false - torch.minimum(first, second))[:, None, None]


def _both(scores: Tensor) -> Tensor:
    """Both of the first two texts above the last."""
    import torch

    return torch.cat([prefers("", i, 2).margins(scores) for i in (0, 1)], dim=2)


AUGMENTED = Rule("augmented", _both, lambda texts, images: 1 / 3)
BRITTLENESS = Rule("brittleness", _between, lambda texts, images: 1 / 3, lower=True)


class HardPositives(GridTask):
    """Original and augmented accuracy, and brittleness; a split each for relations and attributes."""

    card = CARD
    rules = (AUGMENTED, prefers("original", 0, 2), BRITTLENESS)
    shape = (3, 1)

    def truth(self, record: Record) -> bool:
        """Of the first two texts."""
        return str(record["option"]).startswith(("c0_", "c1_"))

    def puzzles(self, source: Source) -> dict[str, list[Puzzle]]:
        """Three texts per item: true, true in other words, false."""
        folder = source.folder(self.name)
        splits = {}
        for split, file in _FILES.items():
            if not source.splits or split in source.splits:
                pair = [find_file(folder, [f"{p}{file}" for p in places], f"{split} ({name})")
                        for name, places in _FOLDERS.items()]  # fmt: skip
                splits[split] = _join(split, *pair)
        return select_splits(splits, source.splits)


def _join(split: str, original: Path, reworded: Path) -> list[Puzzle]:
    first, second = (read_rows(path, "items") for path in (original, reworded))
    if len(first) != len(second):
        raise ValueError(f"{original} holds {len(first):,} items and {reworded} {len(second):,}: they belong together.")
    found = []
    for (key, row), (_, other) in zip(first, second, strict=True):
        where = f"Hard positives item {key} of {original}"
        image, false = image_cell(row, ("image_path", "image_id"), where), _false(row, where)
        if (image_cell(other, ("image_path", "image_id"), where), _false(other, where)) != (image, false):
            raise ValueError(
                f"{where} and the item of {reworded} differ in image or false text: one of them is shuffled."
            )
        true, reword = (text_cell(r, ("true_caption",), where) for r in (row, other))
        found.append(Puzzle(f"{split}/{key}", (true, reword, false), (image,), more={"file": split}))
    return found


def _false(row: Any, where: str) -> str:
    return text_cell(row, ("false_caption",), where)
