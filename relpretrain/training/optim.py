"""AdamW with decay for matrices only, and a learning rate that is a function of the step."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from relpretrain.errors import ConfigError

Decay = Literal["linear", "cosine", "constant"]


@dataclass(frozen=True)
class Optimizer:
    """How the parameters are updated (defaults: arXiv 2305.14281, Table 4; the decay to zero is ours).

    Args:
        lr: Learning rate after the warm-up.
        weight_decay: Decoupled weight decay of matrices; biases, norms and single numbers have none.
        betas: Decay rates of AdamW's moments.
        eps: AdamW's epsilon.
        warmup_steps: Optimizer steps over which the learning rate rises linearly.
        decay: How it falls from there to `min_lr` at the last step.
        min_lr: Learning rate of the last step.
    """

    lr: float = 1e-4
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    warmup_steps: int = 5000
    decay: Decay = "linear"
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers that cannot train."""
        if not self.lr > 0 or not 0 <= self.min_lr <= self.lr:
            raise ConfigError(f"optimizer: needs 0 < lr and 0 <= min_lr <= lr, got lr={self.lr}, min_lr={self.min_lr}")
        if self.weight_decay < 0 or self.warmup_steps < 0:
            raise ConfigError(
                f"optimizer: weight_decay={self.weight_decay} and warmup_steps={self.warmup_steps} must not be negative"
            )
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optimizer: betas={list(self.betas)} must be two numbers in [0, 1)")


def learning_rate(step: int, optimizer: Optimizer, total_steps: int) -> float:
    """Learning rate of an optimizer step.

    Args:
        step: Number of the step, from 0.
        optimizer: Its peak, warm-up and decay.
        total_steps: Steps of the whole training, warm-up included.

    Returns:
        lr * (step + 1) / warmup_steps during the warm-up, then the decay to `min_lr`, which the last step has.
    """
    if step < optimizer.warmup_steps:
        return optimizer.lr * (step + 1) / optimizer.warmup_steps
    if optimizer.decay == "constant":
        return optimizer.lr
    done = (step - optimizer.warmup_steps + 1) / max(total_steps - optimizer.warmup_steps, 1)
    done = min(done, 1.0)
    left = 1 - done if optimizer.decay == "linear" else (1 + math.cos(math.pi * done)) / 2
    return optimizer.min_lr + (optimizer.lr - optimizer.min_lr) * left


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split trainable parameters into those with decay (matrices and more) and those without (vectors, scalars)."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]


def build(
    module: nn.Module, optimizer: Optimizer, total_steps: int, fused: bool = False
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """Build AdamW and the schedule, to be advanced once per optimizer step."""
    groups = parameter_groups(module, optimizer.weight_decay)
    adamw = torch.optim.AdamW(
        groups, lr=optimizer.lr, betas=(optimizer.betas[0], optimizer.betas[1]), eps=optimizer.eps, fused=fused
    )
    factor = functools.partial(_factor, optimizer=optimizer, total_steps=total_steps)
    return adamw, torch.optim.lr_scheduler.LambdaLR(adamw, factor)


def _factor(step: int, optimizer: Optimizer, total_steps: int) -> float:
    return learning_rate(step, optimizer, total_steps) / optimizer.lr
