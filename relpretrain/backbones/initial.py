"""New weights."""

from __future__ import annotations

from torch import nn

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
