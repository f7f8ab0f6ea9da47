"""What a loss looks at: texts, each with the features of its image or region."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relpretrain.distributed import gather_sizes
from relpretrain.types import CachedFusion, PackedTokens, Packing, Pairs, TextBatch

if TYPE_CHECKING:
    from relpretrain.features.step import Features


def full_precision(tensor: Tensor) -> torch.autocast:
    """Context without autocast on the tensor's device: similarities and boxes are computed in fp32."""
    return torch.autocast(tensor.device.type, enabled=False)


class View:
    """Features of n texts and of the images or regions that they are paired with: the input of ITC, ITM and MLM.

    With n = 0 the embeddings are still connected to the model's parameters, so that collectives and DDP's buckets come
    in the same order on all processes: the model, which may not accept empty tensors, encodes one placeholder pair, of
    which no row is kept.
    """

    def __init__(self, features: Features, pairs: Pairs) -> None:
        self.features = features
        self.backbone = features.backbone
        self.pairs = pairs
        self._encoded = pairs if len(pairs) else _placeholder(features.batch.images.device)

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def image(self) -> tuple[Tensor, Tensor]:
        """Tokens (n, 1 + patches, dim) and mask (n, 1 + patches) of each text's image, or region if it has a box."""
        if self._encoded.boxes is not None:
            return self.features.regions(self.pairs)
        return self.whole_image

    @cached_property
    def whole_image(self) -> tuple[Tensor, Tensor]:
        """Tokens (n, 1 + patches, dim) and mask (n, 1 + patches) of each text's whole image."""
        (tokens, mask), index = self.features.whole_images, self._encoded.image_index
        return tokens[index], mask[index]

    @cached_property
    def text(self) -> Tensor:
        """Text tokens (n, length, dim)."""
        return self.encode_text(self._encoded.text.input_ids)

    @property
    def packing(self) -> tuple[Packing, ...]:
        """The texts' tables as an argument, or none, for a backbone that knows nothing of them or without tables."""
        packing = self._encoded.text.packing
        return () if packing is None or not isinstance(self.backbone, PackedTokens) else (packing,)

    def encode_text(self, ids: Tensor) -> Tensor:
        """Encode the texts, or masked versions of them, (n, length), to tokens (n, length, dim)."""
        return self.backbone.encode_text(ids, self._encoded.text.attention_mask, *self.packing)

    @cached_property
    def image_embedding(self) -> Tensor:
        """Unit-norm embeddings of the images or regions, (n, embed_dim)."""
        boxed = self._encoded.boxes is not None
        tokens = self.features.region_firsts(self.pairs) if boxed else self.image[0]
        return self.backbone.project_image(tokens)[: len(self)]

    @cached_property
    def text_embedding(self) -> Tensor:
        """Unit-norm embeddings of the texts, (n, embed_dim)."""
        return self.backbone.project_text(self.text)[: len(self)]

    @cached_property
    def fused(self) -> Tensor:
        """Text tokens fused with their image or region, (n, length, fusion_dim)."""
        return self.fuse(self.text)[: len(self)]

    def fuse(self, text: Tensor) -> Tensor:
        """Fuse text tokens (n, length, dim), of the texts or of masked versions of them, with each one's image."""
        mask = self._encoded.text.attention_mask
        if isinstance(self.backbone, CachedFusion):
            return self.backbone.fuse_cached(text, mask, *self.image_kv, *self.packing)
        return self.backbone.fuse(text, mask, *self.image)

    def fused_first(self, whole: bool = False) -> Tensor:
        """Text tokens fused with their image or region, (n, 1 or more, fusion_dim), if only [CLS] is used of them.

        Args:
            whole: Whether they are fused with their whole image instead.
        """
        text, mask, backbone = self.text, self._encoded.text.attention_mask, self.backbone
        if not isinstance(backbone, CachedFusion):
            return backbone.fuse(text, mask, *(self.whole_image if whole else self.image))[: len(self)]
        kv = self.whole_image_kv if whole else self.image_kv
        fuse = getattr(backbone, "fuse_first", backbone.fuse_cached)  # a host may lack the faster way
        return fuse(text, mask, *kv, *self.packing)[: len(self)]  # type: ignore[no-any-return]

    @cached_property
    def match_text(self) -> Tensor:
        """What of matching depends on the texts alone, for a backbone with `CachedFusion`: a row for each text."""
        assert isinstance(self.backbone, CachedFusion)
        return self.backbone.precompute_text(self.text, self._encoded.text.attention_mask, *self.packing)

    @cached_property
    def matched(self) -> Tensor:
        """Match logits of the texts with their images or regions, (n, 2)."""
        backbone, mask = self.backbone, self._encoded.text.attention_mask
        if isinstance(backbone, CachedFusion):
            return backbone.match(self.match_text, mask, *self.image_kv, *self.packing)[: len(self)]
        return backbone.match_logits(self.fused)

    @cached_property
    def image_kv(self) -> tuple[tuple[Tensor, ...], Tensor]:
        """Precomputed keys and values of the images or regions, for a backbone with `CachedFusion`, and their mask."""
        return self.whole_image_kv if self._encoded.boxes is None else self.features.region_kv(self.pairs)

    @cached_property
    def whole_image_kv(self) -> tuple[tuple[Tensor, ...], Tensor]:
        """The same of each text's whole image: computed once for an image, however many texts it has."""
        assert isinstance(self.backbone, CachedFusion)
        index = self._encoded.image_index
        if len(index) <= len(
            self.features.whole_images[0]
        ):  # copies of tokens are smaller than those of keys and values
            tokens, mask = self.whole_image
            return self.backbone.precompute_image_kv(tokens), mask
        kv, mask = self.features.image_kv, self.features.whole_images[1]
        return tuple(part[index] for part in kv), mask[index]

    @cached_property
    def sizes(self) -> list[int]:
        """Number of pairs of each process, by rank; a collective call on first use."""
        return gather_sizes(len(self))

    @cached_property
    def image_ids(self) -> Tensor:
        """Identity of each text's image, or of image and box where the box is a part of it, (n,), int64."""
        images = self.features.batch.image_ids[self.pairs.image_index]
        if self.pairs.boxes is None:
            return images
        boxes, ids = (self.pairs.boxes * 4096).round().long(), images
        for column in boxes.unbind(1):
            ids = ids * 1_000_003 + column  # wraps around; a polynomial hash
        return torch.where((boxes[:, 2:] == 4096).all(1), images, ids)

    @cached_property
    def teacher_view(self) -> View | None:
        """The same pairs by the teacher, or None without one."""
        features = self.features.teacher_features
        return None if features is None else features.view(self.pairs)

    @cached_property
    def similarities(self) -> tuple[Tensor, Tensor]:
        """Cosine similarities divided by the temperature within this process, image-to-text and text-to-image, (n, n).

        With a teacher, the columns are the teacher's embeddings, as in the official ALBEF code.
        """
        image, text = self.image_embedding.float(), self.text_embedding.float()
        key_image, key_text = image, text
        if self.teacher_view is not None:
            with torch.no_grad():
                key_image = self.teacher_view.image_embedding.float()
                key_text = self.teacher_view.text_embedding.float()
        temperature = self.backbone.temperature.float()
        with full_precision(image):
            return image @ key_text.T / temperature, text @ key_image.T / temperature


def _placeholder(device: torch.device) -> Pairs:
    """One text (an arbitrary token and padding) with the first image."""
    mask = torch.arange(2, device=device)[None] < 1
    ids = 2 * mask  # made on the device: a copy from the CPU would wait for it
    first = torch.zeros(1, dtype=torch.long, device=device)
    return Pairs(TextBatch(ids, mask), first, first)
