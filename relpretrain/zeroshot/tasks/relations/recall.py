"""Recall@K of triplets: at which rank was each annotated triplet predicted, and what follows from that."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

MAX_RANK = 100
"""Ranks beyond this are not looked at."""


def overlaps(boxes: Tensor) -> Tensor:
    """Intersection over union of every two boxes (x_min, y_min, x_max, y_max), (n, 4): (n, n)."""
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    both = (high - low).clamp(min=0).prod(dim=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    share: Tensor = both / (area[:, None] + area[None, :] - both).clamp(min=1e-12)
    return share


def interchangeable(labels: Sequence[str], boxes: Tensor) -> Tensor:
    """Whether two entities stand for each other: the same label, and boxes that overlap by half or more, (n, n)."""
    alike = torch.tensor([[a == b for b in labels] for a in labels])
    return alike & (overlaps(boxes) >= 0.5) | torch.eye(len(labels), dtype=torch.bool)


def ranks(scores: Tensor, pairs: Tensor, truth: Tensor, same: Tensor, constraint: bool) -> list[int | None]:
    """The rank at which each annotated triplet was predicted, from 1; None beyond the first 100.

    Equal scores count against the triplet: a prediction that scores the same ranks before it, and a pair whose best
    relation is not alone at the top predicts none. So the order of pairs and relations makes no difference.

    Args:
        scores: Score of each relation for each pair, (pairs, relations); -inf where a relation cannot be predicted.
        pairs: Subject and object of each pair, as numbers of entities, (pairs, 2).
        truth: Subject, object and relation of each annotated triplet, (triplets, 3).
        same: Whether two entities stand for each other, see `interchangeable`, (n, n).
        constraint: Whether each pair predicts its best relation only (graph constraint), or all of them.
    """
    found: list[int | None] = []
    top, best = scores.max(dim=1)
    alone = (scores == top[:, None]).sum(dim=1) == 1
    levels = torch.sort(top if constraint else scores.flatten()).values
    for subject, target, relation in truth.tolist():
        match = same[subject, pairs[:, 0]] & same[target, pairs[:, 1]] & torch.isfinite(scores[:, relation])
        if constraint:
            match &= alone & (best == relation)
        if not match.any():
            found.append(None)
            continue
        score = scores[match, relation].max()
        rank = len(levels) - int(torch.searchsorted(levels, score))  # as many score this or more
        found.append(rank if rank <= MAX_RANK else None)
    return found


def recall(hits: Sequence[bool], images: Sequence[str]) -> list[float]:
    """Share of an image's triplets that were hit, for each image: recall@K is its mean."""
    by_image: dict[str, list[bool]] = {}
    for hit, image in zip(hits, images, strict=True):
        by_image.setdefault(image, []).append(hit)
    return [sum(values) / len(values) for values in by_image.values()]


def mean_recall(hits: Sequence[bool], images: Sequence[str], relations: Sequence[str]) -> float:
    """The mean over relations of each one's mean recall over the images that have it (Chen et al.; Tang et al., 2019).

    Relations that no image has are left out; the code of Tang et al. counts them as zero.
    """
    means = []
    for relation in dict.fromkeys(relations):
        chosen = [i for i, name in enumerate(relations) if name == relation]
        means.append(np.mean(recall([hits[i] for i in chosen], [images[i] for i in chosen])))
    return float(np.mean(means)) if means else float("nan")
