"""Scores image-text pairs with a backbone: through its matching head, its embeddings, or both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relpretrain.features import patch_mask
from relpretrain.types import Backbone, CachedFusion, Regions, send
from relpretrain.zeroshot.scorers.base import CosineScorer, check_pairs, cosine_logits
from relpretrain.zeroshot.scorers.batches import rectangles

By = Literal["itm", "itc", "both"]

_MAX_WORDS = 40  # of a cleaned text: `max_tokens` of the published protocol, which counts words
_TEXTS = 256  # encoded texts that are held at once


@dataclass
class ImageTokens:
    """Encoded images.

    Args:
        tokens: (images, 1 + patches, dim).
        mask: (images, 1 + patches), bool.
    """

    tokens: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: Any) -> ImageTokens:
        return ImageTokens(self.tokens[rows], self.mask[rows])


class MatchScorer(CosineScorer):
    """Says how well texts match images. Satisfies `types.PairScorer` and `EmbeddingScorer`.

    Images are encoded once, and so is each distinct text of a call of `score`; texts come in the order of their
    lengths, so that little of a batch is padding. Backbones with `CachedFusion` do what depends on a text alone
    once per text, and an image's part of a batch once per image.

    Args:
        backbone: The model; it is put into evaluation mode and moved to `device`.
        preprocess: Turns PIL images into a tensor and texts into a TextBatch (`data.preprocess.Preprocess`).
        device: Where to compute.
        batch_size: Images encoded at once; pairs fused at once are eight times as many.
        clean: Whether texts are cleaned as ALBEF and X-VLM clean captions (lower case, most punctuation removed), as
            the published zero-shot results of these models have it.
        objectives: The objectives that the model was trained with, for probes that need their heads.
        by: "itm": the logits of the matching head. "itc": the cosine of the embeddings over the temperature. "both":
            the sum of the two, that is, the match logits' difference plus cosine over temperature.
        precision: "fp32", or "bf16" for autocast, on CUDA or a CPU with instructions for it; heads and cosines stay
            fp32.

    Raises:
        ValueError: If the batch size is below 1, or bf16 is asked for on a device where it is slower than fp32.
    """

    fuses = True

    def __init__(
        self,
        backbone: Backbone,
        preprocess: Any,
        device: torch.device | str = "cpu",
        batch_size: int = 32,
        clean: bool = False,
        objectives: Mapping[str, Any] | None = None,
        by: By = "itm",
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"The batch size must be at least 1, not {batch_size}.")
        self.backbone = backbone
        self.preprocess = preprocess
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.max_tokens = getattr(preprocess, "max_tokens", None)
        self.clean = clean
        self.objectives = dict(objectives or {})
        self.by = by
        self.calibrated = by == "itm"
        self.fuses = by != "itc"
        self.precision = check_precision(precision, self.device)
        if "regions" in getattr(backbone, "provides", ("regions",)):
            self.encode_regions = self._regions
        for module in (backbone, *self.objectives.values()):
            if isinstance(module, nn.Module):
                module.eval().to(self.device)

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Any]) -> ImageTokens:
        """Encode PIL images, each once."""
        parts = []
        for start in range(0, len(images), self.batch_size):
            pixels = send(self.preprocess.images(list(images[start : start + self.batch_size])), self.device)
            with autocast(self.precision, self.device):
                parts.append(self.backbone.encode_image(pixels))
        if not parts:
            return ImageTokens(torch.zeros(0, 1, 0), torch.zeros(0, 1, dtype=torch.bool))
        return ImageTokens(torch.cat([p.tokens for p in parts]), torch.cat([p.mask for p in parts]))

    region_way = "encoded in the whole image"
    """How `encode_regions` shows a box, where a backbone has regions."""

    @torch.inference_mode()
    def _regions(
        self, images: Sequence[Any], index: Sequence[int], boxes: Sequence[tuple[float, float, float, float]]
    ) -> ImageTokens:
        """Encode boxes (left, top, right, bottom) in pixels of images, each image once with all its boxes."""
        centred = []
        for i, (left, top, right, bottom) in zip(index, boxes, strict=True):
            width, height = images[i].size
            middle = ((left + right) / 2 / width, (top + bottom) / 2 / height)
            centred.append([*middle, (right - left) / width, (bottom - top) / height])
        masks = patch_mask(torch.tensor(centred).reshape(-1, 4), self.backbone.patch_grid)
        parts: list[ImageTokens] = []
        order: list[int] = []
        for start in range(0, len(images), self.batch_size):
            few = images[start : start + self.batch_size]
            rows = [row for row, i in enumerate(index) if start <= i < start + len(few)]
            order += rows
            regions = Regions(torch.tensor([index[row] - start for row in rows]), masks[rows])
            pixels = send(self.preprocess.images(list(few)), self.device)
            with autocast(self.precision, self.device):
                found = self.backbone.encode_image(pixels, Regions(*(part.to(self.device) for part in regions)))
            if found.region_tokens is None or found.region_mask is None:
                raise ValueError(f"{type(self.backbone).__name__}.encode_image returned no region tokens.")
            parts.append(ImageTokens(found.region_tokens, found.region_mask))
        back = torch.tensor(order).argsort()
        return ImageTokens(torch.cat([p.tokens for p in parts])[back], torch.cat([p.mask for p in parts])[back])

    @torch.inference_mode()
    def embed_images(self, image_features: ImageTokens) -> Tensor:
        """Unit vectors (images, embed_dim) of encoded images."""
        return self.backbone.project_image(image_features.tokens.float())

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (texts, embed_dim)."""
        parts: list[Tensor] = []
        order: list[int] = []
        for numbers, states, _ in self._encode_texts(texts):
            parts.append(self.backbone.project_text(states.float()))
            order += numbers
        if not parts:
            return torch.zeros(0, 1)
        return torch.cat(parts)[torch.tensor(order).argsort()]

    @torch.inference_mode()
    def score(self, image_features: ImageTokens, index: Sequence[int], texts: Sequence[str]) -> Tensor:
        """Logits (n, 2), float32 on the CPU, of each text with image `index[i]`; index 1 means match."""
        check_pairs(index, texts)
        if self.by == "itc" or not texts:
            self.temperature = float(self.backbone.temperature) if texts else 1.0
            return super().score(image_features, index, texts)
        rows_of: dict[str, list[int]] = {}
        for row, text in enumerate(texts):
            rows_of.setdefault(text, []).append(row)
        distinct = list(rows_of)
        logits = torch.zeros(len(texts), 2, device=self.device)
        for numbers, states, mask in self._encode_texts(distinct):
            rows = [row for number in numbers for row in rows_of[distinct[number]]]
            place = [i for i, number in enumerate(numbers) for _ in rows_of[distinct[number]]]
            found = self._match(image_features, [index[row] for row in rows], states, mask, place)
            logits[torch.tensor(rows, device=self.device)] = found
        return logits.cpu()

    def _match(
        self, images: ImageTokens, index: Sequence[int], states: Tensor, mask: Tensor, place: Sequence[int]
    ) -> Tensor:
        """Logits (n, 2) of encoded texts `place[i]` with images `index[i]`."""
        lengths = mask.sum(dim=1).tolist()
        logits = torch.zeros(len(index), 2, device=self.device)
        fast = self.backbone if isinstance(self.backbone, CachedFusion) else None
        with autocast(self.precision, self.device):
            begun = states if fast is None else fast.precompute_text(states, mask)
        for wide in rectangles(index, [lengths[i] for i in place], 8 * self.batch_size):
            chosen = torch.tensor([place[row] for row in wide.rows], device=self.device)
            words, visible = begun[chosen, : wide.length], mask[chosen, : wide.length]
            image = images[wide.images]
            if fast is None:
                found = self._fuse(words, visible, image)
            else:
                with autocast(self.precision, self.device):
                    found = fast.match(words, visible, fast.precompute_image_kv(image.tokens), image.mask)
            logits[torch.tensor(wide.rows, device=self.device)] = found.float()
        if self.by == "both":
            vectors = self.backbone.project_text(states.float())[list(place)]
            cosines = (self.embed_images(images)[list(index)] * vectors).sum(-1)
            logits = logits + cosine_logits(cosines, float(self.backbone.temperature))
        return logits

    def _fuse(self, words: Tensor, visible: Tensor, images: ImageTokens) -> Tensor:
        """Match logits (n, 2) by a backbone that wants an image for each text."""
        each = len(words) // len(images)
        tokens, mask = (t.repeat_interleave(each, dim=0) for t in (images.tokens, images.mask))
        with autocast(self.precision, self.device):
            fused = self.backbone.fuse(words, visible, tokens, mask)
        return self.backbone.match_logits(fused.float())

    def _encode_texts(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Numbers, tokens (n, length, dim) and mask (n, length) of texts, in blocks of like lengths."""
        if not texts:
            return
        batch = self.preprocess.texts([self._clean(text) for text in texts])
        lengths = batch.attention_mask.sum(dim=1)
        self.note_lengths(texts, lengths.tolist())
        for numbers in torch.split(lengths.argsort(stable=True), _TEXTS):
            ids, mask = (
                t[numbers, : int(lengths[numbers[-1]])].to(self.device) for t in (batch.input_ids, batch.attention_mask)
            )
            parts = []
            for few in torch.split(torch.arange(len(numbers)), 2 * self.batch_size):
                longest = int(lengths[numbers[few[-1]]])
                with autocast(self.precision, self.device):
                    states = self.backbone.encode_text(ids[few, :longest], mask[few, :longest])
                parts.append(F.pad(states, (0, 0, 0, ids.shape[1] - longest)))
            yield numbers.tolist(), torch.cat(parts), mask

    def _clean(self, text: str) -> str:
        if not self.clean:
            return text
        from relpretrain.data.pipeline.text import clean_caption

        return str(clean_caption(text, max_words=_MAX_WORDS))


def check_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """The type to compute in, None for that of the weights.

    Raises:
        ValueError: If the precision is unknown, or bf16 is asked for on a device where it is slower than fp32.
    """
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"The precision must be fp32 or bf16, not {precision!r}.")
    if precision == "fp32":
        return None
    if device.type == "cpu" and not _cpu_computes_in_bf16():
        raise ValueError("The precision bf16 needs CUDA or a CPU with AVX-512 BF16 or AMX; use fp32 on this CPU.")
    if device.type not in ("cuda", "cpu"):
        raise ValueError(f"The precision bf16 needs CUDA or a CPU, not {device.type!r}; use fp32.")
    return torch.bfloat16


def _cpu_computes_in_bf16() -> bool:
    """True where the CPU has instructions for products in bf16; elsewhere these are slower than in fp32."""
    known = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(supported is not None and supported() for supported in known)


def autocast(dtype: torch.dtype | None, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """A context that computes in `dtype` on a device; nothing for None."""
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
