"""A large batch in little memory: parts of it are encoded and fused one after the other.

Contrast needs the embeddings of all pairs, matching their negatives; what costs memory are the activations behind them.
These are kept for no part, and computed once more in the backward pass, a part at a time (gradient caching, Gao et al.,
2021, arXiv 2101.06983). Autograd sees one batch: losses and gradients are its own, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from relpretrain.types import Backbone, ImageFeatures, Regions, Teacher


class MicroBatched:
    """A backbone that encodes and fuses a few images or texts at a time; satisfies `relpretrain.types.BoxBackbone`.

    It caches no keys and values of images (`CachedFusion`), which are larger than the images' tokens. Images whose
    regions are wanted are encoded together with them, all at once.

    Args:
        backbone: The model.
        rows: Images or texts at a time.
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
        """Encode images (batch, 3, height, width) a part at a time; with regions all at once."""
        if regions is not None:
            features: ImageFeatures = self.backbone.encode_image(images, regions)
            return features
        return ImageFeatures(*self._parts(lambda part: self.backbone.encode_image(part)[:2], images))

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
        run = partial(checkpoint, function, use_reentrant=False) if torch.is_grad_enabled() else function
        results = [run(*part) for part in zip(*(torch.split(t, self.rows) for t in tensors), strict=True)]
        return tuple(torch.cat(pieces) for pieces in zip(*results, strict=True))


def micro_batched(backbone: Backbone, teacher: Teacher | None, rows: int) -> tuple[Backbone, Teacher | None]:
    """A backbone and its teacher, if any, that take `rows` images or texts at a time."""
    if teacher is not None:
        model = MicroBatched(teacher.model, rows)
        teacher = cast(Teacher, SimpleNamespace(model=model, queue=teacher.queue, alpha=teacher.alpha))
    return MicroBatched(backbone, rows), teacher
