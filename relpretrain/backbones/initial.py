"""New weights."""

from __future__ import annotations

from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from torch import Tensor, nn

EMBEDDING_STD = 0.02


def init_weights(module: nn.Module, std: float) -> None:
    """Draw new weights as BERT does: normal, biases 0.

    Args:
        module: Its embeddings and linear layers are drawn anew.
        std: Deviation of the linear layers; embeddings, which a layer norm follows, have `EMBEDDING_STD`.
    """
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=EMBEDDING_STD)
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def sincos_positions(grid: tuple[int, int], width: int, std: float) -> Tensor:
    """Position embeddings that are sines and cosines of row and column, (rows * columns, width).

    Those of MAE and MoCo v3, but about their mean and of a given deviation: near positions are near, and a linear map
    reads off which of two is further left, wherever they are.

    Args:
        grid: Rows and columns.
        width: Width of the tokens, a multiple of 4.
        std: Deviation of all numbers; 0 for a single position.
    """
    waves: Tensor = build_sincos2d_pos_embed(list(grid), width)
    waves = waves - waves.mean(dim=0)
    return waves * (std / waves.square().mean().sqrt().clamp(min=1e-6))
