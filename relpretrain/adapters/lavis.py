"""ALBEF and BLIP of LAVIS, as they are pretrained there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from relpretrain.adapters.base import HostAdapter
from relpretrain.adapters.blip import TwoPassText
from relpretrain.adapters.regions import all_visible, encode_vit
from relpretrain.types import ImageFeatures, Regions

_SHARED = {
    "visual_encoder.forward_features": "image encoder",
    "visual_encoder.blocks": "image encoder",
    "vision_proj": "projection of images",
    "text_proj": "projection of texts",
    "itm_head": "matching head",
    "temp": "temperature",
    "max_txt_len": "length of texts",
}


class _Lavis(HostAdapter):
    """What the two have in common. Their momentum copies and queues serve their own losses alone."""

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        rows, columns = self.host.visual_encoder.patch_embed.grid_size
        return rows, columns

    @property
    def temperature(self) -> Tensor:
        """Divisor of the cosine similarities, a scalar tensor, moved into its range in place as the host does."""
        temp: Tensor = self.host.temp
        temp.data.clamp_(0.001, 0.5)
        return temp

    def encode_image(self, images: Tensor, regions: Regions | None = None) -> ImageFeatures:
        """Tokens of images (B, K, D), and of regions out of the same pass."""
        if regions is not None:
            return encode_vit(self.host.visual_encoder, images, regions)
        x = self.host.visual_encoder.forward_features(images)
        return ImageFeatures(x, all_visible(x))


class LavisALBEF(_Lavis):
    """LAVIS's `AlbefPretrain`."""

    name = "ALBEF of LAVIS"
    needs: ClassVar[dict[str, str]] = {
        **_SHARED,
        "text_encoder.bert": "text and fusion encoder",
        "text_encoder.cls": "head for masked words",
    }
    provides = frozenset({"contrast", "matching", "words", "regions"})

    @property
    def fusion_dim(self) -> int:
        """Width of the fused tokens."""
        return int(self.host.itm_head.in_features)

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode (n, length) ids to (n, length, width) with the first half of the layers."""
        return self._bert(ids, attention_mask=mask.long(), mode="text")

    def fuse(self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> Tensor:
        """Let text tokens attend to image tokens (n, K, D) in the second half of the layers: (n, length, width)."""
        return self._bert(
            encoder_embeds=text,
            attention_mask=text_mask.long(),
            encoder_hidden_states=image,
            encoder_attention_mask=image_mask.long(),
            mode="fusion",
        )

    def project_image(self, tokens: Tensor) -> Tensor:
        """Unit vectors (n, embed_dim) of image tokens (n, 1 + patches, dim)."""
        return F.normalize(self.host.vision_proj(tokens[:, 0]).float(), dim=-1)

    def project_text(self, tokens: Tensor) -> Tensor:
        """Unit vectors (n, embed_dim) of text tokens (n, length, width)."""
        return F.normalize(self.host.text_proj(tokens[:, 0]).float(), dim=-1)

    def match_logits(self, fused: Tensor) -> Tensor:
        """(n, 2) logits of fused tokens (n, length, width); index 1 means that the pair matches."""
        logits: Tensor = self.host.itm_head(fused[:, 0])
        return logits

    def word_logits(self, fused: Tensor) -> Tensor:
        """Vocabulary logits (positions, vocabulary) of fused tokens at those positions (positions, width)."""
        logits: Tensor = self.host.text_encoder.cls(fused)
        return logits

    def _bert(self, *args: Any, **kwargs: Any) -> Tensor:
        tokens: Tensor = self.host.text_encoder.bert(*args, return_dict=True, **kwargs).last_hidden_state
        return tokens


class LavisBLIP(_Lavis, TwoPassText):
    """LAVIS's `BlipPretrain`.

    A text that meets an image begins with the tokenizer's [ENC] instead of [CLS], as in the host's own loss. The
    decoder is left to the host: it predicts the next word, and VSG has no such loss.
    """

    name = "BLIP of LAVIS"
    needs: ClassVar[dict[str, str]] = {
        **_SHARED,
        "text_encoder.forward_text": "text and fusion encoder",
        "text_encoder.embeddings": "text and fusion encoder",
        "text_decoder": "text decoder",
        "tokenizer.enc_token_id": "the number of [ENC]",
    }

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Tokens of texts alone beside their embedded words with [ENC] in front, (n, length, 2 * width)."""
        encoder = self.host.text_encoder
        alone = encoder.forward_text(SimpleNamespace(input_ids=ids, attention_mask=mask.long())).last_hidden_state
        marked = torch.cat([torch.full_like(ids[:, :1], self.host.tokenizer.enc_token_id), ids[:, 1:]], dim=1)
        return torch.cat([alone, encoder.embeddings(input_ids=marked)], dim=-1)

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
