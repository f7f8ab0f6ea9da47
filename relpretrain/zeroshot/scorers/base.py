"""What scorers share: match probabilities, and scorers whose images and texts meet as unit vectors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence, Set
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from relpretrain.errors import counted
from relpretrain.types import PairScorer


@runtime_checkable
class EmbeddingScorer(PairScorer, Protocol):
    """A scorer that can also rank a whole collection, because images and texts have embeddings of their own."""

    fuses: bool
    """Whether `score` looks at image and text together, so that it can re-rank what the embeddings found."""

    def embed_images(self, image_features: Any) -> Tensor:
        """Unit vectors (images, dim) of encoded images."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (texts, dim)."""
        ...

    def similarities(self, image_features: Any, texts: Sequence[str]) -> Tensor:
        """Cosines (images, texts) of encoded images and texts."""
        ...


class CosineScorer:
    """Scores pairs by the cosine of their embeddings; a base class.

    Such scores rank texts of one image, or images of one text. They are no probabilities: `calibrated` is False, and a
    threshold of 0.5 means nothing.
    """

    calibrated = False
    fuses = False
    temperature = 1.0
    max_tokens: int | None = None
    """Limit of a text's length."""

    def __init__(self) -> None:
        self._at_limit: set[str] = set()

    @property
    def texts_at_limit(self) -> Set[str]:
        """The texts since the last call of `notes` that take as many tokens as there may be."""
        return self._at_limit

    def learn_limits(self, texts: Set[str]) -> None:
        """Take over the texts that reached the limit in another process."""
        self._at_limit |= texts

    def forget_limits(self, texts: Set[str]) -> None:
        """Leave texts out of the next notes."""
        self._at_limit -= texts

    def note_lengths(self, texts: Sequence[str], lengths: Sequence[int]) -> None:
        """Remember which texts take as many tokens as there may be."""
        self._at_limit.update(t for t, length in zip(texts, lengths, strict=True) if length == self.max_tokens)

    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures must know of the texts scored since the last call."""
        number = len(self._at_limit)
        self._at_limit.clear()
        if self.max_tokens is None:
            return ()
        which = (
            f"{counted(number, 'different text')} {'reach' if number > 1 else 'reaches'}" if number else "none reaches"
        )
        return (f"texts are cut to {self.max_tokens} tokens; {which} that",)

    def embed_images(self, image_features: Any) -> Tensor:
        """Unit vectors (images, dim): the features themselves, unless a class keeps more of an image."""
        vectors: Tensor = image_features
        return vectors

    @abstractmethod
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (texts, dim)."""

    def similarities(self, image_features: Any, texts: Sequence[str]) -> Tensor:
        """Cosines (images, texts), float32 on the CPU."""
        return (self.embed_images(image_features).float() @ self.embed_texts(texts).float().T).cpu()

    @torch.inference_mode()
    def score(self, image_features: Any, index: Sequence[int], texts: Sequence[str]) -> Tensor:
        """Logits (n, 2) of each text with image `index[i]`, see `cosine_logits`."""
        check_pairs(index, texts)
        if not texts:
            return torch.zeros(0, 2)
        distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        vectors = self.embed_texts(list(distinct))[[distinct[text] for text in texts]].float()
        cosines = (self.embed_images(image_features)[list(index)].float() * vectors).sum(-1)
        return cosine_logits(cosines.cpu(), self.temperature)


def match_probability(logits: Tensor) -> Tensor:
    """Probability that pairs match, (n,), of logits (n, 2); float64, where far fewer pairs saturate into ties."""
    return torch.softmax(logits.double(), dim=-1)[:, 1]


def cosine_logits(cosines: Tensor, temperature: float) -> Tensor:
    """Logits (n, 2) = (0, cosine / temperature) of cosines (n,).

    Their softmax is no match probability, and saturates: CLIP's pairs (temperature 0.01, cosines of 0.3) have logits of
    30. Compare the logits themselves.
    """
    logits = cosines.float() / temperature
    return torch.stack([torch.zeros_like(logits), logits], dim=-1)


def check_pairs(index: Sequence[int], texts: Sequence[str]) -> None:
    """Refuse pairs whose texts and images do not come in equal number.

    Raises:
        ValueError: Naming both numbers.
    """
    if len(index) != len(texts):
        raise ValueError(f"Each text needs the index of its image: got {len(texts)} texts, {len(index)} indices.")
