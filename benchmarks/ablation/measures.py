"""The figures that the page speaks of: which probes each is measured on, and what chance gives."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.ablation.design import MAIN, Run
from benchmarks.ablation.results import RUN, select


@dataclass(frozen=True)
class Measure:
    """A figure as readers know it: a metric, averaged over probes within a run."""

    title: str
    probes: tuple[str, ...]
    metric: str = "accuracy"
    chance: float | None = None  # what guessing gives; None where that depends on the number of items

    @property
    def heading(self) -> str:
        """Its title with what chance gives."""
        return self.title if self.chance is None else f"{self.title} (chance {100 * self.chance:.0f})"

    def rows(self, rows: pd.DataFrame, **where: Any) -> pd.DataFrame:
        """Those of `results.by_step` that have all the probes, their mean as a column `value`."""
        columns = [(self.metric, probe) for probe in self.probes]
        rows = select(rows, **where)
        there = rows[columns].to_numpy() if set(columns) <= set(rows.columns) else np.full((len(rows), 1), np.nan)
        rows = rows[[*RUN, "step", "seconds", "teraflops"]].assign(value=[fmean(values) for values in there])
        return rows[rows["value"].notna()]

    def by_seed(self, rows: pd.DataFrame, **where: Any) -> pd.Series:
        """Its values by seed; factors that are not named have their values of the main comparison.

        Raises:
            ValueError: If several runs or steps of one seed are meant.
        """
        rows = self.rows(rows, **{**MAIN, **where})
        if (twice := rows["seed"].duplicated(keep=False)).any():
            names = [f"{Run(**row[RUN]).name} at step {row['step']}" for _, row in rows[twice].iterrows()]
            raise ValueError(f"{where} means several figures of a seed: {' and '.join(names)}.")
        return rows.set_index("seed")["value"].sort_index()


FOLDERS = {
    "held_out_combinations": "held-out combinations",
    "held_out_pairs": "held-out pairs",
    "benchmarks": "seen compositions",
}
"""Benchmark folders of a world: no training image has this relation of these two objects; none has these two together;
everything asked was there."""
_HELD_OUT = ("held_out_pairs", "held_out_combinations")


def _on(title: str, folders: tuple[str, ...], *names: str, metric: str = "accuracy", chance: bool = True) -> Measure:
    probes = tuple(f"{folder}/{name}" for folder in folders for name in names)
    return Measure(title, probes, metric, 0.5 if chance else None)


HELD_OUT = _on("held-out relation probes", _HELD_OUT, "valse/relations", "valse/actant-swap")
"""Relations named wrongly and subjects swapped with objects, where the composition was held out: the headline."""
RELATIONS = [
    *(_on(f"relation swap, {words}", (folder,), "valse/relations") for folder, words in FOLDERS.items()),
    *(_on(f"actant swap, {words}", (folder,), "valse/actant-swap") for folder, words in FOLDERS.items()),
]
"""Its parts, and the same of compositions that were trained on."""
VSR_HELD_OUT = _on("held-out VSR accuracy at 0.5", _HELD_OUT, "vsr/test")
"""Statements of held-out relations judged at the usual threshold."""
VSR = {
    folder: (
        _on("VSR accuracy at 0.5", (folder,), "vsr/test"),
        _on("VSR AUROC", (folder,), "vsr/test", metric="auroc"),
        _on("VSR calibration error", (folder,), "vsr/test", metric="ece", chance=False),
    )
    for folder in FOLDERS
}
"""The same statements by folder: accuracy, AUROC, calibration error."""


def _retrieval(title: str, task: str, metric: str) -> Measure:
    return _on(title, ("benchmarks",), f"{task}/val", f"{task}/test", metric=metric, chance=False)


TEXT_RETRIEVAL = _retrieval("text retrieval TR@1", "coco_retrieval", "tr@1")
LONG_TEXTS = (_retrieval("long texts TR@1", "paragraphs", "tr@1"), _retrieval("long texts IR@1", "paragraphs", "ir@1"))
HEADLINES = (HELD_OUT, VSR_HELD_OUT, TEXT_RETRIEVAL)
OTHERS = [
    _on("existence", ("benchmarks",), "valse/existence"),
    _on("counting", ("benchmarks",), "valse/counting-small-quant"),
    _on("foil-it", ("benchmarks",), "valse/foil-it"),
    _on("SVO verb", ("benchmarks",), "svo/verb"),
    TEXT_RETRIEVAL,
    _retrieval("image retrieval IR@1", "coco_retrieval", "ir@1"),
]
"""What the relation objectives are not for."""
CURVES = [
    _on("relation swap", ("held_out_combinations",), "valse/relations"),
    _on("actant swap", ("held_out_combinations",), "valse/actant-swap"),
    *VSR["held_out_combinations"][:2],
]
"""What is measured while a run trains, on held-out combinations."""
