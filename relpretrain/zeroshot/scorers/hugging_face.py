"""Scores pairs with models of Hugging Face: dual encoders such as CLIP, SigLIP and SigLIP 2; BLIP is in `blip`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from relpretrain.types import PairScorer
from relpretrain.zeroshot.scorers.base import CosineScorer
from relpretrain.zeroshot.scorers.loading import from_hub, hub_name
from relpretrain.zeroshot.scorers.matching import autocast, check_precision


def hugging_face_scorer(
    name: str,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
    max_tokens: int | None = None,
    precision: str = "fp32",
    by: Literal["itm", "itc"] | None = None,
) -> PairScorer:
    """A scorer of a model on the hub or in a folder.

    Args:
        name: Folder or hub name: BLIP or BLIP-2 with a matching head, or a model with `get_image_features` and
            `get_text_features`, such as CLIP, SigLIP or SigLIP 2.
        device: Where to compute.
        batch_size: Images encoded at once.
        max_tokens: Limit of a text's length; None for the model's own.
        precision: "fp32", or "bf16" on CUDA or a CPU with instructions for it.
        by: Of BLIP and BLIP-2, "itm" for the matching head, which is the default, or "itc" for the embeddings.

    Raises:
        ValueError: If the model cannot be loaded, or is none of these.
    """
    from transformers import AutoConfig

    config = from_hub(AutoConfig, name, "model")
    if not (hasattr(config, "text_config") and hasattr(config, "vision_config")):
        raise ValueError(_unknown(name, config.model_type))
    sizes = (name, device, batch_size, max_tokens, precision)
    if config.model_type in ("blip", "blip-2"):
        from relpretrain.zeroshot.scorers.blip import Blip2Scorer, BlipScorer, check_heads

        check_heads(name, config)
        return (BlipScorer if config.model_type == "blip" else Blip2Scorer)(*sizes, by=by or "itm")
    if by == "itm":
        raise ValueError(f"{name} is a {config.model_type} model, which has no matching head: leave --by itm out.")
    return DualEncoderScorer(*sizes)


class HuggingFaceScorer(CosineScorer):
    """What these models have in common: their own preparation of images and texts."""

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
        own = int(min(self.processor.tokenizer.model_max_length, self._positions()))
        # SigLIP was trained on texts padded to the full length, without a mask.
        self._padding = "max_length" if self.model.config.model_type.startswith("siglip") else "longest"
        if max_tokens is not None and (max_tokens > own or self._padding == "max_length"):
            exactly = "exactly" if self._padding == "max_length" else "at most"
            raise ValueError(f"{name} reads {exactly} {own} tokens; --max-tokens asks for {max_tokens}.")
        self.max_tokens: int = max_tokens or own

    @abstractmethod
    def _class(self) -> Any: ...

    def _positions(self) -> int:
        """Tokens that the model has positions for."""
        return int(self.model.config.text_config.max_position_embeddings)

    def _pixels(self, images: Sequence[Any]) -> Iterator[dict[str, Any]]:
        """All that the model's processor makes of images, in batches."""
        for start in range(0, len(images), self.batch_size):
            few = list(images[start : start + self.batch_size])
            yield dict(self.processor(images=few, return_tensors="pt").to(self.device))

    def _texts(self, texts: Sequence[str]) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        """Numbers and tokens of texts, in batches of like lengths."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), 2 * self.batch_size):
            numbers = order[start : start + 2 * self.batch_size]
            tokens = self.tokens([texts[i] for i in numbers])
            yield numbers, tokens

    def tokens(self, texts: list[str]) -> dict[str, Tensor]:
        """Ids and mask (n, length) of texts, as the model's own tokenizer makes them; no mask if it makes none."""
        tokenizer = self.processor.tokenizer
        tokens = tokenizer(
            texts, padding=self._padding, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        ended = int(tokenizer.pad_token_id == tokenizer.eos_token_id)  # padding that is the end of the text, too
        self.note_lengths(texts, ((tokens["input_ids"] != tokenizer.pad_token_id).sum(dim=1) + ended).tolist())
        return {key: tokens[key].to(self.device) for key in ("input_ids", "attention_mask") if key in tokens}

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (texts, dim)."""
        order: list[int] = []
        parts = []
        for numbers, tokens in self._texts(texts):
            order += numbers
            with autocast(self.precision, self.device):
                vectors = self._text_vectors(tokens)
            parts.append(F.normalize(vectors.float(), dim=-1))
        return torch.cat(parts)[torch.tensor(order).argsort()] if parts else torch.zeros(0, 1)

    @abstractmethod
    def _text_vectors(self, tokens: dict[str, Tensor]) -> Tensor: ...


class DualEncoderScorer(HuggingFaceScorer):
    """CLIP, SigLIP and other models whose images and texts meet as unit vectors only: cosine over temperature.

    Arguments as of `hugging_face_scorer`.
    """

    def __init__(self, name: str, *arguments: Any, **keywords: Any) -> None:
        super().__init__(name, *arguments, **keywords)
        self._patches = 0  # of an image, where a model takes images of any proportions
        if not (hasattr(self.model, "get_image_features") and hasattr(self.model, "get_text_features")):
            raise ValueError(_unknown(name, self.model.config.model_type))
        scale = getattr(self.model, "logit_scale", None)
        self.temperature = 1.0 if scale is None else float(scale.detach().exp()) ** -1
        if hasattr(self.model, "visual_projection") and hasattr(self.model.vision_model, "post_layernorm"):
            self.encode_regions = self._regions

    def _class(self) -> Any:
        from transformers import AutoModel

        return AutoModel

    def notes(self) -> tuple[str, ...]:
        """What a reader must know, and that NaFlex sees images in their own proportions."""
        naflex = f"NaFlex: images keep their proportions, in up to {self._patches} patches"
        return (*super().notes(), *((naflex,) if self._patches else ()))

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Any]) -> Tensor:
        """Unit vectors (images, dim)."""
        parts = []
        for pixels in self._pixels(images):
            self._patches = pixels["pixel_values"].shape[1] if "spatial_shapes" in pixels else 0
            with autocast(self.precision, self.device):
                parts.append(_vectors(self.model.get_image_features(**pixels)))
        return F.normalize(torch.cat(parts).float(), dim=-1) if parts else torch.zeros(0, 1)

    region_way = "pooled from the patches of the whole image (RoIAlign)"
    """How `encode_regions` shows a box, where a model has it."""

    @torch.inference_mode()
    def _regions(self, images: Sequence[Any], index: Sequence[int], boxes: Sequence[Box]) -> Tensor:
        """Unit vectors (boxes, dim) of boxes in whole images, as FG-CLIP takes them from CLIP.

        The patches of the last layer are projected as [CLS] is, and averaged over each box by RoIAlign. Images are
        made square, so that nothing of them is cut away.
        """
        from torchvision.ops import roi_align

        side = int(self.model.config.vision_config.image_size)
        grids = []
        for pixels in self._pixels([image.resize((side, side)) for image in images]):
            with autocast(self.precision, self.device):
                patches = self.model.vision_model(**pixels).last_hidden_state[:, 1:]
                vectors = self.model.visual_projection(self.model.vision_model.post_layernorm(patches)).float()
            rows = round(vectors.shape[1] ** 0.5)
            grids.append(vectors.transpose(1, 2).unflatten(2, (rows, rows)))  # (images, dim, rows, columns)
        features = torch.cat(grids)
        size = features.shape[-1]
        lines = []
        for i, (left, top, right, bottom) in zip(index, boxes, strict=True):
            width, height = images[i].size
            edges = (left / width, top / height, right / width, bottom / height)
            lines.append([float(i), *(size * edge for edge in edges)])
        found = roi_align(features, features.new_tensor(lines), output_size=1, aligned=True)
        return F.normalize(found.flatten(1), dim=-1)

    def _text_vectors(self, tokens: dict[str, Tensor]) -> Tensor:
        return _vectors(self.model.get_text_features(**tokens))


Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels."""


def _unknown(name: str, kind: str) -> str:
    return (
        f"{name} is a {kind} model, which does not embed images and texts: give one like CLIP or SigLIP, or BLIP with "
        "its matching head."
    )


def _vectors(output: Any) -> Tensor:
    """Projected vectors: since transformers 5 they are the `pooler_output` of a record."""
    vectors: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return vectors
