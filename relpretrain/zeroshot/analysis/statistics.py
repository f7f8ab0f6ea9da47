"""How sure a share is: Wilson intervals, paired comparison of two models, many tests at once, chosen thresholds."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

SAMPLES = 10_000
"""Bootstrap samples behind the interval of a difference."""

Clusters = Sequence[Hashable]
"""What each item shares with others, such as the name of its image; an item with None shares nothing."""


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
    p_value: float  # exact McNemar test by images, two-sided
    gained: int  # items that only the second gets right
    lost: int  # items that only the first gets right


class Threshold(NamedTuple):
    """A threshold with the accuracy that it gives on the items that chose it."""

    value: float
    accuracy: float


def wilson_interval(share: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's score interval of the share of n independent items (1927); its width is above 0 even at 0 and 1.

    `scipy.stats.binomtest(k, n).proportion_ci(method="wilson")` for an n that need not be whole.

    Args:
        share: The share that was found, in [0, 1].
        n: Number of items; an effective number need not be whole.
        level: How often such intervals should hold the true share.

    Returns:
        Share, lower and upper bound; all NaN without items.

    Raises:
        ValueError: If the share is outside [0, 1].
    """
    if not n > 0:
        return Interval(math.nan, math.nan, math.nan)
    if not 0 <= share <= 1:
        raise ValueError(f"A share lies between 0 and 1; got {share}.")
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def share_interval(
    right: ArrayLike,
    clusters: Clusters | NDArray[np.int64] | None = None,
    weights: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """The share of right items with Wilson's interval for their effective sample size.

    Items that share an image are right or wrong together, so that they say less than as many items on images of their
    own. How much less is estimated from the variance between images, as surveys do (Korn and Graubard, 1998), see
    `effective_items`; where every image has one item, this is Wilson's interval.

    Args:
        right: Whether each item was right, (items,).
        clusters: The image of each item, (items,); None for items on images of their own.
        weights: What each item counts, (items,), above 0; None for all alike.
        level: How often such intervals should hold the true share.

    Returns:
        Share, lower and upper bound; all NaN without items.

    Raises:
        ValueError: If the arguments are not of one length, or an item is neither right (1) nor wrong (0).
    """
    y, groups, w = _items(right, clusters, weights)
    if not y.size:
        return Interval(math.nan, math.nan, math.nan)
    return wilson_interval(math.fsum(w * y) / math.fsum(w), effective_items(y, groups, w), level)


def effective_items(
    right: ArrayLike, clusters: Clusters | NDArray[np.int64] | None = None, weights: ArrayLike | None = None
) -> float:
    """Effective sample size: the number of independent items of equal weight with the same variance of the share.

    Their number is divided by the design effect (Kish, 1965): the variance of the images' sums over what it would be
    if all items were independent. Few wrong items would say little of how images go wrong, and none nothing: so, as in
    `compare_paired`, two images of the usual number of items are added for this, one all right and one all wrong. The
    result is at most the number of independent items, and at least that if the items of each image were all right or
    all wrong together.

    Args:
        right: Whether each item was right, (items,).
        clusters: The image of each item, (items,); None for items on images of their own.
        weights: What each item counts, (items,), above 0; None for all alike.
    """
    y, groups, w = _items(right, clusters, weights)
    if not y.size:
        return 0.0
    sums = np.bincount(groups, w)
    least, most = 1 / float((sums**2).sum()), 1 / float((w**2).sum())
    usual = float(sums.mean())
    share = (float(w @ y) + usual) / (1 + 2 * usual)
    between = float((np.bincount(groups, w * (y - share)) ** 2).sum()) + usual**2 * (share**2 + (1 - share) ** 2)
    alone = share * (1 - share) * (1 / most + 2 * usual**2 * len(sums) / len(y))
    return min(max(most * alone / between, least), most)


def mean_share_interval(
    parts: Sequence[ArrayLike], clusters: Sequence[Clusters | None] | None = None, level: float = 0.95
) -> Interval:
    """The plain mean of several shares with its interval, put together from theirs (MOVER; Zou and Donner, 2008).

    The mean's distance to a bound is the root of the sum of the parts' squared distances, each over the number of
    parts; parts whose items share images add their correlation, where it is positive.

    Args:
        parts: Whether each item of a part was right, (items,) each.
        clusters: The images of each part's items, as `share_interval` takes them.
        level: How often such intervals should hold the true mean.

    Returns:
        Mean, lower and upper bound; all NaN without parts, or where one is empty.
    """
    images = list(clusters) if clusters is not None else [None] * len(parts)
    found = [share_interval(part, c, level=level) for part, c in zip(parts, images, strict=True)]
    if not found or any(math.isnan(share.value) for share in found):
        return Interval(math.nan, math.nan, math.nan)
    value, low, high = (np.array(column) for column in zip(*found, strict=True))
    together = _correlation(parts, images)
    down, up = (math.sqrt(gap @ together @ gap) / len(found) for gap in (value - low, high - value))
    mean = float(value.mean())
    return Interval(mean, max(0.0, mean - down), min(1.0, mean + up))


def compare_paired(
    first: ArrayLike,
    second: ArrayLike,
    seed: int = 0,
    level: float = 0.95,
    samples: int = SAMPLES,
    clusters: Clusters | None = None,
) -> Paired:
    """Compare two models on the same items.

    The bootstrap draws images, each with all its items. Two images of the usual number of items are added to those it
    draws from, one that the second model gained and one that it lost, as Bonett and Price (2012) do for the Wald
    interval: two models that never differ on a few items may still differ, and their interval is no point.

    Args:
        first: Whether the first model got each item right, (items,).
        second: Likewise the second, in the same order.
        seed: Seed of the resampling.
        level: Level of the interval of the difference.
        samples: Number of resamples.
        clusters: The image of each item, (items,); None for items on images of their own.

    Returns:
        The difference of the shares with its percentile bootstrap interval, and the p-value, by images as well.

    Raises:
        ValueError: If the two do not have the same number of items, or there are none.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise ValueError(f"A paired comparison needs the same items twice; got results of shapes {a.shape}, {b.shape}.")
    change = b.astype(np.float64) - a
    groups = _numbered(clusters, len(a))
    sizes, sums = np.bincount(groups), np.bincount(groups, change)
    usual = sizes.mean()
    pairs = np.concatenate([np.stack([sizes, sums], axis=1), [[usual, usual], [usual, -usual]]])
    low, high = _percentiles(pairs, seed, level, samples)
    gained, lost = int((b & ~a).sum()), int((a & ~b).sum())
    return Paired(float(change.mean()), low, high, mcnemar(sums), gained, lost)


def mcnemar(sums: ArrayLike) -> float:
    """Exact two-sided p-value of a difference whose items share images: McNemar's test with images for items.

    If neither model is better, exchanging the two on an image changes nothing, so that the sign of each image's
    difference is as likely one as the other: the p-value is the share of all such signs that give a sum as far from 0
    as the one found, or further. Where each image has one item, this is the exact test of McNemar (1947).

    Args:
        sums: Items gained minus items lost on each image, (images,), whole numbers.
    """
    from scipy.stats import binom  # takes a second to import

    found = np.rint(np.asarray(sums, dtype=np.float64)).astype(np.int64)
    total = abs(int(found.sum()))
    if not total:
        return 1.0
    chances = np.ones(1)  # of the sum of |differences| with a plus sign: 0, 1, 2, ...
    sizes, counts = np.unique(np.abs(found[found != 0]), return_counts=True)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        spread = np.zeros(size * count + 1)
        spread[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, spread)
    distance = np.abs(2 * np.arange(len(chances)) - (len(chances) - 1))
    return float(min(1.0, chances[distance >= total].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple comparisons (Holm, 1979).

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
    """The threshold with the highest accuracy on labelled scores.

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


def _percentiles(pairs: NDArray[np.float64], seed: int, level: float, samples: int) -> tuple[float, float]:
    """Bounds of the ratio of resampled sums to resampled sizes; `pairs` are (images, 2): number of items, their sum.

    How often each distinct pair is drawn follows a multinomial distribution, so that all resamples are one draw from
    it, which costs the same for ten images as for ten thousand.
    """
    distinct, counts = np.unique(pairs, axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(pairs), counts / len(pairs), size=samples)
    sizes, sums = (draws @ distinct).T
    low, high = np.quantile(sums / sizes, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _items(
    right: ArrayLike, clusters: Clusters | NDArray[np.int64] | None, weights: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Outcomes as numbers, the number of each one's image, and weights that add up to 1; (items,) each."""
    y = np.asarray(right, dtype=np.float64)
    if y.ndim != 1 or not np.isin(y, (0, 1)).all():
        raise ValueError("Items are right (1) or wrong (0), one after the other; found others.")
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != y.shape or not (w > 0).all():
        raise ValueError(f"Each of {len(y)} items needs a weight above 0; got {w.shape}.")
    return y, _numbered(clusters, len(y)), w / w.sum() if len(w) else w


def _numbered(clusters: Clusters | NDArray[np.int64] | None, n: int) -> NDArray[np.int64]:
    """Numbers from 0 for the images of n items; an item without an image has a number of its own."""
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise ValueError(f"Each of {n} items needs its image; got {len(clusters)}.")
    seen: dict[Hashable, int] = {}
    keys = (("item", i) if image is None else ("image", image) for i, image in enumerate(clusters))
    return np.array([seen.setdefault(key, len(seen)) for key in keys], dtype=np.int64)


def linked(images: Sequence[Sequence[Hashable]]) -> list[int | None]:
    """Numbers of the clusters of items with several images: items that share one, directly or through others.

    Args:
        images: The images of each item; an item without any shares nothing.
    """
    parent: dict[Hashable, Hashable] = {}

    def root(image: Hashable) -> Hashable:
        while parent.setdefault(image, image) != image:
            parent[image] = image = parent[parent[image]]
        return image

    for some in images:
        for image in some[1:]:
            parent[root(image)] = root(some[0])
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(root(some[0]), len(numbers)) if some else None for some in images]


def _correlation(parts: Sequence[ArrayLike], clusters: Sequence[Clusters | None]) -> NDArray[np.float64]:
    """How the shares of parts vary together, in [0, 1], (parts, parts): by the sums of images that several have."""
    seen: dict[Hashable, int] = {}
    count = len(parts)
    rows = [[seen.setdefault(c, len(seen)) for c in images or () if c is not None] for images in clusters]
    sums = np.zeros((len(seen), count))
    for column, (part, images, row) in enumerate(zip(parts, clusters, rows, strict=True)):
        y = np.asarray(part, dtype=np.float64)
        shared = [image is not None for image in images] if images is not None else []
        np.add.at(sums[:, column], row, (y - y.mean())[shared] if row else [])
    spread = np.sqrt((sums**2).sum(axis=0))
    spread[spread == 0] = 1.0
    together: NDArray[np.float64] = (sums / spread).T @ (sums / spread)
    together = together.clip(0.0, 1.0)
    np.fill_diagonal(together, 1.0)
    return together
