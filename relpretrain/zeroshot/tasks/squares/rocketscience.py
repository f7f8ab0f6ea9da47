"""RocketScience (Hoehing et al., 2025): spatial order and relations in new photographs, two by two."""

from __future__ import annotations

import re
from typing import Any

from relpretrain.zeroshot.tasks.common.card import Card
from relpretrain.zeroshot.tasks.common.grid import Columns, SquareTask

CARD = Card(
    task="rocketscience",
    title="RocketScience",
    question="Which of two texts that differ in a spatial relation belongs to which of two photos?",
    paper="Hoehing et al., 2025, <https://huggingface.co/datasets/nilshoehing/rocketsciencebench>.",
    licence="CC BY 4.0",
    files=("the Parquet file of the split train, or `*.jsonl` of its rows", "`images/`"),
    source="<https://huggingface.co/datasets/nilshoehing/rocketsciencebench>",
    images="photos of the authors, shipped with the data",
    protocol="rocketscience-1: text: s00 > s10 and s11 > s01; image: s00 > s01 and s11 > s10; group: both; ties wrong",
    ties="wrong in all",
    constant="0 % of all",
    comparable="text, image and group scores of the paper; by category where an item has one category only",
    not_comparable="the paper's figures by category, which count an item in each of its categories; here items of "
    "several "
    "are a category of their own",
    versions=(),
)


class RocketScience(SquareTask):
    """Winoground's scores, by category too."""

    card = CARD
    columns = Columns((("text1",), ("text2",)), (("image1",), ("image2",)), ("Category", "category"))

    def category_of(self, value: Any) -> str:
        """The categories of an item: a list, which some copies hold as text."""
        names = re.findall(r"'([^']+)'", value) if isinstance(value, str) and value.startswith("[") else value
        return ", ".join(map(str, names)) if isinstance(names, list) else str(names)
