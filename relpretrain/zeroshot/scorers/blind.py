"""Text-only scorers: how far a benchmark can be solved without its images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from relpretrain.data.pipeline.images import IMAGE_MEAN
from relpretrain.zeroshot.scorers.base import CosineScorer, EmbeddingScorer, check_pairs
from relpretrain.zeroshot.scorers.loading import from_hub, hub_name


class TextScorer(CosineScorer):
    """Scores a text the same whatever the image; a base class.

    `embed_texts` is the score as a vector of one number, which stands for the cosine in retrieval: all images tie.
    """

    @abstractmethod
    def rate(self, texts: Sequence[str]) -> Tensor:
        """Scores (texts,)."""

    def encode_images(self, images: Sequence[Any]) -> Tensor:
        """Nothing is looked at: ones, (images, 1)."""
        return torch.ones(len(images), 1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """The scores, (texts, 1)."""
        return self.rate(texts)[:, None]

    def score(self, image_features: Any, index: Sequence[int], texts: Sequence[str]) -> Tensor:
        """Logits (n, 2): 0, and the score of the text."""
        check_pairs(index, texts)
        distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        if not distinct:
            return torch.zeros(0, 2)
        scores = self.rate(list(distinct)).float().cpu()[[distinct[text] for text in texts]]
        return torch.stack([torch.zeros_like(scores), scores], dim=-1)


class LengthScorer(TextScorer):
    """Prefers the shorter text: shows whether right and wrong texts differ in length. Needs no model."""

    def rate(self, texts: Sequence[str]) -> Tensor:
        """Minus the number of characters, (texts,)."""
        return torch.tensor([-float(len(text)) for text in texts])


class LanguageModelScorer(TextScorer):
    """Prefers the likelier text, by the mean log-likelihood of its tokens under a causal language model.

    Shows whether wrong texts give themselves away by being odd, as in "The giraffe is eating the airplane". Benchmarks
    that this scorer solves measure a text model as much as vision (Lin et al., 2023, arXiv 2306.01879).

    Args:
        name: Folder or hub name of a causal language model.
        device: Where to compute.
        batch_size: Texts scored at once.
    """

    def __init__(self, name: str, device: torch.device | str = "cpu", batch_size: int = 32) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        super().__init__()
        self.tokenizer = from_hub(AutoTokenizer, name, "tokenizer")
        self.model = from_hub(AutoModelForCausalLM, name, "language model").eval().to(device)
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.name = hub_name(name, self.model)
        first = [self.tokenizer.bos_token_id, self.tokenizer.eos_token_id]
        self._start = next((token for token in first if token is not None), None)

    @torch.inference_mode()
    def rate(self, texts: Sequence[str]) -> Tensor:
        """Mean log-likelihood per token, (texts,).

        The first token is predicted from the begin token, or else the end token; models without either leave it out.

        Raises:
            ValueError: If a text has no token that could be predicted.
        """
        start = [] if self._start is None else [self._start]
        encoded = [start + self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        for text, ids in zip(texts, encoded, strict=True):
            if len(ids) < 2:
                raise ValueError(f"The text {text!r} has too few tokens for {self.name} to predict any.")
        scores = torch.zeros(len(texts))
        order = sorted(range(len(texts)), key=lambda i: len(encoded[i]))
        for begin in range(0, len(order), self.batch_size):
            rows = order[begin : begin + self.batch_size]
            longest = len(encoded[rows[-1]])
            ids = torch.tensor([encoded[row] + [0] * (longest - len(encoded[row])) for row in rows])
            mask = torch.arange(longest) < torch.tensor([[len(encoded[row])] for row in rows])
            ids, mask = ids.to(self.device), mask.to(self.device)
            logits = self.model(input_ids=ids, attention_mask=mask.long()).logits[:, :-1].float()
            words = logits.log_softmax(dim=-1).gather(-1, ids[:, 1:, None])[..., 0]
            visible = mask[:, 1:]
            scores[rows] = ((words * visible).sum(dim=1) / visible.sum(dim=1)).cpu()
        return scores


class BlankImageScorer:
    """Asks a scorer about one grey image instead of every image: what that model knows without looking.

    Args:
        scorer: The scorer that is asked.
        size: Side of the grey image in pixels.
    """

    def __init__(self, scorer: EmbeddingScorer, size: int = 224) -> None:
        self.scorer = scorer
        self.image = Image.new("RGB", (size, size), tuple(round(255 * share) for share in IMAGE_MEAN))
        self.calibrated = bool(getattr(scorer, "calibrated", True))
        self.fuses = bool(getattr(scorer, "fuses", False))

    def encode_images(self, images: Sequence[Any]) -> tuple[Any, int]:
        """The encoded grey image, and how many images it stands for."""
        return self.scorer.encode_images([self.image]), len(images)

    def score(self, image_features: tuple[Any, int], index: Sequence[int], texts: Sequence[str]) -> Tensor:
        """Logits (n, 2) of the texts with the grey image."""
        return self.scorer.score(image_features[0], [0] * len(index), texts)

    def embed_images(self, image_features: tuple[Any, int]) -> Tensor:
        """The vector of the grey image, (images, dim)."""
        vector = self.scorer.embed_images(image_features[0])
        return vector.expand(image_features[1], vector.shape[1])

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (texts, dim)."""
        return self.scorer.embed_texts(texts)

    def notes(self) -> tuple[str, ...]:
        """That no image was seen, and what the scorer itself has to say."""
        return ("every image was replaced by a grey one", *getattr(self.scorer, "notes", tuple)())

    def similarities(self, image_features: tuple[Any, int], texts: Sequence[str]) -> Tensor:
        """Cosines of the grey image with the texts, (images, texts)."""
        cosines = self.scorer.similarities(image_features[0], texts)
        return cosines.expand(image_features[1], cosines.shape[1])
