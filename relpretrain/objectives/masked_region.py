"""Visually masked alignment (VMA)."""

from __future__ import annotations

from typing import ClassVar

from relpretrain.config_record import recorded
from relpretrain.objectives.base import ViewSum
from relpretrain.objectives.contrastive import ITC
from relpretrain.objectives.language import MLM
from relpretrain.objectives.matching import ITM
from relpretrain.types import Batch, RegionBatch


class VMA(ViewSum):
    """ITC + ITM + MLM between regions and their texts, with the rest of the image masked out (X-VLM, section 3.3).

    Different regions of an image are negatives of each other, as in X-VLM; pairs with equal texts are not. A caption
    with its whole image (`Pairs.whole`) is one of the pairs.

    Args:
        itc: Weight of the contrastive loss.
        itm: Weight of the matching loss.
        mlm: Weight of the masked language modelling loss.
        weight: Factor of their sum.
    """

    consumes: ClassVar[tuple[type[Batch], ...]] = (RegionBatch,)

    @recorded
    def __init__(self, itc: float = 1.0, itm: float = 1.0, mlm: float = 1.0, weight: float = 1.0) -> None:
        super().__init__({"itc": ITC(itc), "itm": ITM(itm), "mlm": MLM(mlm)}, weight)
