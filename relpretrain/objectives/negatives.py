"""Which pairs may be negatives of each other, and sampling of hard negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from relpretrain.types import send


def same_pair(image_ids: Tensor, text_keys: Tensor, other_image_ids: Tensor, other_text_keys: Tensor) -> Tensor:
    """Find the pairs that share their image or their text, and so are never negatives of each other.

    Args:
        image_ids: Identity of the image of each of n pairs, (n,).
        text_keys: Identity of the text of each, (n,).
        other_image_ids: Identity of the image of each of m other pairs, (m,).
        other_text_keys: Identity of the text of each, (m,).

    Returns:
        (n, m), bool, True where row and column share one.
    """
    return (image_ids[:, None] == other_image_ids) | (text_keys[:, None] == other_text_keys)


def draw_hard_negatives(
    logits: Tensor, forbidden: Tensor, generator: torch.Generator | None = None, floor: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """Sample a hard negative for each row, with probability proportional to softmax(logits) + floor.

    ALBEF, section 3.2 ("hard negatives"). The softmax is over the columns that may be drawn. The official X-VLM code
    adds the same floor to a softmax over all columns: once the true pair has nearly all of that, the floor outweighs
    what is left, and negatives are drawn almost evenly; here they are drawn by similarity still. Sampled by inverting
    the cumulative distribution, so that small probabilities never raise an error, as they do in `torch.multinomial`.

    Args:
        logits: Similarity of each row to each column, (n, m).
        forbidden: True at columns that must not be drawn, (n, m), bool.
        generator: CPU generator of the uniform numbers.
        floor: Added to each probability, unnormalised.

    Returns:
        The sampled columns (n,), int64, and whether the row had any allowed column (n,), bool; without one the sampled
        column is meaningless.
    """
    # Unnormalised probabilities over the allowed columns, (n, m).
    found = ~forbidden.all(dim=1)
    scores = logits.detach().double().masked_fill(forbidden, float("-inf"))
    weights = torch.where(found[:, None], scores, scores.new_zeros(())).softmax(dim=1) + floor
    cumulative = weights.masked_fill(forbidden, 0.0).cumsum(dim=1)
    # Inverse of the cumulative distribution at a uniform number for each row, (n,).
    uniform = send(torch.rand(len(logits), generator=generator, dtype=torch.float64), logits.device)
    target = uniform * cumulative[:, -1]
    drawn = torch.searchsorted(cumulative, target[:, None], right=True).squeeze(1)
    return drawn.clamp(max=logits.shape[1] - 1), found
