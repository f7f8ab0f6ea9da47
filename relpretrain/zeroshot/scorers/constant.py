"""What a benchmark pays for no knowledge at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from relpretrain.zeroshot.scorers.base import check_pairs


class ConstantScorer:
    """Gives every pair the same logits.

    Whoever scores well with it has found a hole in a protocol: with strict comparisons it gets 0 where a right answer
    must win, and the share of true items where a threshold of 0.5 decides.
    """

    calibrated = True
    fuses = True

    def __init__(self, logits: tuple[float, float] = (0.0, 0.0)) -> None:
        self.logits = logits

    def encode_images(self, images: Sequence[Any]) -> list[None]:
        """Nothing is encoded."""
        return [None] * len(images)

    def score(self, image_features: Any, index: Sequence[int], texts: Sequence[str]) -> Tensor:
        """The constant logits, (n, 2)."""
        check_pairs(index, texts)
        return torch.tensor([self.logits] * len(texts)).reshape(-1, 2)

    def embed_images(self, image_features: Any) -> Tensor:
        """The same unit vector for each image, (images, 1)."""
        return torch.ones(len(image_features), 1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """The same unit vector for each text, (texts, 1)."""
        return torch.ones(len(texts), 1)

    def similarities(self, image_features: Any, texts: Sequence[str]) -> Tensor:
        """Ones, (images, texts)."""
        return torch.ones(len(image_features), len(texts))
