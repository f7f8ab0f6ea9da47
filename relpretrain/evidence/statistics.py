"""How sure a mean over seeds is: Student's t intervals of means and of paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

LEVEL = 0.95
"""Share of the intervals that cover the true mean, if seeds' values are normally distributed."""


class Estimate(NamedTuple):
    """A mean over seeds, of shares or of differences of shares, with its interval.

    Args:
        mean: The mean; NaN without seeds.
        low: Lower bound of its 95 % interval; NaN with fewer than two seeds, which give none.
        high: Upper bound, likewise.
        seeds: Number of seeds.
    """

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def percent(self) -> str:
        """As a share: "93.8 (91.3 to 96.0)" percent."""
        return self._words("")

    @property
    def points(self) -> str:
        """As a difference: "+1.2 (-2.0 to +4.4)" percentage points."""
        return self._words("+")

    @property
    def sign(self) -> int:
        """1 or -1 if the interval is above or below 0, as it is shown, with one decimal; 0 if neither or none."""
        return int(self.seeds > 1) * (int(round(100 * self.low, 1) > 0) - int(round(100 * self.high, 1) < 0))

    def _words(self, sign: str) -> str:
        if not self.seeds:
            return "not run"
        interval = f"{hundredths(self.low, sign)} to {hundredths(self.high, sign)}" if self.seeds > 1 else "one seed"
        return f"{hundredths(self.mean, sign)} ({interval})"


def hundredths(share: float, sign: str = "") -> str:
    """A share in percent with one decimal, with its sign if `sign` is "+"; never "-0.0"."""
    return f"{round(100 * share, 1) + 0.0:{sign}.1f}"


def mean_over_seeds(shares: Sequence[float]) -> Estimate:
    """The mean of one figure of several runs.

    Args:
        shares: The figure of each seed, in [0, 1]; the interval is cut to that range.
    """
    mean, low, high, seeds = _student(shares)
    return Estimate(mean, max(low, 0.0) if seeds > 1 else low, min(high, 1.0) if seeds > 1 else high, seeds)


def paired_difference(control: Mapping[int, float], treatment: Mapping[int, float]) -> Estimate:
    """Mean of treatment minus control within a seed, over the seeds that both have.

    Args:
        control: Figures by seed.
        treatment: Likewise.
    """
    return _student([treatment[seed] - control[seed] for seed in sorted(control.keys() & treatment.keys())])


@lru_cache
def t_quantile(level: float, freedom: int) -> float:
    """Bound below which the absolute value of a t-distributed number stays with some probability.

    With t = sqrt(freedom) tan(angle), that probability is a finite sum in sine and cosine of the angle (Abramowitz and
    Stegun, 1964, 26.7.3 and 26.7.4), which grows with the angle: halving finds it.

    Args:
        level: The probability, in [0, 1).
        freedom: Degrees of freedom, at least 1.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def _within(angle: float, freedom: int) -> float:
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for power in range(odd, freedom - 1, 2):  # powers of the cosine: odd ones, or even ones
        total += term
        term *= (power + 1) / (power + 2) * cosine**2
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def _student(values: Sequence[float]) -> Estimate:
    seeds = len(values)
    if not seeds:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = math.fsum(values) / seeds
    if seeds == 1:
        return Estimate(mean, math.nan, math.nan, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (seeds - 1)
    margin = t_quantile(LEVEL, seeds - 1) * math.sqrt(variance / seeds)
    return Estimate(mean, mean - margin, mean + margin, seeds)
