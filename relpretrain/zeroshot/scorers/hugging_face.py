"""Scores pairs with models of Hugging Face: dual encoders such as CLIP and SigLIP, and BLIP's matching head."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from relpretrain.types import PairScorer
from relpretrain.zeroshot.scorers.base import CosineScorer, check_pairs
from relpretrain.zeroshot.scorers.batches import rectangles
from relpretrain.zeroshot.scorers.loading import from_hub, hub_name
from relpretrain.zeroshot.scorers.matching import autocast, check_precision


def hugging_face_scorer(
    name: str,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
    max_tokens: int | None = None,
    precision: str = "fp32",
) -> PairScorer:
    """A scorer of a model on the hub or in a folder.

    Args:
        name: Folder or hub name: BLIP with a matching head, or a model with `get_image_features` and
            `get_text_features`, such as CLIP or SigLIP.
        device: Where to compute.
        batch_size: Images encoded at once.
        max_tokens: Limit of a text's length; None for the model's own.
        precision: "fp32", or "bf16" on CUDA.

    Raises:
        ValueError: If the model cannot be loaded, or is none of these.
    """
    from transformers import AutoConfig

    config = from_hub(AutoConfig, name, "model")
    if not (hasattr(config, "text_config") and hasattr(config, "vision_config")):
        raise ValueError(_unknown(name, config.model_type))
    cls = BlipScorer if config.model_type == "blip" else DualEncoderScorer
    return cls(name, device, batch_size, max_tokens, precision)


class _HuggingFaceScorer(CosineScorer):
    """What the two have in common: the model's own preparation of images and texts."""

    def __init__(
        self,
        name: str,
        device: torch.device | str = "cpu",
        batch_size: int = 32,
        max_tokens: int | None = None,
        precision: str = "fp32",
    ) -> None:
        from transformers import AutoProcessor

        super().__init__()
        self.device = torch.device(device)
        self.precision = check_precision(precision, self.device)
        self.batch_size = batch_size
        self.processor = from_hub(AutoProcessor, name, "processor")
        self.model: Any = from_hub(self._class(), name, "model").eval().to(self.device)
        self.name = hub_name(name, self.model)
        limits = [self.processor.tokenizer.model_max_length, self.model.config.text_config.max_position_embeddings]
        own = int(min(limits))
        # SigLIP was trained on texts padded to the full length, without a mask.
        self._padding = "max_length" if self.model.config.model_type.startswith("siglip") else "longest"
        if max_tokens is not None and (max_tokens > own or self._padding == "max_length"):
            exactly = "exactly" if self._padding == "max_length" else "at most"
            raise ValueError(f"{name} reads {exactly} {own} tokens; --max-tokens asks for {max_tokens}.")
        self.max_tokens: int = max_tokens or own

    @abstractmethod
    def _class(self) -> Any: ...

    def _pixels(self, images: Sequence[Any]) -> Iterator[Tensor]:
        for start in range(0, len(images), self.batch_size):
            few = list(images[start : start + self.batch_size])
            yield self.processor.image_processor(images=few, return_tensors="pt")["pixel_values"].to(self.device)

    def _texts(self, texts: Sequence[str]) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        """Numbers and tokens of texts, in batches of like lengths."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), 2 * self.batch_size):
            numbers = order[start : start + 2 * self.batch_size]
            tokens = self._tokens([texts[i] for i in numbers])
            yield numbers, tokens

    def _tokens(self, texts: list[str]) -> dict[str, Tensor]:
        tokens = self.processor.tokenizer(
            texts, padding=self._padding, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        visible = tokens.get("attention_mask", torch.zeros(len(texts), 0, dtype=torch.long))
        self.note_lengths(texts, visible.sum(dim=1).tolist())
        return {key: tokens[key].to(self.device) for key in ("input_ids", "attention_mask") if key in tokens}

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (texts, dim)."""
        order: list[int] = []
        parts = []
        for numbers, tokens in self._texts(texts):
            order += numbers
            with autocast(self.precision):
                vectors = self._text_vectors(tokens)
            parts.append(F.normalize(vectors.float(), dim=-1))
        return torch.cat(parts)[torch.tensor(order).argsort()] if parts else torch.zeros(0, 1)

    @abstractmethod
    def _text_vectors(self, tokens: dict[str, Tensor]) -> Tensor: ...


class DualEncoderScorer(_HuggingFaceScorer):
    """CLIP, SigLIP and other models whose images and texts meet as unit vectors only: cosine over temperature.

    Arguments as of `hugging_face_scorer`.
    """

    def __init__(self, name: str, *arguments: Any, **keywords: Any) -> None:
        super().__init__(name, *arguments, **keywords)
        if not (hasattr(self.model, "get_image_features") and hasattr(self.model, "get_text_features")):
            raise ValueError(_unknown(name, self.model.config.model_type))
        scale = getattr(self.model, "logit_scale", None)
        self.temperature = 1.0 if scale is None else float(scale.detach().exp()) ** -1

    def _class(self) -> Any:
        from transformers import AutoModel

        return AutoModel

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Any]) -> Tensor:
        """Unit vectors (images, dim)."""
        parts = []
        for pixels in self._pixels(images):
            with autocast(self.precision):
                parts.append(_vectors(self.model.get_image_features(pixel_values=pixels)))
        return F.normalize(torch.cat(parts).float(), dim=-1) if parts else torch.zeros(0, 1)

    def _text_vectors(self, tokens: dict[str, Tensor]) -> Tensor:
        return _vectors(self.model.get_text_features(**tokens))


class BlipScorer(_HuggingFaceScorer):
    """BLIP's image-text matching head, and its embeddings for retrieval (Li et al., 2022, arXiv 2201.12086).

    As transformers computes it: texts begin with [CLS], where the official code puts BLIP's own [ENC]. Arguments as of
    `hugging_face_scorer`.
    """

    calibrated = True
    fuses = True

    def _class(self) -> Any:
        from transformers import BlipForImageTextRetrieval

        return BlipForImageTextRetrieval

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Any]) -> Tensor:
        """Tokens (images, 1 + patches, dim)."""
        parts = []
        for pixels in self._pixels(images):
            with autocast(self.precision):
                parts.append(self.model.vision_model(pixel_values=pixels).last_hidden_state.float())
        return torch.cat(parts) if parts else torch.zeros(0, 1, 1)

    @torch.inference_mode()
    def embed_images(self, image_features: Tensor) -> Tensor:
        """Unit vectors (images, dim)."""
        return F.normalize(self.model.vision_proj(image_features[:, 0]), dim=-1)

    @torch.inference_mode()
    def score(self, image_features: Tensor, index: Sequence[int], texts: Sequence[str]) -> Tensor:
        """Match logits (n, 2), float32 on the CPU, of each text with image `index[i]`; index 1 means match."""
        check_pairs(index, texts)
        logits = torch.zeros(len(texts), 2)
        lengths = [len(text) for text in texts]
        for wide in rectangles(index, lengths, 2 * self.batch_size):
            tokens = self._tokens([texts[row] for row in wide.rows])
            image = image_features[wide.images].repeat_interleave(len(wide.rows) // len(wide.images), dim=0)
            with autocast(self.precision):
                fused = self.model.text_encoder(
                    **tokens,
                    encoder_hidden_states=image,
                    encoder_attention_mask=torch.ones(image.shape[:2], dtype=torch.long, device=self.device),
                ).last_hidden_state
            logits[wide.rows] = self.model.itm_head(fused[:, 0].float()).cpu()
        return logits

    def _text_vectors(self, tokens: dict[str, Tensor]) -> Tensor:
        hidden = self.model.text_encoder(**tokens).last_hidden_state
        vectors: Tensor = self.model.text_proj(hidden[:, 0])
        return vectors


def _unknown(name: str, kind: str) -> str:
    return (
        f"{name} is a {kind} model, which does not embed images and texts: give one like CLIP or SigLIP, or BLIP with "
        "its matching head."
    )


def _vectors(output: Any) -> Tensor:
    """Projected vectors: since transformers 5 they are the `pooler_output` of a record."""
    vectors: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return vectors
