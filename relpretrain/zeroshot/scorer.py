"""Scores image-text pairs with a backbone's matching head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from relpretrain.types import Backbone

_MAX_WORDS = 40  # of a cleaned text: `max_tokens` of the published protocol, which counts words

ImageTokens = tuple[Tensor, Tensor]
"""Tokens (1 + patches, dim) and mask (1 + patches,) of one image."""


def match_probability(logits: Tensor) -> Tensor:
    """Probability that pairs match, (n,), of logits (n, 2); float64, where far fewer pairs saturate into ties."""
    return torch.softmax(logits.double(), dim=-1)[:, 1]


class MatchScorer:
    """Says how well texts match images, by image-text matching logits. Satisfies `types.PairScorer`.

    Args:
        backbone: The model; it is put into evaluation mode and moved to `device`.
        preprocess: Turns PIL images into a tensor and texts into a TextBatch (`data.preprocess.Preprocess`).
        device: Where to compute.
        batch_size: Images encoded at once; texts scored at once are twice as many.
        clean: Whether texts are cleaned as ALBEF and X-VLM clean captions (lower case, most punctuation removed), as
            the published zero-shot results of these models have it.
        objectives: The objectives that the model was trained with, for probes that need their heads.
    """

    def __init__(
        self,
        backbone: Backbone,
        preprocess: Any,
        device: torch.device | str = "cpu",
        batch_size: int = 32,
        clean: bool = False,
        objectives: Mapping[str, Any] | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"The batch size must be at least 1, not {batch_size}.")
        self.backbone = backbone
        self.preprocess = preprocess
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.clean = clean
        self.objectives = dict(objectives or {})
        for module in (backbone, *self.objectives.values()):
            if isinstance(module, nn.Module):
                module.eval().to(self.device)

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Any]) -> list[ImageTokens]:
        """Encode PIL images, each once."""
        encoded: list[ImageTokens] = []
        for start in range(0, len(images), self.batch_size):
            pixels = self.preprocess.images(list(images[start : start + self.batch_size])).to(self.device)
            features = self.backbone.encode_image(pixels)
            encoded += zip(features.tokens, features.mask, strict=True)
        return encoded

    @torch.inference_mode()
    def score(self, image_features: Sequence[ImageTokens], index: Sequence[int], texts: Sequence[str]) -> Tensor:
        """Match logits (n, 2), float32 on the CPU, of each text with image `index[i]`; index 1 means match.

        Texts are scored in order of their length, so that little of a batch is padding.
        """
        if len(index) != len(texts):
            raise ValueError(f"Each text needs the index of its image: got {len(texts)} texts, {len(index)} indices.")
        texts = [self._clean(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        logits = torch.zeros(len(texts), 2)
        for start in range(0, len(order), 2 * self.batch_size):
            rows = order[start : start + 2 * self.batch_size]
            text = self.preprocess.texts([texts[i] for i in rows]).to(self.device)
            tokens = torch.stack([image_features[index[i]][0] for i in rows])
            mask = torch.stack([image_features[index[i]][1] for i in rows])
            words = self.backbone.encode_text(text.ids, text.mask)
            fused = self.backbone.fuse(words, text.mask, tokens, mask)
            logits[rows] = self.backbone.match_logits(fused).float().cpu()
        return logits

    def _clean(self, text: str) -> str:
        if not self.clean:
            return text
        from relpretrain.data.text import clean_caption

        return str(clean_caption(text, max_words=_MAX_WORDS))


class ConstantScorer:
    """Gives every pair the same logits: what a benchmark pays for no knowledge at all."""

    def __init__(self, logits: tuple[float, float] = (0.0, 0.0)) -> None:
        self.logits = logits

    def encode_images(self, images: Sequence[Any]) -> list[None]:
        """Nothing is encoded."""
        return [None] * len(images)

    def score(self, image_features: Any, index: Sequence[int], texts: Sequence[str]) -> Tensor:
        """The constant logits, (n, 2)."""
        return torch.tensor([self.logits] * len(texts)).reshape(-1, 2)
