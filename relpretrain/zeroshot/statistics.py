"""How sure a share is: bootstrap intervals, and the comparison of two models on the same items."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

SAMPLES = 10_000
"""Bootstrap samples behind an interval."""


class Interval(NamedTuple):
    """A mean with the bounds of its confidence interval."""

    value: float
    low: float
    high: float


class Paired(NamedTuple):
    """What two models' results on the same items say of their difference (second minus first)."""

    difference: float
    low: float
    high: float
    p_value: float  # exact McNemar test, two-sided
    gained: int  # items that only the second gets right
    lost: int  # items that only the first gets right


def bootstrap_interval(values: ArrayLike, seed: int = 0, level: float = 0.95, samples: int = SAMPLES) -> Interval:
    """Mean of per-item values with its percentile bootstrap interval (Efron, 1979).

    How often each distinct value is drawn follows a multinomial distribution, so that all resamples are one draw from
    it; for outcomes of 0 and 1 that costs the same for ten items as for ten thousand.

    Args:
        values: (items,), for example 1 where an item was right.
        seed: Seed of the resampling.
        level: Share of the resampled means inside the interval.
        samples: Number of resamples.

    Returns:
        Mean, lower and upper bound; all NaN without items.

    Raises:
        ValueError: If a value is not a finite number.
    """
    values = np.asarray(values, dtype=np.float64)
    if not values.size:
        return Interval(math.nan, math.nan, math.nan)
    if not np.isfinite(values).all():
        raise ValueError("Per-item values must be finite numbers to be averaged; found NaN or infinity.")
    low, high = _percentiles(values, seed, level, samples)
    return Interval(float(values.mean()), low, high)


def compare_paired(
    first: ArrayLike, second: ArrayLike, seed: int = 0, level: float = 0.95, samples: int = SAMPLES
) -> Paired:
    """Compare two models on the same items.

    Args:
        first: Whether the first model got each item right, (items,).
        second: Likewise the second, in the same order.
        seed: Seed of the resampling of items.
        level: Level of the interval of the difference.
        samples: Number of resamples.

    Returns:
        The difference of the shares with its percentile bootstrap interval over items, and the p-value.

    Raises:
        ValueError: If the two do not have the same number of items, or there are none.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise ValueError(f"A paired comparison needs the same items twice; got results of shapes {a.shape}, {b.shape}.")
    change = b.astype(np.float64) - a
    low, high = _percentiles(change, seed, level, samples)
    gained, lost = int((b & ~a).sum()), int((a & ~b).sum())
    return Paired(float(change.mean()), low, high, mcnemar(gained, lost), gained, lost)


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided McNemar p-value (McNemar, 1947): are both kinds of disagreement equally likely?

    Args:
        gained: Items that only the second model gets right.
        lost: Items that only the first gets right.
    """
    total, term, tail = gained + lost, 1, 1
    for k in range(1, min(gained, lost) + 1):
        term = term * (total - k + 1) // k
        tail += term
    return min(1.0, float(2 * tail / 2**total))


def _percentiles(values: NDArray[np.float64], seed: int, level: float, samples: int) -> tuple[float, float]:
    distinct, counts = np.unique(values, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=samples)
    low, high = np.quantile(draws @ distinct / len(values), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
