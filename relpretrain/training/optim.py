"""AdamW with decay for matrices only, and a learning rate that is a function of the step."""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from relpretrain.errors import ConfigError

Decay = Literal["linear", "cosine", "constant", "albef"]
Groups = Literal["matrices", "albef", "xvlm"]

ALBEF_JUMPS, ALBEF_JUMP_STEPS = 20, 100
"""The official warm-up of ALBEF: so many jumps, one every so many steps."""

_NEW = re.compile(
    r"backbone\.(fusion\.layers\.\d+\.cross|(image|text)_projection\.|(itm|box)_head\.|scale\.)|objectives\."
)
_UNDECAYED_IN_XVLM = re.compile(r"bias|norm\w*\.weight")


@dataclass(frozen=True)
class Optimizer:
    """How the parameters are updated (defaults: arXiv 2305.14281, Table 4; the decay to zero is ours).

    Args:
        lr: Learning rate after the warm-up.
        weight_decay: Decoupled weight decay of whatever `groups` says.
        betas: Decay rates of AdamW's moments.
        eps: AdamW's epsilon.
        warmup_steps: Optimizer steps over which the learning rate rises linearly.
        decay: How it falls from there to `min_lr` at the last step; "albef" is that code's own, warm-up included.
        min_lr: Learning rate of the last step.
        steps_per_epoch: What "albef" counts in.
        groups: What decays: "matrices" (all but biases, norms and single numbers), or as the official "albef" (which
            also decays the temperature) or "xvlm" (which also decays the norms in its heads).
        new_lr: Factor of the learning rate of what no pretrained encoder brings: cross-attention, projections, heads,
            temperature (2 in X-VLM).
    """

    lr: float = 1e-4
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    warmup_steps: int = 5000
    decay: Decay = "linear"
    min_lr: float = 0.0
    steps_per_epoch: int | None = None
    groups: Groups = "matrices"
    new_lr: float = 1.0

    def __post_init__(self) -> None:
        """Refuse numbers that cannot train."""
        if not self.lr > 0 or not 0 <= self.min_lr <= self.lr:
            raise ConfigError(f"optimizer: needs 0 < lr and 0 <= min_lr <= lr, got lr={self.lr}, min_lr={self.min_lr}")
        if self.weight_decay < 0 or self.warmup_steps < 0:
            raise ConfigError(
                f"optimizer: weight_decay={self.weight_decay} and warmup_steps={self.warmup_steps} must not be negative"
            )
        if self.decay == "albef" and not (self.steps_per_epoch and self.steps_per_epoch > 0):
            raise ConfigError(
                f"optimizer: decay='albef' changes once an epoch and needs steps_per_epoch, got {self.steps_per_epoch}"
            )
        if not self.new_lr > 0:
            raise ConfigError(f"optimizer: new_lr={self.new_lr} must be above 0")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optimizer: betas={list(self.betas)} must be two numbers in [0, 1)")


def learning_rate(step: int, optimizer: Optimizer, total_steps: int) -> float:
    """Learning rate of an optimizer step.

    Args:
        step: Number of the step, from 0.
        optimizer: Its peak, warm-up and decay.
        total_steps: Steps of the whole training, warm-up included.

    Returns:
        lr * (step + 1) / warmup_steps during the warm-up, then the decay to `min_lr`, which the last step has; with
        "albef" see `albef_learning_rate`.
    """
    if optimizer.decay == "albef":
        return albef_learning_rate(step, optimizer, total_steps)
    if step < optimizer.warmup_steps:
        return optimizer.lr * (step + 1) / optimizer.warmup_steps
    if optimizer.decay == "constant":
        return optimizer.lr
    done = (step - optimizer.warmup_steps + 1) / max(total_steps - optimizer.warmup_steps, 1)
    done = min(done, 1.0)
    left = 1 - done if optimizer.decay == "linear" else (1 + math.cos(math.pi * done)) / 2
    return optimizer.min_lr + (optimizer.lr - optimizer.min_lr) * left


def albef_learning_rate(step: int, optimizer: Optimizer, total_steps: int) -> float:
    """Learning rate of a step in the official ALBEF code: constant within an epoch, but for jumps up in the first.

    The first epoch climbs from `min_lr` to `lr` in 20 jumps, one after every 100 steps; epoch e of E has
    min_lr + (lr - min_lr) * (1 + cos(pi * e / E)) / 2.
    """
    assert optimizer.steps_per_epoch is not None  # `Optimizer` has checked it
    epoch, inside = divmod(step, optimizer.steps_per_epoch)
    epochs = total_steps / optimizer.steps_per_epoch
    if epoch == 0:
        share = min(max(inside - 1, 0) // ALBEF_JUMP_STEPS / ALBEF_JUMPS, 1.0)  # the official scheduler moves last
    else:
        share = (1 + math.cos(math.pi * min(epoch / epochs, 1.0))) / 2
    return optimizer.min_lr + (optimizer.lr - optimizer.min_lr) * share


def decays(name: str, parameter: nn.Parameter, groups: Groups) -> bool:
    """Whether a parameter decays.

    The official rules ask for official names; these are the same rules in ours. A ViT's [CLS] and positions decay in
    all of them.

    Args:
        name: Its name in the `RelationModule`.
        parameter: The parameter.
        groups: See `Optimizer`.
    """
    if groups == "xvlm":
        return not _UNDECAYED_IN_XVLM.search(name)
    return parameter.ndim >= 2 or (groups == "albef" and name.endswith("scale.value"))


def parameter_groups(module: nn.Module, optimizer: Optimizer) -> list[dict[str, Any]]:
    """Split trainable parameters by weight decay, and where `new_lr` is not 1 by learning rate too.

    Returns:
        Groups for an optimizer, those with decay first; none is empty.
    """
    members: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            new = optimizer.new_lr != 1 and _NEW.match(name) is not None
            members.setdefault((new, decays(name, parameter, optimizer.groups)), []).append(parameter)
    return [
        {
            "params": members[new, decay],
            "weight_decay": optimizer.weight_decay if decay else 0.0,
            "lr": optimizer.lr * (optimizer.new_lr if new else 1.0),
        }
        for new, decay in sorted(members, key=lambda kind: (kind[0], not kind[1]))
    ]


def take_settings(
    adamw: torch.optim.AdamW, schedule: torch.optim.lr_scheduler.LambdaLR, module: nn.Module, optimizer: Optimizer
) -> None:
    """Give an optimizer and its schedule this run's numbers: a checkpoint brings those of the run that wrote it.

    Moments and the number of steps stay. Where the numbers are the same, nothing changes, to the bit.

    Args:
        adamw: The optimizer, of `build`.
        schedule: Its schedule, likewise.
        module: Whose parameters they train.
        optimizer: The numbers.
    """
    own = parameter_groups(module, optimizer)
    schedule.base_lrs = [group["lr"] for group in own]
    for group, numbers, factor in zip(adamw.param_groups, own, schedule.lr_lambdas, strict=True):
        group.update({name: adamw.defaults[name] for name in ("betas", "eps", "fused")})
        group.update(weight_decay=numbers["weight_decay"], initial_lr=numbers["lr"])
        group["lr"] = numbers["lr"] * factor(schedule.last_epoch)
    schedule._last_lr = [group["lr"] for group in adamw.param_groups]


def build(
    module: nn.Module, optimizer: Optimizer, total_steps: int, fused: bool = False
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """Build AdamW and the schedule, to be advanced once per optimizer step."""
    groups = parameter_groups(module, optimizer)
    adamw = torch.optim.AdamW(
        groups, lr=optimizer.lr, betas=(optimizer.betas[0], optimizer.betas[1]), eps=optimizer.eps, fused=fused
    )
    factor = functools.partial(_factor, optimizer=optimizer, total_steps=total_steps)
    return adamw, torch.optim.lr_scheduler.LambdaLR(adamw, factor)


def _factor(step: int, optimizer: Optimizer, total_steps: int) -> float:
    return learning_rate(step, optimizer, total_steps) / optimizer.lr
