"""Regions in the ViTs of other codebases: attention inside a box, computed with the host's own modules.

B images, R regions, K tokens of an image, D their width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from relpretrain.types import ImageFeatures, Regions

REGION_DEPTH = 4
"""How many of the last blocks attend inside a region (X-VLM, official code: `local_attn_depth`)."""


def encode_with_regions(
    x: Tensor,
    blocks: Sequence[Any],
    regions: Regions,
    whole: Callable[[Any, Tensor], Tensor],
    inside: Callable[[Any, Tensor, Tensor], Tensor],
    first: int = 1,
) -> ImageFeatures:
    """Run a ViT's blocks on whole images and, the last `REGION_DEPTH` of them, on copies that attend inside a region.

    The copies begin as the tokens of their image, so they know its context, as in X-VLM and in our own ViT.

    Args:
        x: Embedded tokens of the images, (B, K, D).
        blocks: The blocks in order.
        regions: Which regions.
        whole: Runs a block on tokens.
        inside: Runs a block on tokens (R, K, D) whose keys are the visible among them, (R, K), bool.
        first: Tokens before the patches ([CLS]), which regions see, too.

    Returns:
        Tokens before the last norm, and masks.
    """
    shared = max(len(blocks) - REGION_DEPTH, 0)
    for block in blocks[:shared]:
        x = whole(block, x)
    visible = F.pad(regions.patch_mask, (first, 0), value=True)
    seen = x[regions.image_index]
    for block in blocks[shared:]:
        x, seen = whole(block, x), inside(block, seen, visible)
    return ImageFeatures(x, all_visible(x), seen, visible)


def all_visible(tokens: Tensor) -> Tensor:
    """A mask that hides no token, (B, K), bool."""
    return tokens.new_ones(tokens.shape[:2], dtype=torch.bool)


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """0 at visible keys and minus infinity at others, (R, 1, K, K): for layers that add a mask to their scores."""
    mask = torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, float("-inf"))
    return repeat(mask, "r keys -> r 1 queries keys", queries=visible.shape[1])


def attend(x: Tensor, visible: Tensor, qkv: nn.Module, out: nn.Module, heads: int, dropout: float = 0.0) -> Tensor:
    """Self-attention of tokens (R, K, D) to the visible among them, for hosts whose attention takes no mask.

    Args:
        x: Tokens, normalised as the host does.
        visible: (R, K), bool.
        qkv: The host's projection to queries, keys and values, one after the other.
        out: The host's projection of the heads' outputs.
        heads: Number of heads.
        dropout: Rate of dropout of the weights.
    """
    q, k, v = rearrange(qkv(x), "r k (part h d) -> part r h k d", part=3, h=heads)
    x = F.scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None, None], dropout_p=dropout)
    attended: Tensor = out(rearrange(x, "r h k d -> r k (h d)"))
    return attended


def encode_vit(vit: Any, images: Tensor, regions: Regions) -> ImageFeatures:
    """Encode images (B, 3, height, width) and regions with a ViT that has the attributes of timm's first one.

    That is the ViT of the official ALBEF and X-VLM code and of LAVIS. Its blocks take no mask.
    """
    x = vit.patch_embed(images)
    x = torch.cat([repeat(vit.cls_token, "1 1 d -> b 1 d", b=len(x)), x], dim=1)
    x = vit.pos_drop(x + vit.pos_embed[:, : x.shape[1]])
    tokens, mask, seen, visible = encode_with_regions(x, vit.blocks, regions, lambda b, t: b(t), _vit_block)
    return ImageFeatures(vit.norm(tokens), mask, vit.norm(seen), visible)


def _vit_block(block: Any, x: Tensor, visible: Tensor) -> Tensor:
    attention = block.attn
    dropout = attention.attn_drop.p if attention.training else 0.0
    attended = attend(block.norm1(x), visible, attention.qkv, attention.proj, attention.num_heads, dropout)
    x = x + block.drop_path(attention.proj_drop(attended))
    x = x + block.drop_path(block.mlp(block.norm2(x)))
    return x
