"""BLIP of Hugging Face transformers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relpretrain.adapters.hosts.base import HostAdapter
from relpretrain.adapters.hosts.regions import all_visible, attend, encode_with_regions
from relpretrain.types import ImageFeatures, Regions


class TwoPassText(HostAdapter):
    """The common part of BLIP models, which encode a text twice: alone, and from its words again with an image.

    So the tokens of a text are the concatenation of the first pass's output and the word embeddings that the second
    pass starts from, (n, length, 2 * width).
    """

    note = "BLIP has no head for masked words: VSG trains its contrastive and matching losses."
    provides = frozenset({"contrast", "matching", "regions"})

    @property
    def fusion_dim(self) -> int:
        """Width of the fused tokens."""
        return int(self.host.itm_head.in_features)

    def fuse(self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> Tensor:
        """Encode the words again, with cross-attention to image tokens (n, K, D): (n, length, width)."""
        tokens: Tensor = self.host.text_encoder(
            encoder_embeds=text[..., self.fusion_dim :],
            attention_mask=text_mask.long(),
            encoder_hidden_states=image,
            encoder_attention_mask=image_mask.long(),
            return_dict=True,
        ).last_hidden_state
        return tokens

    def project_image(self, tokens: Tensor) -> Tensor:
        """Unit-norm embeddings (n, embed_dim) of image tokens (n, 1 + patches, dim)."""
        return F.normalize(self.host.vision_proj(tokens[:, 0]).float(), dim=-1)

    def project_text(self, tokens: Tensor) -> Tensor:
        """Unit-norm embeddings (n, embed_dim) of text tokens (n, length, 2 * width)."""
        return F.normalize(self.host.text_proj(tokens[:, 0, : self.fusion_dim]).float(), dim=-1)

    def match_logits(self, fused: Tensor) -> Tensor:
        """Matching logits (n, 2) of fused tokens (n, length, width); class 1 is "match"."""
        logits: Tensor = self.host.itm_head(fused[:, 0])
        return logits


class HuggingFaceBLIP(TwoPassText):
    """Hugging Face's `BlipForImageTextRetrieval`.

    It has no learned temperature: that of BLIP's configuration is used, 1 / exp(logit_scale_init_value) = 0.07. As in
    the host's own forward pass, a text that is fused with an image begins with [CLS].
    """

    name = "BLIP of Hugging Face transformers"
    note = f"{TwoPassText.note} Its temperature is fixed, that of its configuration."
    needs: ClassVar[Mapping[str, str]] = {
        "vision_model.embeddings.class_embedding": "image encoder",
        "vision_model.encoder.layers": "image encoder",
        "vision_model.post_layernorm": "image encoder",
        "text_encoder.embeddings.word_embeddings": "text encoder",
        "text_encoder.encoder.layer": "text encoder",
        "vision_proj": "projection of images",
        "text_proj": "projection of texts",
        "itm_head": "matching head",
        "config": "configuration",
    }

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        embeddings = self.host.vision_model.embeddings
        side = int(embeddings.image_size) // int(embeddings.patch_size)
        return side, side

    @property
    def temperature(self) -> Tensor:
        """Divisor of the cosine similarities, a scalar tensor without gradient."""
        scale = math.exp(float(getattr(self.host.config, "logit_scale_init_value", 2.6592)))
        return torch.tensor(1 / scale, device=self.host.vision_proj.weight.device)

    def encode_image(self, images: Tensor, regions: Regions | None = None) -> ImageFeatures:
        """Encode images to tokens (B, K, D), and regions of them in the same pass."""
        vision = self.host.vision_model
        if regions is None:
            x = vision(pixel_values=images).last_hidden_state
            return ImageFeatures(x, all_visible(x))
        x = vision.embeddings(images)
        x, mask, seen, visible = encode_with_regions(x, vision.encoder.layers, regions, _whole, _inside)
        return ImageFeatures(vision.post_layernorm(x), mask, vision.post_layernorm(seen), visible)

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Tokens of texts alone beside their embedded words, (n, length, 2 * width)."""
        encoder = self.host.text_encoder
        alone = encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return torch.cat([alone, encoder.embeddings(input_ids=ids)], dim=-1)

    def fuse(self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> Tensor:
        """Encode the words again, with cross-attention to image tokens (n, K, D): (n, length, width).

        Some versions of transformers (5.23) ignore the mask of the cross-attention. So patches outside a region are
        also replaced by the region's [CLS], which then gets more weight, but hides them.
        """
        return super().fuse(text, text_mask, torch.where(image_mask[..., None], image, image[:, :1]), image_mask)


def _whole(layer: nn.Module, x: Tensor) -> Tensor:
    out = layer(x, attention_mask=None)
    tokens: Tensor = out[0] if isinstance(out, tuple) else out  # versions 4 of transformers return tuples
    return tokens


def _inside(layer: Any, x: Tensor, visible: Tensor) -> Tensor:
    attention = layer.self_attn
    rate = attention.dropout.p if attention.training else 0.0
    x = x + attend(layer.layer_norm1(x), visible, attention.qkv, attention.projection, attention.num_heads, rate)
    x = x + layer.mlp(layer.layer_norm2(x))
    return x
