"""How well samples are mixed: how often neighbours share something, against a random order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIGMAS = 4.0
"""Deviations beyond which an order is not taken for a random one."""


@dataclass(frozen=True)
class Mixing:
    """How often neighbours share a trait.

    Args:
        pairs: Neighbouring pairs of samples.
        shared: Those that share it.
        expected: How many would in a random order of the same samples.
    """

    pairs: int
    shared: int
    expected: float

    @property
    def is_random(self) -> bool:
        """Whether a random order would show as many, within `SIGMAS` standard deviations."""
        std = math.sqrt(self.expected * (1 - self.expected / self.pairs)) if self.pairs else 0.0
        return self.shared <= self.expected + SIGMAS * max(std, 0.5)


def mixing(
    traits: NDArray[np.int64], sizes: NDArray[np.int64] | None = None, order: NDArray[np.int64] | None = None
) -> Mixing:
    """Count neighbours that share a trait.

    Args:
        traits: What the samples have, as numbers, one sample after another, such as their captions; two samples share
            a trait if one number of theirs is equal.
        sizes: How many of them each sample has; None for one each.
        order: The order to judge, as positions of samples; None for theirs.

    Returns:
        The counts. The expectation is the sum over traits of n (n - 1) / samples, n being how many samples have it;
        pairs that share several are counted as several there.
    """
    sizes = np.ones(len(traits), np.int64) if sizes is None else sizes
    order = np.arange(len(sizes)) if order is None else order
    count = len(order)
    if count < 2:
        return Mixing(0, 0, 0.0)
    starts = (np.cumsum(sizes) - sizes)[order]
    own = sizes[order]
    place = np.repeat(np.arange(count), own)
    flat = traits[np.arange(own.sum()) + np.repeat(starts - (np.cumsum(own) - own), own)]
    _, trait = np.unique(flat, return_inverse=True)
    owned = np.unique(np.stack([trait.ravel(), place], axis=1), axis=0)  # (n, 2), by trait and then place
    same = (owned[1:, 0] == owned[:-1, 0]) & (owned[1:, 1] == owned[:-1, 1] + 1)
    shared = len(np.unique(owned[1:, 1][same]))
    held = np.bincount(owned[:, 0]).astype(float)
    expected = float((held * (held - 1)).sum() / count)
    return Mixing(count - 1, shared, min(expected, float(count - 1)))
