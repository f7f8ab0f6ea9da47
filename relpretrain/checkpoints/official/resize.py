"""Resize weights to another image size: position embeddings of a ViT, relative position biases of a Swin."""

from __future__ import annotations

import math

import numpy as np
import torch
from einops import rearrange
from scipy.interpolate import make_interp_spline
from timm.layers import resample_abs_pos_embed
from torch import Tensor

Floats = np.ndarray


def resize_positions(positions: Tensor, side: int) -> Tensor:
    """Resize a ViT's position embeddings bicubically, as the official ALBEF code does; that of [CLS] stays.

    Args:
        positions: (1, 1 + old side^2, width).
        side: Patches in a row of the new images.

    Returns:
        (1, 1 + side^2, width)
    """
    # The official code does not filter (timm's default `antialias`) where it makes the grid smaller.
    resized: Tensor = resample_abs_pos_embed(positions, [side, side], antialias=False)
    return resized


def resize_bias_table(table: Tensor, window: int) -> Tensor:
    """Resize a Swin's table of relative position biases by BEiT's rule, as X-VLM does.

    The old distances are placed among the new ones as a geometric progression, so that close patches keep their biases;
    a cubic spline through them is evaluated at the new distances.

    Args:
        table: ((2 old window - 1)^2, heads).
        window: Width of the new window, in patches.

    Returns:
        ((2 window - 1)^2, heads)
    """
    source, target = math.isqrt(len(table)), 2 * window - 1
    if source == target:
        return table
    # Weights of the old distances at each new one, along one axis, (target, source).
    old = spread(source, target)
    new = (np.arange(target) - target // 2.0).clip(old[0], old[-1])
    weights = make_interp_spline(old, np.eye(source), k=min(3, source - 1))(new)
    # The spline of both axes, for each head.
    values = rearrange(table.double().numpy(), "(a b) heads -> a b heads", a=source)
    resized = np.einsum("ia,jb,abh->ijh", weights, weights, values)
    return torch.from_numpy(rearrange(resized, "i j heads -> (i j) heads")).to(table.dtype)


def spread(source: int, target: int) -> Floats:
    """Positions of `source` distances among `target` ones: 0, +-1, +-(1 + q), +-(1 + q + q^2), ...

    The ratio q in [1.01, 1.5] is found by bisection, so that the last distance is `target` // 2.
    """
    half, low, high = source // 2, 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (ratio**half - 1) / (ratio - 1) > target // 2:
            high = ratio
        else:
            low = ratio
    distances = np.cumsum(ratio ** np.arange(half))
    return np.concatenate([-distances[::-1], [0.0], distances])
