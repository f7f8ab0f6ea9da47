"""ALBEF of salesforce/ALBEF: `models.model_pretrain.ALBEF`, and `models.model_retrieval.ALBEF` without masked words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from relpretrain.adapters.hosts.base import HostAdapter, has
from relpretrain.adapters.hosts.regions import all_visible, encode_vit
from relpretrain.types import ImageFeatures, Regions


class SplitBertAdapter(HostAdapter):
    """The common part of the official ALBEF and X-VLM: a split BERT, projections and heads."""

    def __init__(self, host: Any) -> None:
        super().__init__(host)
        text = host.text_encoder
        self.bert = next((getattr(text, name) for name in ("bert", "roberta") if has(text, name)), text)
        self.mlm_head = next((getattr(text, name) for name in ("cls", "lm_head") if has(text, name)), None)
        optional = {"words": self.mlm_head is not None, "boxes": has(host, "bbox_head")}
        self.provides = frozenset(
            ["contrast", "matching", "regions", *(part for part, there in optional.items() if there)]
        )

    @property
    def fusion_dim(self) -> int:
        """Width of the fused tokens."""
        return int(self.host.text_encoder.config.hidden_size)

    @property
    def temperature(self) -> Tensor:
        """Divisor of the cosine similarities, clamped to [0.001, 0.5].

        The host clamps its parameter in place in every forward pass. Here a copy is clamped, so that the backward pass
        does not see the parameter changed, in whatever order the losses are computed.
        """
        temperature: Tensor = self.host.temp.clone().clamp(0.001, 0.5)
        return temperature

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Run the text layers."""
        tokens: Tensor = self.bert(ids, attention_mask=mask.long(), return_dict=True, mode="text").last_hidden_state
        return tokens

    def fuse(self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> Tensor:
        """Run the fusion layers."""
        tokens: Tensor = self.bert(
            encoder_embeds=text,
            attention_mask=text_mask.long(),
            encoder_hidden_states=image,
            encoder_attention_mask=image_mask.long(),
            return_dict=True,
            mode="fusion",
        ).last_hidden_state
        return tokens

    def project_image(self, tokens: Tensor) -> Tensor:
        """Unit-norm embeddings (n, embed_dim) from [CLS]."""
        return F.normalize(self.host.vision_proj(tokens[:, 0]).float(), dim=-1)

    def project_text(self, tokens: Tensor) -> Tensor:
        """Unit-norm embeddings (n, embed_dim) from [CLS]."""
        return F.normalize(self.host.text_proj(tokens[:, 0]).float(), dim=-1)

    def match_logits(self, fused: Tensor) -> Tensor:
        """Matching logits (n, 2) of [CLS]; class 1 is "match", as in both codebases."""
        logits: Tensor = self.host.itm_head(fused[:, 0])
        return logits

    def word_logits(self, fused: Tensor) -> Tensor:
        """Vocabulary logits."""
        if self.mlm_head is None:
            self._lacks("word_logits")
        logits: Tensor = self.mlm_head(fused)
        return logits


class OfficialALBEF(SplitBertAdapter):
    """The official ALBEF; for regions, attention in its last four ViT blocks is restricted to them, as in X-VLM."""

    name = "ALBEF of salesforce/ALBEF"
    needs: ClassVar[Mapping[str, str]] = {
        "visual_encoder.blocks": "blocks of the image encoder",
        "visual_encoder.patch_embed": "its patches",
        "visual_encoder.cls_token": "its [CLS]",
        "visual_encoder.pos_embed": "its positions",
        "visual_encoder.pos_drop": "their dropout",
        "visual_encoder.norm": "its last norm",
        "text_encoder.config.fusion_layer": "text encoder, split into text and fusion layers",
        "vision_proj": "projection of images",
        "text_proj": "projection of texts",
        "itm_head": "matching head",
        "temp": "temperature",
    }

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns of patches, a square."""
        side = math.isqrt(self.host.visual_encoder.pos_embed.shape[1] - 1)
        return side, side

    def encode_image(self, images: Tensor, regions: Regions | None = None) -> ImageFeatures:
        """Encode images, and regions of them in the same pass."""
        if regions is not None:
            return encode_vit(self.host.visual_encoder, images, regions)
        tokens: Tensor = self.host.visual_encoder(images)
        return ImageFeatures(tokens, all_visible(tokens))
