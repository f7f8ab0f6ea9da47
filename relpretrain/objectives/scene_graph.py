"""Verbalised scene graphs (VSG)."""

from __future__ import annotations

from typing import ClassVar

from relpretrain.config_record import recorded
from relpretrain.objectives.base import ViewSum, lacking, title
from relpretrain.objectives.contrastive import ITC
from relpretrain.objectives.language import MLM
from relpretrain.objectives.matching import ITM
from relpretrain.types import Backbone, Batch, GraphBatch


class VSG(ViewSum):
    """ITC + ITM + MLM between an image and its verbalised scene graph (arXiv 2305.14281, section 3.1).

    The text "[CLS] s1 r1 o1 [SEP] s2 r2 o2 [SEP] ..." is treated exactly like a caption; there are no new parameters.
    On a backbone that provides only some of the parts these losses need (`provides`), VSG is the sum of the losses that
    can be computed, which `served` lists.

    Args:
        max_relations: Maximum number of triplets in a text, K; the data pipeline's default.
        itc: Weight of the contrastive loss.
        itm: Weight of the matching loss.
        mlm: Weight of the masked language modelling loss.
        weight: Factor of their sum.

    Raises:
        ValueError: If `max_relations` is below 1.
    """

    consumes: ClassVar[tuple[type[Batch], ...]] = (GraphBatch,)
    weighs = True

    @recorded
    def __init__(
        self, max_relations: int = 8, itc: float = 1.0, itm: float = 1.0, mlm: float = 1.0, weight: float = 1.0
    ) -> None:
        if max_relations < 1:
            raise ValueError(f"max_relations must be at least 1, got {max_relations}.")
        super().__init__({"itc": ITC(itc), "itm": ITM(itm), "mlm": MLM(mlm)}, weight)
        self.max_relations = max_relations

    def attach(self, backbone: Backbone) -> None:
        """Attach the losses that can be computed on the backbone.

        Raises:
            ValueError: If none can be, or if a backbone that does not declare what it `provides` lacks a method.
        """
        if getattr(backbone, "provides", None) is not None:
            self.served = tuple(name for name in self.terms if not lacking(backbone, self.term(name).needs))
            if not self.served:
                raise ValueError(f"VSG cannot be computed on {title(backbone)}: it has no contrast, matching or words")
        super().attach(backbone)
