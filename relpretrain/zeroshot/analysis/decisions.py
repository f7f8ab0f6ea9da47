"""What makes an item right: the decision rules of the benchmarks; and figures of whole score lists."""

from __future__ import annotations

import torch
from torch import Tensor


def require_finite(scores: Tensor, what: str = "scores") -> Tensor:
    """Return scores as float64, or refuse NaN and infinity, which would silently count as wrong answers.

    Raises:
        ValueError: Naming how many values are not finite, and the first.
    """
    scores = scores.double()
    bad = (~torch.isfinite(scores)).nonzero().flatten()
    if len(bad):
        first = int(bad[0])
        raise ValueError(f"{len(bad)} of {len(scores)} {what} are not finite numbers (first: item {first} is "
                         f"{float(scores[first])}); the model or the score file is broken.")  # fmt: skip
    return scores


def finite_rows(scores: Tensor) -> Tensor:
    """Return scores (items, options) as float64, or refuse items with NaN or infinity, by their number.

    Raises:
        ValueError: As `require_finite`.
    """
    scores = scores.double()
    require_finite(torch.where(torch.isfinite(scores).all(dim=1), scores[:, 0], torch.nan))
    return scores


def choice_correct(scores: Tensor, ties_win: bool = False) -> Tensor:
    """Whether the right option scores best.

    Args:
        scores: Scores of the options, the right one first, (items, options).
        ties_win: Whether the right one also wins where another scores the same: argmax over options of which the right
            one comes first.

    Returns:
        (items,), bool.
    """
    scores = finite_rows(scores)
    best = scores[:, 1:].amax(dim=1)
    return scores[:, 0] >= best if ties_win else scores[:, 0] > best


def choice_tied(scores: Tensor) -> Tensor:
    """Whether the best wrong option scores exactly as the right one, which is the first of (items, options)."""
    return scores[:, 0] == scores[:, 1:].amax(dim=1)


def square_correct(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether two texts and two images are matched up (Winoground), all comparisons strict.

    Args:
        scores: Scores of (text 0, image 0), (text 0, image 1), (text 1, image 0) and (text 1, image 1), (items, 4).

    Returns:
        Whether each image prefers its text, whether each text prefers its image, and whether both hold; (items,) each.
    """
    s00, s01, s10, s11 = finite_rows(scores).unbind(dim=1)
    text = (s00 > s10) & (s11 > s01)
    image = (s00 > s01) & (s11 > s10)
    return text, image, text & image


def threshold_correct(scores: Tensor, labels: Tensor, threshold: float = 0.5) -> Tensor:
    """Whether a match probability is on its label's side of a threshold; exactly on it means "true" (VSR).

    Args:
        scores: Match probabilities, (items,).
        labels: 1 where the text is true of the image, else 0, (items,).
        threshold: Lowest score that means "true".

    Returns:
        (items,), bool.

    Raises:
        ValueError: If a score is not a probability, or a label neither 0 nor 1.
    """
    scores, labels = probabilities(scores, labels)
    return (scores >= threshold) == labels


def auroc(scores: Tensor, labels: Tensor) -> Tensor:
    """Area under the ROC curve: chance that a true item scores higher than a false one; equal scores count half.

    Args:
        scores: (items,).
        labels: 1 or 0, (items,).

    Returns:
        A scalar; NaN when a class is missing.
    """
    from scipy.stats import rankdata  # takes a second to import

    scores, labels = require_finite(scores), labels.bool()
    ranks = torch.from_numpy(rankdata(scores.cpu().numpy()))  # from 1; equal scores share their mean rank
    positives, negatives = labels.sum(), (~labels).sum()
    wins = ranks[labels.cpu()].sum() - positives * (positives + 1) / 2
    area: Tensor = wins / (positives * negatives)
    return area


def calibration_error(scores: Tensor, labels: Tensor, bins: int = 10) -> Tensor:
    """Expected calibration error: how far match probabilities are from the share of true items (Naeini et al., 2015).

    Args:
        scores: Match probabilities, (items,).
        labels: 1 or 0, (items,).
        bins: Number of bins of equal width over [0, 1].

    Returns:
        Mean distance between probability and share over the bins, weighted by items; NaN without items.
    """
    scores, labels = probabilities(scores, labels)
    index = (scores * bins).long().clamp(max=bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64, device=scores.device).index_add_(0, index, scores - labels.double())
    return gap.abs().sum() / len(scores)


def probabilities(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores as float64 and labels as bool.

    Raises:
        ValueError: If a score is not a probability, or a label neither 0 nor 1.
    """
    scores = require_finite(scores)
    outside = (scores < 0) | (scores > 1)
    if outside.any():
        raise ValueError(f"Match probabilities lie between 0 and 1; found {float(scores[outside][0])}. Logits need a "
                         "softmax first.")  # fmt: skip
    if not ((labels == 0) | (labels == 1)).all():
        raise ValueError(f"Labels must be 0 or 1; found {sorted(set(labels.tolist()))}.")
    return scores, labels.bool()
