"""ALBEF of torchmultimodal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from relpretrain.adapters.hosts.base import HostAdapter
from relpretrain.adapters.hosts.regions import all_visible, encode_with_regions
from relpretrain.types import ImageFeatures, Regions

_ENCODERS = {
    "albef_model.vision_encoder.encoder.conv_proj": "image encoder",
    "albef_model.text_encoder": "text encoder",
    "albef_model.multimodal_encoder": "fusion encoder",
    "vision_proj": "projection of images",
    "text_proj": "projection of texts",
    "temp": "temperature",
}


class TorchMultimodalSimilarity(HostAdapter):
    """torchmultimodal's `ALBEFModelWithSimilarity`.

    Masks are bool, the type that all of its attention layers accept. Its momentum copies and queue are used for its own
    losses only.
    """

    name = "ALBEF with similarities of torchmultimodal"
    note = "It has no matching head and no head for masked words: VSG trains its contrastive loss."
    needs: ClassVar[Mapping[str, str]] = _ENCODERS
    provides = frozenset({"contrast", "regions"})

    @property
    def model(self) -> Any:
        """The module with the encoders, the projections and the temperature."""
        return self.host

    @property
    def fusion_dim(self) -> int:
        """Width of the fused tokens."""
        return int(self.model.text_proj.in_features)

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns of patches; its images are square."""
        patches = self._vit.encoder.pos_embedding.shape[1] - 1
        return math.isqrt(patches), math.isqrt(patches)

    @property
    def temperature(self) -> Tensor:
        """Divisor of the cosine similarities, a scalar tensor."""
        temp: Tensor = self.model.temp
        return temp

    @property
    def _vit(self) -> Any:
        return self.model.albef_model.vision_encoder.encoder

    def encode_image(self, images: Tensor, regions: Regions | None = None) -> ImageFeatures:
        """Encode images to tokens (B, K, D), and regions of them in the same pass."""
        vision, vit = self.model.albef_model.vision_encoder, self._vit
        if regions is None:
            x = vision(images)
            return ImageFeatures(x, all_visible(x))
        x = rearrange(vit.conv_proj(images), "b d rows columns -> b (rows columns) d")
        x = torch.cat([repeat(vit.class_token, "1 1 d -> b 1 d", b=len(x)), x], dim=1)
        x = vit.encoder.dropout(x + vit.encoder.pos_embedding)
        blocks = list(vit.encoder.layers.children())
        x, mask, seen, visible = encode_with_regions(x, blocks, regions, _block, _block)
        return ImageFeatures(vit.encoder.ln(x), mask, vit.encoder.ln(seen), visible)

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode token ids (n, length) to text tokens (n, length, width)."""
        tokens: Tensor = self.model.albef_model.text_encoder(ids, mask).last_hidden_state
        return tokens

    def fuse(self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> Tensor:
        """Fuse text tokens with image tokens (n, K, D): (n, length, width)."""
        tokens: Tensor = self.model.albef_model.multimodal_encoder(text, text_mask, image, image_mask)
        return tokens

    def project_image(self, tokens: Tensor) -> Tensor:
        """Unit-norm embeddings (n, embed_dim) of image tokens (n, 1 + patches, dim)."""
        return F.normalize(self.model.vision_proj(tokens[:, 0]).float(), dim=-1)

    def project_text(self, tokens: Tensor) -> Tensor:
        """Unit-norm embeddings (n, embed_dim) of text tokens (n, length, width)."""
        return F.normalize(self.model.text_proj(tokens[:, 0]).float(), dim=-1)


class TorchMultimodalRetrieval(TorchMultimodalSimilarity):
    """`ALBEFModelForRetrieval` of torchmultimodal's examples, which adds the matching head."""

    name = "ALBEF of torchmultimodal"
    note = "It has no head for masked words: VSG trains its contrastive and matching losses."
    needs: ClassVar[Mapping[str, str]] = {
        **{f"model_with_similarity.{path}": what for path, what in _ENCODERS.items()},
        "itm_head": "matching head",
    }
    provides = frozenset({"contrast", "matching", "regions"})

    @property
    def model(self) -> Any:
        """The module with the encoders, the projections and the temperature."""
        return self.host.model_with_similarity

    def match_logits(self, fused: Tensor) -> Tensor:
        """Matching logits (n, 2) of fused tokens (n, length, width); class 1 is "match"."""
        logits: Tensor = self.host.itm_head(fused[:, 0])
        return logits


def _block(block: Any, x: Tensor, visible: Tensor | None = None) -> Tensor:
    """Run a block of torchvision's ViT layer by layer: the host's extracted graph has only its layers."""
    y = block.ln_1(x)
    hidden = None if visible is None else ~visible
    y = block.self_attention(y, y, y, key_padding_mask=hidden, need_weights=False)[0]
    x = x + block.dropout(y)
    y = block.ln_2(x)
    for layer in block.mlp.children():
        y = layer(y)
    x = x + y
    return x
