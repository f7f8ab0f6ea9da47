"""Gated early fusion: text and image exchange what they know before their last layers, as far as gates are open.

After RLIPv2's asymmetric language-image fusion (ALIF, arXiv 2308.09351): attention in both directions with one matrix
of scores, a learned scalar gate for each direction without tanh, small at first, and few language layers: one for every
two blocks of the image encoder. Four things differ. Ours are the last blocks of a ViT and the last layers of BERT, not
an encoder of its own; gated values are added to the tokens themselves, not to their layer norm, so that gates of 0 give
the model without them; all patches take part; and the inner width is that of the text.

An image then depends on its text. So embeddings (ITC) come from tokens that have met nobody, as without gates, and
matching, masked words, boxes and MRC from pairs that have met: for each pair the last blocks of the image encoder run
again. What `encode_image` and `encode_text` return holds both: final tokens, and beside them those before the meeting.

In shapes: n pairs of L text tokens and K image tokens, D the width of either.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from relpretrain.backbones.initial import init_weights
from relpretrain.backbones.presets import ModelConfig
from relpretrain.backbones.text import run

BLOCKS = 2
"""Blocks of the image encoder after each meeting."""


class Meeting(nn.Module):
    """Attention between text and image in both directions, each behind a gate.

    Args:
        config: Numbers of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        image, text = config.vision_width, config.text_width
        self.heads = config.text_heads
        self.image_norm = nn.LayerNorm(image, config.vision_norm_eps)
        self.text_norm = nn.LayerNorm(text, config.text_norm_eps)
        self.image_in = nn.Linear(image, 2 * text)  # queries, and values for the text
        self.text_in = nn.Linear(text, 2 * text)  # keys, and values for the image
        self.image_out = nn.Linear(text, image)
        self.text_out = nn.Linear(text, text)
        self.drop = nn.Dropout(config.dropout)
        init_weights(self, config.init_std)
        self.image_gate = nn.Parameter(torch.full((1,), config.gate))
        self.text_gate = nn.Parameter(torch.full((1,), config.gate))

    def forward(self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Exchange between text tokens (n, L, D) and image tokens (n, K, D); masks are True at those that are there.

        Returns:
            Both, in this order.
        """
        split = "n l (part h d) -> part n h l d"
        q, image_values = rearrange(self.image_in(self.image_norm(image)), split, part=2, h=self.heads)
        k, text_values = rearrange(self.text_in(self.text_norm(text)), split, part=2, h=self.heads)
        scores = (q @ k.transpose(2, 3)).float() * q.shape[-1] ** -0.5  # (n, heads, K, L)
        lowest = torch.finfo(scores.dtype).min
        to_image = scores.masked_fill(~text_mask[:, None, None], lowest).softmax(3).to(q.dtype)
        to_text = scores.masked_fill(~image_mask[:, None, :, None], lowest).softmax(2).to(q.dtype)
        for_image = rearrange(self.drop(to_image) @ text_values, "n h k d -> n k (h d)")
        for_text = rearrange(self.drop(to_text).transpose(2, 3) @ image_values, "n h l d -> n l (h d)")
        image = image + self.image_gate * self.image_out(for_image)
        return text + self.text_gate * self.text_out(for_text), image


class EarlyFusion(nn.Module):
    """The last blocks of the image encoder and the last layers of the text encoder, with meetings before them.

    It has the meetings' parameters alone: blocks and layers are those of the encoders.

    Args:
        config: Numbers of the model.
        checkpointing: Recompute activations in the backward pass to save memory.
    """

    def __init__(self, config: ModelConfig, checkpointing: bool = False) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.meetings = nn.ModuleList(Meeting(config) for _ in range(config.meetings))

    def forward(
        self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor, language: Any, vision: Any
    ) -> tuple[Tensor, Tensor]:
        """Lead pairs through the last layers of both encoders.

        Args:
            text: What `encode_text` gave, final tokens and those before the meetings, (n, L, 2 D).
            text_mask: True at real ones, (n, L).
            image: Likewise of `encode_image`, whole images or regions, (n, K, 2 D).
            image_mask: True at visible ones, (n, K).
            language: The text encoder.
            vision: The image encoder, a ViT.

        Returns:
            Text and image tokens, (n, L, D) and (n, K, D).
        """
        text, image = text.chunk(2, -1)[1], image.chunk(2, -1)[1]
        text_mask, image_mask = text_mask.bool(), image_mask.bool()
        blocks = list(vision.trunk.blocks)[vision.shared_depth :]
        for number, meeting in enumerate(self.meetings):
            text, image = run(meeting, self.checkpointing, text, text_mask, image, image_mask)  # type: ignore[misc]
            layer = language.layers[language.meeting + number]
            text = run(layer, self.checkpointing, text, text_mask[:, None, None])
            last = number + 1 == len(self.meetings)
            for block in blocks[BLOCKS * number : None if last else BLOCKS * (number + 1)]:
                image = run(block, self.checkpointing, image, None, None, image_mask[:, None, None])
        return text, vision.trunk.norm(image)
