"""How sure a mean of numbers is that are no shares of right items, such as energies of maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from relpretrain.zeroshot.analysis.statistics import Clusters, Interval


def mean_interval(values: ArrayLike, clusters: Clusters | None = None, level: float = 0.95) -> Interval:
    """The mean of numbers with its confidence interval.

    Student's interval, with the variance of the images' sums, as numbers of one image are not independent (Liang and
    Zeger, 1986), and one degree of freedom fewer than there are images. For shares of right items see `statistics`.

    Args:
        values: The numbers, (items,), finite.
        clusters: The image of each item, (items,); None for items on images of their own.
        level: How often such intervals should hold the true mean.

    Returns:
        Mean, lower and upper bound; all NaN without items, the bounds NaN with one image.

    Raises:
        ValueError: If the arguments are not of one length, or a number is not finite.
    """
    from scipy.stats import t  # takes a second to import

    y = np.asarray(values, dtype=np.float64)
    if y.ndim != 1 or not np.isfinite(y).all():
        raise ValueError(f"A mean needs finite numbers, one after the other; got {y.size} of shape {y.shape}.")
    images: Sequence[object] = list(range(len(y))) if clusters is None else list(clusters)
    if len(images) != len(y):
        raise ValueError(f"Each of {len(y)} items needs its image; got {len(images)}.")
    if not y.size:
        return Interval(math.nan, math.nan, math.nan)
    mean = float(y.mean())
    number = {image: i for i, image in enumerate(dict.fromkeys(images))}
    count = len(number)
    if count < 2:
        return Interval(mean, math.nan, math.nan)
    sums = np.bincount([number[image] for image in images], y - mean)
    error = math.sqrt(count / (count - 1) * float((sums**2).sum())) / len(y)
    half = float(t.ppf((1 + level) / 2, count - 1)) * error
    return Interval(mean, mean - half, mean + half)
