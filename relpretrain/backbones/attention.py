"""Attention with dropout on a CPU, for which torch has no kernel: its general way copies and keeps keys and values.

In shapes: n rows, h heads, L queries, K keys, d numbers of a head.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Scaled dot-product attention with dropout of its probabilities, (n, h, L, d).

    Args:
        q: Queries, (n, h, L, d).
        k: Keys, (n, h, K, d).
        v: Values, (n, h, K, d).
        mask: True at keys that may be attended to, (n, 1, 1, K); every row has one. None: all.
        dropout: Probability that a key is left out, in [0, 1).
    """
    known = q.dtype in (torch.float32, torch.bfloat16)  # bf16: torch would copy keys and values to fp32
    plain = q.device.type != "cpu" or not known or not torch.is_grad_enabled()
    if not dropout or plain or torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    attended: Tensor = _Attend.apply(q, k, v, mask, dropout)
    return attended


class _Attend(torch.autograd.Function):
    """Keeps its inputs, which several fusions share, the probabilities, and one byte for each of them."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
        scores = torch.matmul(q, k.transpose(-2, -1)).mul_(q.shape[-1] ** -0.5)
        if mask is not None:
            scores.masked_fill_(~mask, float("-inf"))
        probabilities = scores.softmax(-1)  # rows are summed in fp32 in any case
        kept = torch.empty_like(probabilities, dtype=torch.bool).bernoulli_(1 - dropout)
        ctx.save_for_backward(q, k, v, probabilities, kept)
        ctx.factor = 1 / (1 - dropout)
        return torch.matmul(probabilities * kept, v).mul_(ctx.factor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q, k, v, probabilities, kept = ctx.saved_tensors
        grad = grad * ctx.factor
        to_v = torch.matmul((probabilities * kept).transpose(-2, -1), grad)
        to_scores = torch.matmul(grad, v.transpose(-2, -1)).mul_(kept)
        to_scores = torch._softmax_backward_data(to_scores, probabilities, -1, q.dtype)  # hidden keys have 0
        to_scores.mul_(q.shape[-1] ** -0.5)
        return torch.matmul(to_scores, k), torch.matmul(to_scores.transpose(-2, -1), q), to_v, None, None
