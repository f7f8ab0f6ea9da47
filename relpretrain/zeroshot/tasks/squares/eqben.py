"""EqBen (Wang et al., ICCV 2023): two frames that differ in little, and the text of each."""

from __future__ import annotations

from typing import Any

from relpretrain.zeroshot.tasks.common.card import Card
from relpretrain.zeroshot.tasks.common.grid import Columns, Puzzle, SquareTask

CARD = Card(
    task="eqben",
    title="EqBen, small sets",
    question="Which of two texts belongs to which of two frames that differ in little?",
    paper="Wang et al., ICCV 2023, <https://arxiv.org/abs/2303.14465>.",
    licence="of its sources; code MIT",
    files=("`eqben_subset_10percent_final.json`, or another list of two images and two captions a row", "`images/`"),
    source="the sub-test set of <https://github.com/Wangt-CN/EqBen> (images about 10 GB)",
    images="frames of Action Genome, GEBC, YouCook2 (arrays in BGR, `.npy`), Kubric, Stable Diffusion",
    protocol="eqben-1: text: s00 > s10 and s11 > s01; image: s00 > s01 and s11 > s10; group: both; ties wrong",
    ties="wrong in all",
    constant="0 % of all",
    comparable="group scores by data set on the same items, which are the category: the first folder of an image",
    not_comparable="figures of the full test set (100 GB of images), which the subset samples",
    versions=(),
)


class EqBen(SquareTask):
    """Winoground's scores, by data set too."""

    card = CARD
    columns = Columns(
        (("caption0", "caption_0"), ("caption1", "caption_1")),
        (("image0", "image_0"), ("image1", "image_1")),
    )
    files = ("eqben_subset_10percent_final.json", "*.json", "*.jsonl")

    def puzzle(self, key: str, row: Any, where: str) -> Puzzle:
        """The puzzle of a row; captions may be lists, of which the first counts."""
        found = super().puzzle(key, row, where)
        folder = found.images[0].split("/")[0] if "/" in found.images[0] else ""
        return Puzzle(found.id, found.texts, found.images, folder)
