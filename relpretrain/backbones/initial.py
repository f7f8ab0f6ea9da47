"""Initialisation of weights."""

from __future__ import annotations

from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from torch import Tensor, nn

EMBEDDING_STD = 0.02


def init_weights(module: nn.Module, std: float) -> None:
    """Initialise weights as BERT does: normal, with biases 0.

    Args:
        module: Its embeddings and linear layers are initialised.
        std: Standard deviation of the linear layers; that of embeddings, which a layer norm follows, is 0.02.
    """
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=EMBEDDING_STD)
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def sincos_positions(grid: tuple[int, int], width: int, std: float) -> Tensor:
    """2D sine-cosine position embeddings, (rows * columns, width).

    Those of MAE and MoCo v3, centred and scaled to a given standard deviation. Close positions have similar embeddings,
    and a linear map tells which of two is further left, wherever they are.

    Args:
        grid: Rows and columns.
        width: Width of the tokens, a multiple of 4.
        std: Standard deviation of all numbers; a single position gets 0.
    """
    waves: Tensor = build_sincos2d_pos_embed(list(grid), width)
    waves = waves - waves.mean(dim=0)
    return waves * (std / waves.square().mean().sqrt().clamp(min=1e-6))
