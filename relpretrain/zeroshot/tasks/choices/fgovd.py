"""FG-OVD as a question about regions (Bianchi et al., CVPR 2024): which of eleven texts describes a box?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from relpretrain.errors import counted
from relpretrain.zeroshot.analysis.rules import TEXT
from relpretrain.zeroshot.tasks.common.base import Item, score_items
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.grid import Grid, GridTask, Puzzle, with_sizes
from relpretrain.zeroshot.tasks.common.rows import box_of, cell, find_file, image_cell, read_rows
from relpretrain.zeroshot.tasks.common.source import Record, Source, list_of_texts, select_splits

if TYPE_CHECKING:
    from relpretrain.types import PairScorer

SIZES = {
    "hard": (3545, "ff37d27b42e426dc"),
    "medium": (2968, "deb9f797b8f6b95e"),
    "easy": (1299, "064c852d62b35913"),
    "trivial": (3545, "221e7196b2c0827a"),
}
"""Boxes of each set, and the digest of its items."""

FILES = {
    "hard": ("h_attributes_llava.jsonl", "1_attributes_llava.jsonl"),
    "medium": ("m_attributes_llava.jsonl", "2_attributes_llava.jsonl"),
    "easy": ("e_attributes_llava.jsonl", "3_attributes_llava.jsonl"),
    "trivial": ("shuffle_negatives_llava.jsonl",),
}

CARD = Card(
    task="fgovd",
    title="FG-OVD, texts of a region",
    question="Which of up to eleven texts that differ in attributes describes the thing in a box?",
    paper="Bianchi et al., CVPR 2024, <https://arxiv.org/abs/2311.17518>; in this form in FG-CLIP, "
    "<https://arxiv.org/abs/2505.05071>.",
    licence="Apache-2.0; images under COCO's terms",
    files=tuple(f"`{names[0]}`" for names in FILES.values()),
    source="the folder `data/fgovd` of <https://github.com/360CVGroup/FG-CLIP>",
    images="COCO val2017",
    protocol="fgovd-1: the true text scores at least as much as all others, texts in lower case; the box is encoded "
    "as a "
    "region where the model can, else cut out",
    ties="right, as in FG-CLIP's code; the strict figure stands beside it",
    constant="100 %, and 0 % strict",
    comparable="FG-CLIP's accuracies by set, for models whose regions are encoded in the whole image",
    not_comparable="FG-OVD's own mAP and mean rank of detectors; 37 of the 3,545 hard items have fewer than ten false "
    "texts, so that chance is above 1 in 11; a box that is cut out is another question than a region in its image, and "
    "the note of the table says which it was",
    versions=tuple(Version("b1af1cd", n, {"": size}, found) for n, (size, found) in SIZES.items()),
    downloads={
        names[0]: f"https://raw.githubusercontent.com/360CVGroup/FG-CLIP/HEAD/data/fgovd/{names[0]}"
        for names in FILES.values()
    },
)


class FGOVD(GridTask):
    """Accuracy, a split per set."""

    card = CARD
    rules = (replace(TEXT, ties="right"),)

    def puzzles(self, source: Source) -> dict[str, list[Puzzle]]:
        """The boxes of each file that is there."""
        folder = source.folder(self.name)
        splits = {}
        for split, names in FILES.items():
            found = any((folder / name).is_file() for name in names)
            if found if not source.splits else split in source.splits:
                path = find_file(folder, names, f"the set {split}")
                rows = read_rows(path, "boxes")
                splits[split] = [_puzzle(split, key, row, f"Line {int(key) + 1} of {path}") for key, row in rows]
        if not splits:
            find_file(folder, [names[0] for names in FILES.values()], "a set of FG-OVD")
        return select_splits(splits, source.splits)

    def score(self, scorer: PairScorer, items: Sequence[Item], done: list[Record] | None = None) -> list[Record]:
        """By the scorer's encodings of regions, where it has some."""
        regions = getattr(scorer, "encode_regions", None)
        records = score_items(scorer, with_sizes(items), done, regions)
        way = "cut out" if regions is None else str(getattr(scorer, "region_way", "encoded in the whole image"))
        return [record | {"box": way} for record in records]

    def remarks(self, records: Sequence[Record], grids: Sequence[Grid]) -> tuple[str, ...]:
        """How boxes were shown, and how many items have fewer texts."""
        ways = sorted({str(record["box"]) for record in records if "box" in record})
        most = max(len(grid.scores) for grid in grids)
        fewer = sum(len(grid.scores) < most for grid in grids)
        notes = [f"boxes were {' and '.join(ways)}"] if ways else []
        return (*notes, *([f"{counted(fewer, 'item')} with fewer than {most} texts"] if fewer else []))


def _puzzle(split: str, key: str, row: Any, where: str) -> Puzzle:
    texts = []
    for name in ("pos_expression", "neg_expression"):
        said = cell(row, (name,), where)
        texts.append(list_of_texts([said] if isinstance(said, str) else said, f"{where}: {name!r}"))
    if len(texts[0]) != 1 or not texts[1]:
        raise ValueError(f"{where} needs one true text and at least one false one; it has {len(texts[0])} and "
                         f"{len(texts[1])}.")  # fmt: skip
    box = box_of(cell(row, ("bbox",), where), where)
    lower = tuple(text.lower() for text in (*texts[0], *texts[1]))
    return Puzzle(
        f"{split}/{key}", lower, (image_cell(row, ("img_path", "image"), where),), box=box, more={"set": split}
    )
