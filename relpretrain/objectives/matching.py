"""Image-text matching (ITM) with hard negatives."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from relpretrain.config_record import recorded
from relpretrain.distributed import weighted_mean
from relpretrain.features import View
from relpretrain.objectives.base import Term, ViewObjective, nothing
from relpretrain.objectives.negatives import draw_hard_negatives, same_pair
from relpretrain.types import CachedFusion


def matching_losses(positive: Tensor, image_negative: Tensor, text_negative: Tensor) -> Tensor:
    """Cross-entropy of matched and mismatched pairs (ALBEF, equation 4); class 1 is "match".

    Args:
        positive: Logits of the positive pairs, (n, 2).
        image_negative: Logits of each text with its negative image, (n, 2).
        text_negative: Logits of each image with its negative text, (n, 2).

    Returns:
        (3, n) losses in fp32, in this order.
    """
    logits = torch.stack([positive, image_negative, text_negative]).float()  # (3, n, 2)
    losses = -logits.log_softmax(dim=-1)
    return torch.stack([losses[0, :, 1], losses[1, :, 0], losses[2, :, 0]])


def match_with_negatives(view: View, other_image: Tensor, other_text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Match logits of the positive pairs, of each text with a negative image and of each image with a negative text.

    A backbone with `CachedFusion` computes what depends on images or texts alone only once.

    Args:
        view: n pairs.
        other_image: Index of the pair with the negative image of each text, (n,).
        other_text: Index of the pair with the negative text of each image, (n,).

    Returns:
        Logits (n, 2) of the positives, of the negative images and of the negative texts.
    """
    backbone, text, text_mask = view.backbone, view.text, view.pairs.text.attention_mask
    if isinstance(backbone, CachedFusion):
        cached, packing, (image_kv, image_mask) = view.match_text, view.packing, view.image_kv
        other_kv = tuple(part.index_select(0, other_image) for part in image_kv)
        by_image = backbone.match(cached, text_mask, other_kv, image_mask[other_image], *packing)
        # Negative texts are padded: nobody but the device knows how long they are.
        by_text = backbone.match(cached[other_text], text_mask[other_text], image_kv, image_mask)
        return view.matched, by_image, by_text
    # Both kinds of negatives in one pass of 2 n pairs.
    image, image_mask = view.image
    negatives = backbone.fuse(
        torch.cat([text, text[other_text]]),
        torch.cat([text_mask, text_mask[other_text]]),
        torch.cat([image[other_image], image]),
        torch.cat([image_mask[other_image], image_mask]),
    )
    by_image, by_text = backbone.match_logits(negatives).chunk(2)
    return view.matched, by_image, by_text


class ITM(ViewObjective):
    """Binary classification of whether a text matches an image, with a hard negative image and text for each pair.

    Hard negatives are sampled within this process's batch by their contrastive similarity (ALBEF, section 3.2), never
    from pairs that share the image or the text; a pair without an allowed negative contributes only its positive.

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
        # Sample hard negatives by similarity, (n,) indices each.
        forbidden = same_pair(view.image_ids, view.pairs.text_keys, view.image_ids, view.pairs.text_keys)
        to_text, to_image = view.similarities
        other_image, found_image = draw_hard_negatives(to_image, forbidden, view.features.generator)
        other_text, found_text = draw_hard_negatives(to_text, forbidden, view.features.generator)
        # Losses of positives, negative images and negative texts, (3, n), where there is such a pair.
        losses = matching_losses(*match_with_negatives(view, other_image, other_text))
        counted = torch.stack([torch.ones_like(found_image), found_image, found_text])
        number = counted.sum()
        weights = None if view.pairs.weights is None else counted * view.pairs.weights  # of a text, for its three
        loss = weighted_mean(losses * counted, weights, number)
        right = (losses.detach() < math.log(2)) & counted  # the right class has a probability above 1/2
        return Term(loss, len(view), {"accuracy": right.sum() / number}, {"accuracy": number})
