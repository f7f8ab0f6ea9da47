"""Region encoding for the ViTs of other codebases: attention restricted to a box, with the host's own modules.

In shapes: B images, R regions, K tokens of an image, D their width.
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
"""Number of last blocks whose attention is restricted to a region (official X-VLM: `local_attn_depth`)."""


def encode_with_regions(
    x: Tensor,
    blocks: Sequence[Any],
    regions: Regions,
    whole: Callable[[Any, Tensor], Tensor],
    inside: Callable[[Any, Tensor, Tensor], Tensor],
    first: int = 1,
) -> ImageFeatures:
    """Run a ViT's blocks on images and, the last `REGION_DEPTH` of them, on regions with restricted attention.

    A region starts from the tokens of its image, so it knows its context, as in X-VLM and in our own ViT.

    Args:
        x: Embedded tokens of the images, (B, K, D).
        blocks: The blocks in order.
        regions: The regions.
        whole: Runs a block on tokens.
        inside: Runs a block on tokens (R, K, D) with a mask (R, K) of those that may be attended to, bool.
        first: Number of tokens before the patches ([CLS]), which regions attend to as well.

    Returns:
        Tokens before the last norm, and masks.
    """
    # First blocks: whole images only, (B, K, D).
    shared = max(len(blocks) - REGION_DEPTH, 0)
    for block in blocks[:shared]:
        x = whole(block, x)
    # Last blocks: images (B, K, D), and regions (R, K, D) with a mask of their keys (R, K).
    visible = F.pad(regions.patch_mask, (first, 0), value=True)
    seen = x[regions.image_index]
    for block in blocks[shared:]:
        x, seen = whole(block, x), inside(block, seen, visible)
    return ImageFeatures(x, all_visible(x), seen, visible)


def all_visible(tokens: Tensor) -> Tensor:
    """A mask of ones for tokens (B, K, D): (B, K), bool."""
    return tokens.new_ones(tokens.shape[:2], dtype=torch.bool)


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive attention mask (R, 1, K, K) of visible keys (R, K): 0 at these, minus infinity at others."""
    mask = torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, float("-inf"))
    return repeat(mask, "r keys -> r 1 queries keys", queries=visible.shape[1])


def attend(x: Tensor, visible: Tensor, qkv: nn.Module, out: nn.Module, heads: int, dropout: float = 0.0) -> Tensor:
    """Masked self-attention of tokens (R, K, D), for hosts whose own attention takes no mask.

    Args:
        x: Tokens after the host's layer norm.
        visible: True at tokens that may be attended to, (R, K), bool.
        qkv: The host's linear layer for queries, keys and values, in this order.
        out: The host's output projection.
        heads: Number of heads.
        dropout: Dropout probability of the attention weights.
    """
    # Split into heads (R, heads, K, D / heads), attend, and merge the heads to (R, K, D).
    q, k, v = rearrange(qkv(x), "r k (part h d) -> part r h k d", part=3, h=heads)
    x = F.scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None, None], dropout_p=dropout)
    attended: Tensor = out(rearrange(x, "r h k d -> r k (h d)"))
    return attended


def encode_vit(vit: Any, images: Tensor, regions: Regions) -> ImageFeatures:
    """Encode images (B, 3, height, width) and regions with the ViT of the official ALBEF and X-VLM and of LAVIS.

    It has the attributes of timm's first ViT, and its blocks take no mask.
    """
    # Embed: [CLS] and patches, (B, K, D).
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
