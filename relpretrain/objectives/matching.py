"""Image-text matching (ITM) with hard negatives."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from relpretrain.config_record import recorded
from relpretrain.distributed import mean_over_ranks
from relpretrain.features import View
from relpretrain.objectives.base import Term, ViewObjective, nothing
from relpretrain.objectives.negatives import draw_hard_negatives, same_pair
from relpretrain.types import CachedFusion


def matching_losses(positive: Tensor, image_negative: Tensor, text_negative: Tensor) -> Tensor:
    """Binary cross-entropy of matched and mismatched pairs (ALBEF, equation 4); index 1 means match.

    Args:
        positive: Logits of the pairs, (n, 2).
        image_negative: Logits of each text with another image, (n, 2).
        text_negative: Logits of each image with another text, (n, 2).

    Returns:
        (3, n) losses in fp32, in this order.
    """
    logits = torch.stack([positive, image_negative, text_negative]).float()
    losses = -logits.log_softmax(dim=-1)
    return torch.stack([losses[0, :, 1], losses[1, :, 0], losses[2, :, 0]])


def match_with_negatives(view: View, other_image: Tensor, other_text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Match logits of a view's pairs, of each text with another image and of each image with another text.

    Args:
        view: n pairs.
        other_image: For each text, the pair whose image it is put to, (n,).
        other_text: For each image, the pair whose text it is put to, (n,).

    Returns:
        Three times (n, 2). With a backbone that has `CachedFusion`, images and texts do their own parts once for all.
    """
    backbone, (image, image_mask), text, text_mask = (
        view.backbone,
        view.image,
        view.text,
        view.pairs.text.attention_mask,
    )
    if isinstance(backbone, CachedFusion):
        begun, images = backbone.precompute_text(text, text_mask), view.begun_image
        others = tuple(part.index_select(0, other_image) for part in images)
        both = torch.stack([torch.arange(len(view), device=other_text.device), other_text], dim=1).flatten()
        own = backbone.match(begun[both], text_mask[both], images, image_mask).reshape(-1, 2, 2)  # (n, 2, 2)
        return own[:, 0], backbone.match(begun, text_mask, others, image_mask[other_image]), own[:, 1]
    negatives = backbone.fuse(
        torch.cat([text, text[other_text]]),
        torch.cat([text_mask, text_mask[other_text]]),
        torch.cat([image[other_image], image]),
        torch.cat([image_mask[other_image], image_mask]),
    )
    by_image, by_text = backbone.match_logits(negatives).chunk(2)
    return backbone.match_logits(view.fused), by_image, by_text


class ITM(ViewObjective):
    """Does the text match the image? Each pair, each text with a hard other image, each image with a hard other text.

    Hard negatives are drawn inside this process's batch by their contrastive similarity (ALBEF, section 3.2), never
    among pairs that share the image or the text; a pair without an allowed negative contributes its positive alone.

    Args:
        weight: Factor of the loss.
    """

    needs = ("contrast", "matching")

    @recorded
    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)

    def term(self, view: View) -> Term:
        """Compute the loss on n pairs; with n = 0 it is a zero of count 0."""
        if len(view) == 0:
            return nothing(view.features)
        forbidden = same_pair(view.image_ids, view.pairs.text_keys, view.image_ids, view.pairs.text_keys)
        to_text, to_image = view.similarities
        other_image, found_image = draw_hard_negatives(to_image, forbidden, view.features.generator)
        other_text, found_text = draw_hard_negatives(to_text, forbidden, view.features.generator)

        losses = matching_losses(*match_with_negatives(view, other_image, other_text))
        counted = torch.stack([torch.ones_like(found_image), found_image, found_text])
        number = counted.sum()
        loss = mean_over_ranks((losses * counted).sum(), number)
        right = (losses.detach() < math.log(2)) & counted  # a chance above 1/2 for the right answer
        return Term(loss, len(view), {"accuracy": right.sum() / number}, {"accuracy": number})
