"""A large batch in little memory: parts of it are encoded and fused one after the other.

Contrast needs the embeddings of all pairs, matching their negatives; what costs memory are the activations behind them.
These are kept for no part, and computed once more in the backward pass, a part at a time (gradient caching, Gao et al.,
2021, arXiv 2101.06983). Autograd sees one batch: losses and gradients are its own, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from relpretrain.backbones.encoders import Encoders
from relpretrain.backbones.packing import Packing
from relpretrain.types import ImageFeatures, Movable, Regions, Teacher


@dataclass(repr=False)
class PackedParts(Movable):
    """Tables of regions, and of parts of them (`relpretrain.types.Packing`).

    Args:
        all: Of all regions.
        parts: Of so many at a time, in the same order: their flat tokens, one part after the other, are those of all.
    """

    all: Packing
    parts: tuple[Packing, ...]

    @property
    def mask(self) -> Tensor:
        """True at the real tokens of what `pad` returns, (regions, longest), bool."""
        return self.all.mask

    @property
    def first(self) -> Tensor:
        """Flat place of each region's token 0, (regions,), int64."""
        return self.all.first

    def pad(self, x: Tensor) -> Tensor:
        """Flat tokens (T, dim) to rows that are padded to the longest, (regions, longest, dim)."""
        return self.all.pad(x)


class MicroBatched:
    """A backbone that encodes and fuses a few images or texts at a time; satisfies `relpretrain.types.BoxBackbone`.

    It caches no keys and values of images (`CachedFusion`), which are larger than the images' tokens. Images whose
    regions are wanted begin in parts of images, and end in parts of images and in parts of regions. A backbone that is
    none of ours (`Encoders`) encodes them at once.

    Args:
        backbone: The model.
        rows: Images, regions or texts at a time.
    """

    def __init__(self, backbone: Any, rows: int) -> None:
        self.backbone = backbone
        self.rows = rows
        self.fusion_dim: int = backbone.fusion_dim
        self.patch_grid: tuple[int, int] = backbone.patch_grid

    @property
    def temperature(self) -> Tensor:
        """Divisor of the cosine similarities, a scalar tensor."""
        temperature: Tensor = self.backbone.temperature
        return temperature

    def encode_image(self, images: Tensor, regions: Regions | None = None) -> ImageFeatures:
        """Encode images (batch, 3, height, width) a part at a time; with regions all at once (see `encode_visible`)."""
        if regions is not None:
            features: ImageFeatures = self.backbone.encode_image(images, regions)
            return features
        return ImageFeatures(*self._parts(lambda part: self.backbone.encode_image(part)[:2], images))

    def pack_regions(self, patch_mask: Tensor) -> PackedParts | None:
        """Tables of all regions (n, patches) and of parts of them; None for a backbone that is none of ours."""
        if not isinstance(self.backbone, Encoders):
            return None
        pack = self.backbone.pack_regions
        parts = tuple(pack(part) for part in torch.split(patch_mask, self.rows))
        return PackedParts(pack(patch_mask), parts)

    def pack_texts(self, mask: Tensor) -> None:
        """No tables: texts are cut into parts with their padding."""

    def encode_visible(self, images: Tensor, regions: Regions, packing: PackedParts, whole: bool) -> ImageFeatures:
        """Encode images, and the visible tokens of regions of them, laid flat; without the images if not `whole`."""
        model: Encoders = self.backbone
        (begun,) = self._parts(lambda part: (model.begin_images(part),), images)
        tokens, mask = begun[:0], begun.new_ones(0, begun.shape[1], dtype=torch.bool)
        if whole:
            tokens, mask = self._parts(lambda part: model.finish_images(part)[:2], begun)
        index, inside = (torch.split(part, self.rows) for part in regions)
        seen = [
            self._run(lambda x, *part: model.finish_images(x, Regions(*part[:2]), part[2], False)[2], begun, *part)
            for part in zip(index, inside, packing.parts, strict=True)
        ]
        return ImageFeatures(tokens, mask, torch.cat(seen), packing.mask)

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode token ids (n, length) a part at a time."""
        return self._parts(lambda *part: (self.backbone.encode_text(*part),), ids, mask)[0]

    def fuse(self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> Tensor:
        """Fuse n texts with n images a part at a time."""
        return self._parts(lambda *part: (self.backbone.fuse(*part),), text, text_mask, image, image_mask)[0]

    def project_image(self, tokens: Tensor) -> Tensor:
        """Embeddings of image tokens."""
        return self.backbone.project_image(tokens)  # type: ignore[no-any-return]

    def project_text(self, tokens: Tensor) -> Tensor:
        """Embeddings of text tokens."""
        return self.backbone.project_text(tokens)  # type: ignore[no-any-return]

    def match_logits(self, fused: Tensor) -> Tensor:
        """Matching logits of fused tokens."""
        return self.backbone.match_logits(fused)  # type: ignore[no-any-return]

    def word_logits(self, fused: Tensor) -> Tensor:
        """Vocabulary logits of fused tokens."""
        return self.backbone.word_logits(fused)  # type: ignore[no-any-return]

    def boxes(self, fused: Tensor) -> Tensor:
        """Boxes of fused tokens, where the model predicts them."""
        return self.backbone.boxes(fused)  # type: ignore[no-any-return]

    def _parts(self, function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
        """A function of `rows` rows at a time, which keeps nothing but its inputs and outputs for the backward pass."""
        if len(tensors[0]) <= self.rows:
            return function(*tensors)
        parts = zip(*(torch.split(tensor, self.rows) for tensor in tensors), strict=True)
        results = [self._run(function, *part) for part in parts]
        return tuple(torch.cat(pieces) for pieces in zip(*results, strict=True))

    def _run(self, function: Callable[..., Any], *part: Any) -> Any:
        return checkpoint(function, *part, use_reentrant=False) if torch.is_grad_enabled() else function(*part)


def micro_batched_teacher(teacher: Teacher, rows: int) -> Teacher:
    """A teacher whose model takes `rows` images, regions or texts at a time."""
    model = MicroBatched(teacher.model, rows)
    return cast(Teacher, SimpleNamespace(model=model, queue=teacher.queue, alpha=teacher.alpha))
