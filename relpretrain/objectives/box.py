"""Bounding-box prediction (BOX)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou_loss

from relpretrain.config_record import recorded
from relpretrain.distributed import mean_over_ranks
from relpretrain.features import Features, full_precision
from relpretrain.objectives.base import Objective
from relpretrain.types import Batch, BoxBackbone, ObjectiveOutput, RegionBatch


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
    giou: Tensor = generalized_box_iou_loss(*corners)
    return l1, giou


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

    def forward(self, features: Features) -> ObjectiveOutput:
        """Compute the loss on a region batch; without a region it is a zero of count 0, and nothing is fused."""
        pairs, backbone = features.batch.pairs, features.backbone
        assert isinstance(backbone, BoxBackbone)
        if pairs.boxes is None:
            raise ValueError("BOX needs a batch whose pairs have boxes (a stream of kind 'regions').")
        count = len(pairs) if pairs.whole is None else int((~pairs.whole).sum())
        if count == 0:
            l1 = giou = features.zero[None]
        else:
            # Fuse each text with its whole image, (n, length, fusion_dim), and predict its box, (n, 4).
            view = features.view(pairs)
            fused = backbone.fuse(view.text, pairs.text.attention_mask, *view.whole_image)
            predicted, target = predicted_boxes(backbone, fused), pairs.boxes
            if pairs.whole is not None:  # rows of whole images have no box to be found
                predicted, target = predicted[~pairs.whole], target[~pairs.whole]
            l1, giou = box_losses(predicted, target)
        return self.output({"l1": mean_over_ranks(l1.sum(), count), "giou": mean_over_ranks(giou.sum(), count)}, count)
