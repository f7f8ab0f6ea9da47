"""Linear layers of what an elementwise step gives, which is computed again in the backward pass instead of kept.

A norm or an activation costs next to nothing beside the product that follows, and its result is as large: of a ViT's
activations these are a third. Value and gradients are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

LARGE = 1 << 19
"""Numbers from which a tensor is not kept: for small ones the bookkeeping costs more time than the step itself."""


def linear_of(step: Callable[[Tensor], Tensor], x: Tensor, linear: nn.Linear) -> Tensor:
    """`linear(step(x))`, of which only `x` is kept for the backward pass if it is large.

    Recomputation ends where `step(x)` is known, so that the product is not computed twice.

    Args:
        step: A function without randomness, such as a norm or an activation.
        x: Tokens, (..., D).
        linear: The layer.
    """
    small = x.numel() < LARGE or not torch.is_grad_enabled()
    if small or type(linear) is not nn.Linear or torch.compiler.is_compiling():
        return linear(step(x))  # type: ignore[no-any-return]
    return checkpoint(_composed, step, x, linear, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]


def _composed(step: Callable[[Tensor], Tensor], x: Tensor, linear: nn.Linear) -> Tensor:
    return F.linear(step(x), linear.weight, linear.bias)
