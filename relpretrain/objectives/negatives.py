"""Which pairs may serve as negatives of each other, and the draw of hard ones."""

from __future__ import annotations

import torch
from torch import Tensor


def same_pair(image_ids: Tensor, text_keys: Tensor, other_image_ids: Tensor, other_text_keys: Tensor) -> Tensor:
    """True where two pairs share their image or their text, and so are never negatives of each other.

    Args:
        image_ids: Identity of the image of each of n pairs, (n,).
        text_keys: Identity of the text, (n,).
        other_image_ids: The same of m other pairs, (m,).
        other_text_keys: (m,).

    Returns:
        (n, m), bool.
    """
    return (image_ids[:, None] == other_image_ids) | (text_keys[:, None] == other_text_keys)


def draw_hard_negatives(
    logits: Tensor, forbidden: Tensor, generator: torch.Generator | None = None, floor: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """Draw one column for each row with chances softmax(logits) + floor over the allowed columns.

    ALBEF, section 3.2 ("hard negatives"), and the official X-VLM code, which adds the floor. Vectorised: one uniform
    number a row, inverted through the cumulative chances, so that a row can never fail for lack of mass.

    Args:
        logits: Similarity of each row to each column, (n, m).
        forbidden: True where a column must not be drawn, (n, m).
        generator: CPU generator of the uniform numbers.
        floor: Added to each chance.

    Returns:
        The drawn columns (n,), int64, and whether the row had any allowed column (n,), bool; where it had none the
        column is meaningless.
    """
    found = ~forbidden.all(dim=1)
    chances = logits.detach().double().masked_fill(forbidden, float("-inf"))
    chances = torch.where(found[:, None], chances, chances.new_zeros(())).softmax(dim=1) + floor
    cumulative = chances.masked_fill(forbidden, 0.0).cumsum(dim=1)
    uniform = torch.rand(len(logits), generator=generator, dtype=torch.float64).to(logits.device)
    target = uniform * cumulative[:, -1]
    drawn = torch.searchsorted(cumulative, target[:, None], right=True).squeeze(1)
    return drawn.clamp(max=logits.shape[1] - 1), found
