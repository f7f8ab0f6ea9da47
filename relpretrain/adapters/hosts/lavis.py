"""ALBEF and BLIP of LAVIS: their pretraining and retrieval classes."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import ClassVar

import torch
from torch import Tensor

from relpretrain.adapters.hosts.albef import OfficialALBEF
from relpretrain.adapters.hosts.blip import TwoPassText


class LavisALBEF(OfficialALBEF):
    """LAVIS's `AlbefPretrain` and (without MLM) `AlbefRetrieval`, which have the attributes of the official ALBEF.

    The momentum copies and queues of LAVIS's models are used for their own losses only.
    """

    name = "ALBEF of LAVIS"
    needs: ClassVar[Mapping[str, str]] = {
        **OfficialALBEF.needs,
        "visual_encoder.forward_features": "image encoder",
        "max_txt_len": "length of texts",
    }


class LavisBLIP(TwoPassText, OfficialALBEF):
    """LAVIS's `BlipPretrain` and `BlipRetrieval`, whose ViT and temperature are those of its ALBEF.

    A text that is fused with an image begins with the tokenizer's [ENC] instead of [CLS], as in the host's own loss.
    The decoder, which predicts the next word, is not used: VSG has no such loss.
    """

    name = "BLIP of LAVIS"
    needs: ClassVar[Mapping[str, str]] = {
        **{path: what for path, what in LavisALBEF.needs.items() if path != "text_encoder.config.fusion_layer"},
        "text_encoder.forward_text": "text and fusion encoder",
        "text_encoder.embeddings": "words of the text encoder",
        "tokenizer.enc_token_id": "number of [ENC]",
    }

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Tokens of the texts concatenated with the embeddings of their words after [ENC], (n, length, 2 * width)."""
        encoder = self.host.text_encoder
        alone = encoder.forward_text(SimpleNamespace(input_ids=ids, attention_mask=mask.long())).last_hidden_state
        marked = torch.cat([torch.full_like(ids[:, :1], self.host.tokenizer.enc_token_id), ids[:, 1:]], dim=1)
        return torch.cat([alone, encoder.embeddings(input_ids=marked)], dim=-1)
