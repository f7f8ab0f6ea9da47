"""The figures that the page speaks of: which probe each is measured on, and what chance gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relpretrain.evidence.results import Figure, by_seed


@dataclass(frozen=True)
class Measure:
    """A figure as readers know it.

    Args:
        title: What it is called.
        probes: Where it is measured; several are averaged within a run.
        metric: What is measured there.
        chance: What guessing gives; None where that depends on the number of items.
    """

    title: str
    probes: tuple[str, ...]
    metric: str = "accuracy"
    chance: float | None = None

    @property
    def heading(self) -> str:
        """Its title with what chance gives."""
        return self.title if self.chance is None else f"{self.title} (chance {100 * self.chance:.0f})"

    def of(self, figures: Sequence[Figure], **where: object) -> dict[int, float]:
        """Its values by seed (see `results.by_seed`)."""
        return by_seed(figures, self.probes, self.metric, **where)


FOLDERS = {
    "held_out_combinations": "held-out combinations",
    "held_out_pairs": "held-out pairs",
    "benchmarks": "seen compositions",
}
"""Benchmark folders of a world: no training image has this relation of these two objects; none has these two together;
everything asked was there."""

_HELD_OUT = ("held_out_pairs", "held_out_combinations")


def _pairwise(title: str, folders: Sequence[str], *names: str) -> Measure:
    probes = tuple(f"{folder}/valse/{name}" for folder in folders for name in names)
    return Measure(title, probes, "accuracy", 0.5)


HELD_OUT = _pairwise("held-out relation probes", _HELD_OUT, "relations", "actant-swap")
"""Relations named wrongly and subjects swapped with objects, where the composition was held out: the headline."""

RELATIONS = [
    *(_pairwise(f"relation swap, {words}", [folder], "relations") for folder, words in FOLDERS.items()),
    *(_pairwise(f"actant swap, {words}", [folder], "actant-swap") for folder, words in FOLDERS.items()),
]
"""Its parts, and the same of compositions that were trained on."""


def _vsr(title: str, metric: str, chance: float | None = None) -> dict[str, Measure]:
    return {f: Measure(f"{title}, {words}", (f"{f}/vsr/test",), metric, chance) for f, words in FOLDERS.items()}


VSR_HELD_OUT = Measure("held-out VSR accuracy at 0.5", tuple(f"{folder}/vsr/test" for folder in _HELD_OUT), chance=0.5)
"""Statements of held-out relations judged at the usual threshold."""

VSR_ACCURACY = _vsr("VSR accuracy at 0.5", "accuracy", 0.5)
VSR_AUROC = _vsr("VSR AUROC", "auroc", 0.5)
VSR_CALIBRATION = _vsr("VSR calibration error", "ece")

_GALLERIES = ("benchmarks/coco_retrieval/val", "benchmarks/coco_retrieval/test")
_LONG = ("benchmarks/paragraphs/val", "benchmarks/paragraphs/test")
TEXT_RETRIEVAL = Measure("text retrieval TR@1", _GALLERIES, "tr@1")
IMAGE_RETRIEVAL = Measure("image retrieval IR@1", _GALLERIES, "ir@1")
LONG_TEXT_RETRIEVAL = Measure("long texts TR@1", _LONG, "tr@1")
LONG_IMAGE_RETRIEVAL = Measure("long texts IR@1", _LONG, "ir@1")

OTHERS = [
    Measure("existence", ("benchmarks/valse/existence",), chance=0.5),
    Measure("counting", ("benchmarks/valse/counting-small-quant",), chance=0.5),
    Measure("foil-it", ("benchmarks/valse/foil-it",), chance=0.5),
    Measure("SVO verb", ("benchmarks/svo/verb",), chance=0.5),
    TEXT_RETRIEVAL,
    IMAGE_RETRIEVAL,
]
"""What the relation objectives are not for."""

CURVES = [
    _pairwise("relation swap", ["held_out_combinations"], "relations"),
    _pairwise("actant swap", ["held_out_combinations"], "actant-swap"),
    VSR_ACCURACY["held_out_combinations"],
    VSR_AUROC["held_out_combinations"],
]
"""What is measured while a run trains."""
