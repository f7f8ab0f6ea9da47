"""COLA, multi-object setting (Ray et al., NeurIPS 2023): which of two images does a text of two objects describe?"""

from __future__ import annotations

from typing import Any

from relpretrain.zeroshot.analysis.rules import GROUP, IMAGE, MATCH, TEXT
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.grid import Columns, Puzzle, SquareTask
from relpretrain.zeroshot.tasks.common.rows import image_name

CARD = Card(
    task="cola",
    title="COLA multi-object",
    question="Which of two images does a text about two objects with attributes describe?",
    paper="Ray et al., NeurIPS 2023, <https://arxiv.org/abs/2305.03689>.",
    licence="MIT; images Visual Genome",
    files=("`COLA_multiobjects_matching_benchmark.json`",),
    source="the folder `data` of <https://github.com/arijitray1993/COLA>",
    images="Visual Genome, as GQA has them (`<id>.jpg`)",
    protocol="cola-1: by image: each of two texts prefers its image; group: each image prefers its text, too; ties "
    "wrong",
    ties="wrong in all, as in the official code",
    constant="0 % of all",
    comparable="the image score is the official accuracy (people: 83.33)",
    not_comparable="the group score, which CS-CLIP calls multi-object accuracy; COLA's single-object setting",
    versions=(Version("1fa52fb", "", {"": 210}, "25d4fd49a7cd80ab"),),
    downloads={
        "COLA_multiobjects_matching_benchmark.json": "https://raw.githubusercontent.com/arijitray1993/COLA/"
        "HEAD/data/COLA_multiobjects_matching_benchmark.json"
    },
)


class COLA(SquareTask):
    """By image, which is official, and by group."""

    card = CARD
    rules = (IMAGE, GROUP, TEXT, MATCH)
    columns = Columns((("caption1",), ("caption2",)), (("image1",), ("image2",)))
    files = ("COLA_multiobjects_matching_benchmark.json", "*.json")

    def puzzle(self, key: str, row: Any, where: str) -> Puzzle:
        """A row is [address, text, address, text]."""
        if isinstance(row, dict):
            return super().puzzle(key, row, where)
        if not isinstance(row, list) or len(row) != 4 or not all(isinstance(part, str) and part for part in row):
            raise ValueError(f"{where} must be [image, text, image, text], not {str(row)[:80]!r}.")
        images = tuple(image_name(row[i], where) for i in (0, 2))
        return Puzzle(f"cola/{key}", (row[1], row[3]), images)
