"""Weights for another image size: position embeddings of a ViT, bias tables of a Swin."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Floats = np.ndarray


def resize_positions(positions: Tensor, side: int) -> Tensor:
    """Resize a ViT's position embeddings bicubically, as the official ALBEF code does; [CLS] keeps its own.

    Args:
        positions: (1, 1 + old side^2, width).
        side: Patches in a row of the new images.

    Returns:
        (1, 1 + side^2, width)
    """
    cls, grid = positions[:, :1], positions[:, 1:]
    old = math.isqrt(grid.shape[1])
    if old == side:
        return positions
    square = grid.reshape(1, old, old, -1).permute(0, 3, 1, 2).float()
    resized = F.interpolate(square, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([cls, resized.permute(0, 2, 3, 1).flatten(1, 2).to(grid.dtype)], 1)


def resize_bias_table(table: Tensor, window: int) -> Tensor:
    """Resize a Swin's table of relative position biases by BEiT's rule, which X-VLM follows.

    The old distances are spread over the new ones in a geometric progression, so that near patches keep their biases;
    a cubic spline through them is read at the new distances.

    Args:
        table: ((2 old window - 1)^2, heads).
        window: The new window, in patches.

    Returns:
        ((2 window - 1)^2, heads)
    """
    source, target = math.isqrt(len(table)), 2 * window - 1
    if source == target:
        return table
    old = spread(source, target)
    new = np.arange(target) - target // 2.0
    weights = _spline_weights(old, new.clip(old[0], old[-1]))  # (target, source)
    values = table.double().numpy().reshape(source, source, -1)
    resized = np.einsum("ia,jb,abh->ijh", weights, weights, values)
    return torch.from_numpy(resized.reshape(target * target, -1)).to(table.dtype)


def spread(source: int, target: int) -> Floats:
    """Where `source` distances lie among `target` ones: 0, +-1, +-(1 + q), +-(1 + q + q^2), ...

    The ratio q in [1.01, 1.5] is the one whose last distance is `target` // 2, found by bisection.
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


def _spline_weights(at: Floats, read: Floats) -> Floats:
    """Weights (read, at) with which values at `at` make their cubic spline (ends "not a knot") at `read`."""
    degree = min(3, len(at) - 1)
    inner = at[2:-2] if degree == 3 else at[:0]
    knots = np.concatenate([[at[0]] * (degree + 1), inner, [at[-1]] * (degree + 1)])
    weights: Floats = np.linalg.solve(_splines(knots, degree, at).T, _splines(knots, degree, read).T).T
    return weights


def _splines(knots: Floats, degree: int, x: Floats) -> Floats:
    """Values (x, splines) of the B-splines over some knots, by the recursion of Cox and de Boor."""
    last = len(knots) - degree - 2  # the interval that holds the right end
    interval = np.clip(np.searchsorted(knots, x, side="right") - 1, degree, last)
    values: Floats = (np.arange(len(knots) - 1) == interval[:, None]).astype(float)
    for order in range(1, degree + 1):
        count = len(knots) - 1 - order
        left, right = knots[:count], knots[order + 1 :]
        rise = _share(x[:, None] - left, knots[order : order + count] - left)
        fall = _share(right - x[:, None], right - knots[1 : 1 + count])
        values = rise * values[:, :-1] + fall * values[:, 1:]
    return values


def _share(part: Floats, whole: Floats) -> Floats:
    share: Floats = np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), 0.0)
    return share
