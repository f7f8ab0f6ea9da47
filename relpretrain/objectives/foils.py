"""Losses of true texts against their foils, as equations of scores."""

from __future__ import annotations

import torch
from torch import Tensor

from relpretrain.objectives.contrastive import contrastive_losses
from relpretrain.objectives.negatives import same_pair


def foil_rows(own: Tensor, foils: Tensor, of: Tensor, slot: Tensor, width: int) -> Tensor:
    """Scores of each true text, and beside it those of its foils.

    Args:
        own: Scores of n true texts, (n,).
        foils: Scores of m foils, (m,).
        of: Row of the true text of each foil, (m,), int64.
        slot: Which of its text's foils each is, from 0, (m,), int64.
        width: The most foils that a text may have.

    Returns:
        (n, 1 + width) in fp32, -inf where there is no foil: what is absent takes no part in a softmax.
    """
    rows = own.new_full((len(own), 1 + width), float("-inf"), dtype=torch.float32)
    rows = rows.index_put((torch.arange(len(own), device=own.device), torch.zeros_like(own).long()), own.float())
    return rows.index_put((of, slot + 1), foils.float())


def cross_entropy(rows: Tensor) -> Tensor:
    """Cross-entropy of the true text among itself and its foils (TSVLC, FSC-CLIP's hard-negative loss).

    Args:
        rows: Logits of `foil_rows`, (n, 1 + width).

    Returns:
        (n,) losses; 0 for a row without foils.
    """
    return -rows.log_softmax(dim=1)[:, 0]


def focal(rows: Tensor, gamma: float = 2.0, smoothing: float = 0.02) -> Tensor:
    """Focal loss with smoothed labels (FSC-CLIP, arXiv 2410.05210): sum_k (1 - p_k)^gamma * (-y_k log p_k).

    y is (1 - smoothing) on the true text plus smoothing shared by the texts that are there. As in the paper's equation
    the factor (1 - p)^gamma is differentiated too. What is absent has no share, unlike in the official code, where it
    takes part in the softmax as a logit of 0.

    Args:
        rows: Logits of `foil_rows`, (n, 1 + width).
        gamma: Exponent; 0 with `smoothing` 0 is the cross-entropy.
        smoothing: Share of the target that all texts divide among themselves.

    Returns:
        (n,) losses; 0 for a row without foils.
    """
    there = rows > float("-inf")
    log_probability = rows.log_softmax(dim=1).masked_fill(~there, 0.0)
    probability = log_probability.exp()
    target = smoothing * there / there.sum(dim=1, keepdim=True)
    target[:, 0] += 1 - smoothing
    # Where it is 0, as of a text without foils, a root of it has no slope.
    rest = (1 - probability).clamp(min=torch.finfo(torch.float32).eps)
    losses = (rest.pow(gamma) * -target * log_probability).masked_fill(~there, 0.0).sum(dim=1)
    return losses.masked_fill(there.sum(dim=1) == 1, 0.0)


def adaptive_rank(own: Tensor, foils: Tensor, thresholds: Tensor) -> Tensor:
    """Hinge of each foil with a margin of its kind (CE-CLIP): relu(threshold + foil - own).

    Args:
        own: Logits of each foil's true text, (m,).
        foils: Logits of the foils, (m,).
        thresholds: Margin of each foil, (m,); see `next_thresholds`.

    Returns:
        (m,) losses in fp32.
    """
    return (thresholds + foils.float() - own.float()).relu()


def next_thresholds(
    thresholds: Tensor, own_sums: Tensor, foil_sums: Tensor, counts: Tensor, largest: float = 10.0
) -> Tensor:
    """Margins after a batch (CE-CLIP): the mean gap between true texts and foils of each kind.

    Args:
        thresholds: Those before, one for each kind, (kinds,).
        own_sums: Sum over the batch's foils of each kind of their true texts' logits, (kinds,).
        foil_sums: Sum of the foils' logits, (kinds,).
        counts: Number of foils of each kind, (kinds,); of which there is none, the margin stays.
        largest: The largest margin.
    """
    gap = (own_sums - foil_sums) / counts.clamp(min=1)
    return torch.where(counts > 0, gap.clamp(0.0, largest), thresholds)


def pair_losses(own: Tensor, foils: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of matching for true pairs and for foils, apart (SGVL's negatives).

    Args:
        own: Match logits of the true pairs, (n, 2); class 1 is "match".
        foils: Match logits of the foils with their images, (m, 2).

    Returns:
        (n,) and (m,) losses in fp32.
    """
    return -own.float().log_softmax(dim=1)[:, 1], -foils.float().log_softmax(dim=1)[:, 0]


def column_losses(
    image: Tensor,
    text: Tensor,
    keys: tuple[Tensor, Tensor, Tensor],
    identities: tuple[Tensor, Tensor, Tensor],
    foil_identities: tuple[Tensor, Tensor],
    positive: Tensor,
    temperature: Tensor,
) -> tuple[Tensor, Tensor]:
    """Contrastive losses with all foils of the joint batch as further texts for every image (NegCLIP).

    Foils never look for images themselves. A foil of another image that is a true text of this one is left out.

    Args:
        image: Embeddings of this process's n images, (n, dim).
        text: Embeddings of their texts, (n, dim).
        keys: Embeddings of the joint batch's N images and texts, (N, dim), and M foils, (M, dim).
        identities: Identity of the image of each of the n pairs, (n,); of the N keys' images and of their texts, (N,).
        foil_identities: Identity of the text of each of the n pairs, (n,), and of the M foils, (M,).
        positive: Which of the N is each of the n pairs, (n,).
        temperature: Divisor of the cosines.

    Returns:
        (n,) losses from image to texts and (n,) from text to images, in fp32.
    """
    key_image, key_text, key_foil = keys
    image_ids, key_image_ids, key_text_keys = identities
    text_keys, foil_keys = foil_identities
    # Other texts of the same image, and the same text of other images, are no negatives, (n, N).
    excluded = same_pair(image_ids, text_keys, key_image_ids, key_text_keys)
    excluded = excluded.scatter(1, positive[:, None], False)
    # Nor is a foil that some pair of the batch says of the same image, (n, M).
    own = image_ids[:, None] == key_image_ids  # (n, N)
    said = (key_text_keys[:, None] == foil_keys).float()  # (N, M)
    untrue = (own.float() @ said > 0) | (text_keys[:, None] == foil_keys)
    to_texts = torch.cat([image @ key_text.T, image @ key_foil.T], dim=1) / temperature  # (n, N + M)
    to_images = text @ key_image.T / temperature  # (n, N)
    from_image = contrastive_losses(to_texts, positive, torch.cat([excluded, untrue], dim=1))
    return from_image, contrastive_losses(to_images, positive, excluded)
