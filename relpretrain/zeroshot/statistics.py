"""How sure a share is: bootstrap intervals, paired comparison of two models, many tests at once, chosen thresholds."""

from __future__ import annotations

import math
from collections.abc import Sequence
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


class Threshold(NamedTuple):
    """A threshold with the accuracy that it gives on the items that chose it."""

    value: float
    accuracy: float


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


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct the p-values of tests that are read together (Holm, 1979).

    The chance that any true null hypothesis of the family falls below a level is at most that level, whatever the
    tests' dependence.

    Args:
        p_values: Of the family's tests.

    Returns:
        The adjusted p-values, in the order given.

    Raises:
        ValueError: If a value is not in [0, 1].
    """
    if bad := [p for p in p_values if not 0 <= p <= 1]:
        raise ValueError(f"A p-value lies between 0 and 1; found {bad[0]}.")
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(factors * np.asarray(p_values, dtype=np.float64)[order])
    return [float(p) for p in adjusted.clip(max=1.0)]


def best_threshold(scores: ArrayLike, labels: ArrayLike, usual: float = 0.5) -> Threshold:
    """Choose the threshold that decides most items rightly.

    An item is held true if its score is at the threshold or above. All thresholds between two neighbouring scores
    decide alike: the usual one stands for its gap, and the middle for any other. Among the best gaps the one next to
    the usual threshold is chosen.

    Args:
        scores: Match probabilities, or any other scores that are higher where the text is likelier true, (items,).
        labels: 1 where the text is true of the image, else 0, (items,).
        usual: The threshold to keep where no other does better.

    Raises:
        ValueError: If there are no items, a score is not finite, or a label neither 0 nor 1.
    """
    values, wanted = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if values.shape != wanted.shape or values.ndim != 1 or not values.size:
        raise ValueError(f"A threshold is chosen on items with a label each; got {values.shape} and {wanted.shape}.")
    if not np.isfinite(values).all() or not np.isin(wanted, (0, 1)).all():
        raise ValueError("A threshold is chosen on finite scores with labels 0 or 1; found others.")
    distinct, inverse = np.unique(values, return_inverse=True)
    true = np.bincount(inverse, weights=wanted == 1)
    false = np.bincount(inverse, weights=wanted == 0)
    right = true.sum() - np.append(0, true.cumsum()) + np.append(0, false.cumsum())  # by number of scores below
    best = right == right.max()
    lows, highs = np.append(-np.inf, distinct), np.append(distinct, np.inf)
    middles = np.maximum(distinct[:-1] / 2 + distinct[1:] / 2, np.nextafter(distinct[:-1], np.inf))
    chosen = np.concatenate([distinct[:1], middles, np.nextafter(distinct[-1:], np.inf)])[best]
    kept = (best & (lows < usual) & (usual <= highs)).any()
    threshold = usual if kept else min(chosen.tolist(), key=lambda t: abs(t - usual))
    return Threshold(threshold, float(right.max() / len(values)))


def _percentiles(values: NDArray[np.float64], seed: int, level: float, samples: int) -> tuple[float, float]:
    distinct, counts = np.unique(values, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=samples)
    low, high = np.quantile(draws @ distinct / len(values), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
