"""ColorSwap (Burapacheep et al., ACL Findings 2024): which of two texts of exchanged colours is of which image?"""

from __future__ import annotations

from relpretrain.zeroshot.analysis.rules import GROUP, IMAGE, MATCH, ONE_SIDED, TEXT
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.grid import Columns, SquareTask

CARD = Card(
    task="colorswap",
    title="ColorSwap",
    question="Which of two texts with exchanged colours belongs to which of two images?",
    paper="Burapacheep et al., ACL Findings 2024, <https://arxiv.org/abs/2402.04492>.",
    licence="MIT; the data set asks to be applied for",
    files=("`test.json`, `test.jsonl` or the Parquet file of the split test", "`images/`"),
    source="<https://huggingface.co/datasets/stanfordnlp/colorswap> after accepting its terms, 300 items of test",
    images="generated, shipped with the data",
    protocol="colorswap-1: text: s00 > s10 and s11 > s01; image: s00 > s01 and s11 > s10; group: both; one-sided: each "
    "image by itself prefers its text; ties wrong",
    ties="wrong in all",
    constant="0 % of all",
    comparable="text, image and group scores of the paper and of vl_compo on the 300 test items",
    not_comparable="the one-sided figure, which CS-CLIP's harness calls ColorSwap (guessing gets 50 %, not 25 %); "
    "figures on the 700 training items",
    versions=(Version("2024", "", {"": 300}),),
)


class ColorSwap(SquareTask):
    """Winoground's scores, and each image by itself."""

    card = CARD
    rules = (GROUP, TEXT, IMAGE, ONE_SIDED, MATCH)
    columns = Columns(
        (("caption_1", "caption1"), ("caption_2", "caption2")), (("image_1", "image1"), ("image_2", "image2"))
    )
    files = ("test.jsonl", "test.json", "test.*", "test-*.parquet", "*test*.parquet", "*test*.json*")
