"""Bounding-box prediction (BOX)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor
from torchvision.ops import box_convert

from relpretrain.config_record import recorded
from relpretrain.distributed import mean_over_ranks
from relpretrain.features import Features, full_precision
from relpretrain.objectives.base import Objective
from relpretrain.types import Batch, BoxBackbone, ObjectiveOutput, Pairs, RegionBatch

EPSILON = 1e-7
"""Keeps empty boxes from dividing by 0, as in torchvision."""


def box_losses(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """L1 and generalised IoU losses of boxes (X-VLM, section 3.2).

    Args:
        predicted: Boxes (cx, cy, w, h) as fractions of the image's size, (n, 4).
        target: The annotated boxes in the same form, (n, 4).

    Returns:
        Two (n,) losses in fp32: the L1 distance summed over coordinates, and 1 - GIoU.
    """
    predicted, target = predicted.float(), target.float()
    # L1 of centre and size, summed over the coordinates, (n,).
    l1 = (predicted - target).abs().sum(dim=1)
    # Generalised IoU of the corners (x_min, y_min, x_max, y_max), (n,).
    corners = [box_convert(boxes, "cxcywh", "xyxy") for boxes in (predicted, target)]
    return l1, 1 - generalized_iou(*corners)


def generalized_iou(one: Tensor, other: Tensor) -> Tensor:
    """Generalised IoU of boxes (x_min, y_min, x_max, y_max), (n, 4) each: (n,) (Rezatofighi et al., arXiv 1902.09630).

    Unlike torchvision's, it has no indexing by a mask, for which the host would wait for the device.
    """
    # Of the overlap, the union and the hull, (n,) each.
    overlap = _area(torch.maximum(one[:, :2], other[:, :2]), torch.minimum(one[:, 2:], other[:, 2:]))
    hull = _area(torch.minimum(one[:, :2], other[:, :2]), torch.maximum(one[:, 2:], other[:, 2:]))
    union = _area(one[:, :2], one[:, 2:]) + _area(other[:, :2], other[:, 2:]) - overlap
    return overlap / (union + EPSILON) - (hull - union) / (hull + EPSILON)


def _area(low: Tensor, high: Tensor) -> Tensor:
    """Area between corners (n, 2), 0 where they do not enclose any."""
    width, height = (high - low).clamp(min=0).unbind(1)
    return width * height


def predicted_boxes(backbone: BoxBackbone, fused: Tensor) -> Tensor:
    """Predict boxes (n, 4) from fused tokens (n, length, fusion_dim); the box head runs in fp32 under autocast."""
    if torch.is_autocast_enabled(fused.device.type):
        with full_precision(fused):
            return backbone.boxes(fused.float())
    return backbone.boxes(fused)


class BOX(Objective):
    """Predict a region's box from its text and the whole image: L1 + GIoU (X-VLM, section 3.2).

    Rows that stand for their whole image (`Pairs.whole`) are left out. Boxes and losses are computed in fp32 whatever
    the precision around them: bf16's eight significant bits are too few for a box that is 0.06 wide.

    Args:
        weight: Factor of the loss.
    """

    consumes: ClassVar[tuple[type[Batch], ...]] = (RegionBatch,)
    needs = ("boxes",)

    @recorded
    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)

    def views(self, batch: Batch) -> list[Pairs]:
        """The texts with their whole images, of which the boxes are predicted."""
        return [replace(batch.pairs, boxes=None)]

    def forward(self, features: Features) -> ObjectiveOutput:
        """Compute the loss on a region batch; without a region it is a zero of count 0."""
        pairs, backbone = features.batch.pairs, features.backbone
        assert isinstance(backbone, BoxBackbone)
        if pairs.boxes is None:
            raise ValueError("BOX needs a batch whose pairs have boxes (a stream of kind 'regions').")
        count: int | Tensor = len(pairs)
        if len(pairs) == 0:
            l1 = giou = features.zero[None]
        else:
            # Fuse each text with its whole image: [CLS], (n, 1, fusion_dim). Predict its box, (n, 4).
            fused = features.view(pairs).fused_first(whole=True)
            predicted, target = predicted_boxes(backbone, fused), pairs.boxes
            l1, giou = box_losses(predicted, target)
            if pairs.whole is not None:  # rows of whole images have no box to be found
                l1, giou = (losses.masked_fill(pairs.whole, 0.0) for losses in (l1, giou))
                count = (~pairs.whole).sum()  # stays on the device
        return self.output({"l1": mean_over_ranks(l1.sum(), count), "giou": mean_over_ranks(giou.sum(), count)}, count)
