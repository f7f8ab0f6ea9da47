"""Bounding-box prediction (BOX)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou_loss

from relpretrain.config_record import recorded
from relpretrain.distributed import mean_over_ranks
from relpretrain.features import Features
from relpretrain.objectives.base import Objective
from relpretrain.types import Batch, BoxBackbone, ObjectiveOutput, RegionBatch


def box_losses(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """L1 distance and 1 - generalised IoU of boxes (X-VLM, section 3.2).

    Args:
        predicted: (cx, cy, w, h) as shares of the image, (n, 4).
        target: (n, 4), likewise.

    Returns:
        Two (n,) losses in fp32: the L1 distance summed over coordinates, and 1 - GIoU.
    """
    predicted, target = predicted.float(), target.float()
    l1 = (predicted - target).abs().sum(dim=1)
    corners = [box_convert(boxes, "cxcywh", "xyxy") for boxes in (predicted, target)]
    giou: Tensor = generalized_box_iou_loss(*corners)
    return l1, giou


class BOX(Objective):
    """Predict a region's box from its text and the whole image: L1 + GIoU (X-VLM, section 3.2).

    Rows that stand for their whole image (`Pairs.whole`) are left out.

    Args:
        weight: Factor of the loss.
    """

    consumes: ClassVar[tuple[type[Batch], ...]] = (RegionBatch,)
    needs = ("boxes",)

    @recorded
    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)

    def forward(self, features: Features) -> ObjectiveOutput:
        """Compute the loss on a region batch."""
        pairs, backbone = features.batch.pairs, features.backbone
        assert isinstance(backbone, BoxBackbone)
        if pairs.boxes is None:
            raise ValueError("BOX needs a batch whose pairs have boxes (a stream of kind 'regions').")
        view = features.view(pairs)
        fused = backbone.fuse(view.text, pairs.text.mask, *view.whole_image)
        l1, giou = box_losses(backbone.boxes(fused), pairs.boxes)
        counted = torch.ones_like(l1) if pairs.whole is None else (~pairs.whole).float()
        count = counted.sum()
        parts = {
            "l1": mean_over_ranks((l1 * counted).sum(), count),
            "giou": mean_over_ranks((giou * counted).sum(), count),
        }
        return self.output(parts, int(count))
