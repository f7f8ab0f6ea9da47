"""From scores to probabilities: fitted on some held-out graphs, measured on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relpretrain.identity import folder_digest
from relpretrain.reading import read_json

METHODS = ("platt", "isotonic")
_EDGE = 1e-6  # scores this near to 0 and 1 are as good as those


@dataclass(frozen=True)
class Calibration:
    """A rising function from scores to probabilities.

    Args:
        method: "platt" (Platt, 1999): the logistic function of a * logit(score) + b; a alone is temperature scaling.
            "isotonic" (Zadrozny and Elkan, 2002): straight lines between steps of any heights.
        scores: The numbers a and b; or where the lines bend.
        values: Empty; or the probabilities there.
        about: What it was fitted on, and how well it fits.
    """

    method: str
    scores: tuple[float, ...]
    values: tuple[float, ...] = ()
    about: Mapping[str, Any] | None = None

    def __call__(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Probabilities of scores in [0, 1]; NaN stays NaN."""
        given = np.asarray(scores, np.float64)
        if self.method == "platt":
            return 1 / (1 + np.exp(-np.clip(self.scores[0] * _logit(given) + self.scores[1], -500, 500)))
        return np.where(np.isnan(given), np.nan, np.interp(given, self.scores, self.values))

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {"method": self.method, "scores": self.scores, "values": self.values, "about": dict(self.about or {})}

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what `relpretrain data calibrate` has written.

        Raises:
            ValueError: If it is no such file.
        """
        content = read_json(path, "the calibration of a tagger")
        try:
            numbers = (tuple(map(float, content["scores"])), tuple(map(float, content["values"])))
            found = cls(str(content["method"]), *numbers, content["about"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is no calibration of a tagger ({error!r:.60}): relpretrain data calibrate writes one"
            ) from None
        sizes = (len(found.scores), len(found.values))
        good = sizes == (2, 0) if found.method == "platt" else sizes[0] == sizes[1] > 0
        if found.method not in METHODS or not good or not np.isfinite([*found.scores, *found.values]).all():
            raise ValueError(f"{path} is no calibration of a tagger: write it anew with relpretrain data calibrate")
        return found


def fit(scores: ArrayLike, truth: ArrayLike, method: str = "platt") -> Calibration:
    """Fit a calibration.

    Args:
        scores: In [0, 1], (n,).
        truth: Whether each holds, (n,).
        method: See `Calibration`. Platt's two numbers need little data, and keep all scores apart.

    Raises:
        ValueError: If all or none are true, or the method is unknown.
    """
    from scipy.optimize import minimize  # takes a second to import

    given, true = np.asarray(scores, np.float64), np.asarray(truth, bool)
    positives = int(true.sum())
    if method not in METHODS:
        raise ValueError(f"a calibration is one of {', '.join(METHODS)}, not {method!r}")
    if not 0 < positives < len(true):
        raise ValueError(
            f"{positives} of {len(true)} scored relations are true: a calibration needs true and false ones"
        )
    if method == "isotonic":
        return _isotonic(given, true)
    x = _logit(given)
    # Platt's targets, a little inside 0 and 1, keep the numbers finite where scores separate true from false.
    y = np.where(true, (positives + 1) / (positives + 2), 1 / (len(true) - positives + 2))

    def loss(numbers: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = numbers[0] * x + numbers[1]
        gap = 1 / (1 + np.exp(-np.clip(z, -500, 500))) - y
        return float(np.mean(np.logaddexp(0, z) - y * z)), np.array([np.mean(gap * x), np.mean(gap)])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(1e-3, None), (None, None)])
    return Calibration("platt", (float(found.x[0]), float(found.x[1])))


def _isotonic(scores: NDArray[np.float64], true: NDArray[np.bool_]) -> Calibration:
    """The best rising step function, by pooling neighbours that fall (Ayer et al., 1955)."""
    levels, place = np.unique(scores, return_inverse=True)
    blocks: list[list[float]] = []  # positives, items, lowest score, highest score
    for level, p, n in zip(levels, np.bincount(place, true), np.bincount(place), strict=True):
        blocks.append([float(p), float(n), float(level), float(level)])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] >= blocks[-1][0] * blocks[-2][1]:
            p_, n_, _, high = blocks.pop()
            blocks[-1] = [blocks[-1][0] + p_, blocks[-1][1] + n_, blocks[-1][2], high]
    ends = [(score, b[0] / b[1]) for b in blocks for score in dict.fromkeys((b[2], b[3]))]
    return Calibration("isotonic", tuple(score for score, _ in ends), tuple(value for _, value in ends))


class Bin(NamedTuple):
    """Scores of an interval: how many, their mean, and the share of true ones."""

    low: float
    high: float
    size: int
    mean: float
    share: float


def reliability(scores: ArrayLike, truth: ArrayLike, bins: int = 10) -> list[Bin]:
    """The reliability curve: bins of equal width over [0, 1], without empty ones."""
    given, true = np.asarray(scores, np.float64), np.asarray(truth, bool)
    index = np.minimum((given * bins).astype(int), bins - 1)
    found = []
    for number in range(bins):
        chosen = index == number
        if chosen.any():
            mean, share = float(given[chosen].mean()), float(true[chosen].mean())
            found.append(Bin(number / bins, (number + 1) / bins, int(chosen.sum()), mean, share))
    return found


def plot_reliability(curves: Mapping[str, Sequence[Bin]], path: Path) -> None:
    """Draw reliability curves over the diagonal of a calibrated tagger.

    Args:
        curves: By name.
        path: The picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 4.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle="--")
    for name, bins in curves.items():
        axes.plot([b.mean for b in bins], [b.share for b in bins], marker="o", markersize=4, label=name)
    axes.set(xlabel="confidence", ylabel="share of true relations", xlim=(0, 1), ylim=(0, 1))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(scores, _EDGE, 1 - _EDGE)
    return np.log(inside / (1 - inside))


def beside(checkpoint: Path, by: str = "head") -> Path:
    """Where the calibration of a checkpoint's scores lies unless somebody says otherwise."""
    own = "" if by == "head" else f".{by}"
    return checkpoint.with_name(f"{checkpoint.name.removesuffix('.ckpt')}{own}.calibration.json")


def made_for(checkpoint: Path, by: str) -> dict[str, str]:
    """What a calibration is for: scores of one kind, of this very checkpoint."""
    return {"by": by, "checkpoint": folder_digest(checkpoint)}
