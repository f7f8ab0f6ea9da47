"""What the runs were to show and the paper's questions: which runs answer each, and what the intervals allow to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmarks.ablation.design import ARMS, BACKBONES, MAIN, Preset, Run, World
from benchmarks.ablation.measures import HELD_OUT, LONG_TEXTS, TEXT_RETRIEVAL, VSR_HELD_OUT, Measure
from benchmarks.ablation.results import Estimate, mean_over_seeds, paired_difference, percent, select

Selection = Mapping[str, Any]
"""Factors of runs by name; those that are not named have their values of the main comparison."""
_WORLDS: dict[World, str] = {"main": "", "long": ", world of long texts"}
"""What titles say of each world."""


@dataclass(frozen=True)
class Claim:
    """A difference between two sets of runs, seed by seed, and how large its mean must be.

    If that is above 0, the interval must be above 0 too. Otherwise the claim is that nothing much is lost, and the mean
    decides.
    """

    text: str  # Markdown
    measure: Measure
    treatment: Selection
    control: Selection
    at_least: float


CLAIM_COLUMNS = ["claim", "figure, points", "95 % interval", "needed", "held?", "seeds"]


def claims(preset: Preset) -> list[Claim]:
    """What a preset is to show, for each backbone, as far as its runs go."""
    found = []
    for backbone in BACKBONES:
        both, baseline = ({"backbone": backbone, "arm": arm} for arm in ("+both", "baseline"))
        longer, fewer = {**baseline, "budget": "compute"}, {**both, "share": 0.01}
        wanted: tuple[tuple[str, Measure, Selection, Selection, float], ...] = (
            ("VSG and MRC", HELD_OUT, both, baseline, 0.3),
            ("likewise, the baseline with equal compute", HELD_OUT, both, longer, 0.3),
            ("with graphs on 1 % of the images", HELD_OUT, fewer, baseline, 0.1),
            ("VSG and MRC", VSR_HELD_OUT, both, baseline, 0.08),
            ("not lower by more than 1 point", TEXT_RETRIEVAL, both, baseline, -0.01),
        )
        for words, measure, treatment, control, at_least in wanted:
            if all(any(run.has(**side) for run in preset.runs) for side in (treatment, control)):
                text = f"{backbone}, {words}: {measure.title}"
                found.append(Claim(text, measure, treatment, control, at_least))
    return found


def judge(claim: Claim, runs: pd.DataFrame) -> tuple[bool, list[str]]:
    """Hold a claim against the runs' last steps.

    Returns:
        Whether it holds, never without an interval, which takes two seeds; and the cells of `CLAIM_COLUMNS`.
    """
    control, treatment = (claim.measure.by_seed(runs, **side) for side in (claim.control, claim.treatment))
    found, needed = paired_difference(control, treatment), claim.at_least
    least = f"≥ {percent(needed, '+')}"
    if not found.seeds:
        return False, [claim.text, "not run", "", least, "**no**: not run", "0"]
    if found.seeds < 2:
        lacks = "one seed"
    elif found.mean < needed:
        lacks = "too small"
    else:
        lacks = "interval" if needed > 0 and found.sign <= 0 else ""
    held = f"**no**: {lacks}" if lacks else "yes (mean)" if needed <= 0 and found.low < needed else "yes"
    both = control.index.intersection(treatment.index)
    before, after = (percent(mean_over_seeds(values[both]).mean) for values in (control, treatment))
    interval = f"{percent(found.low, '+')} to {percent(found.high, '+')}" if found.seeds > 1 else "none"
    figure = f"**{percent(found.mean, '+')}** ({before} → {after})"
    return not lacks, [claim.text, figure, interval, least, held, str(found.seeds)]


@dataclass(frozen=True)
class Setting:
    """One row of a comparison."""

    label: str  # unique in the comparison
    where: Selection
    control: str = ""  # label of the row that it is compared with, seed by seed; "" for none


@dataclass(frozen=True, eq=False)
class Comparison:
    """Settings that differ in one thing."""

    runs: pd.DataFrame  # of the runs' last steps
    title: str  # what the settings have in common
    settings: tuple[Setting, ...]
    measures: tuple[Measure, ...] = ()  # what may be compared

    def values(self, setting: Setting, measure: Measure) -> pd.Series:
        """A setting's values by seed."""
        return measure.by_seed(self.runs, **setting.where)

    def mean(self, setting: Setting, measure: Measure) -> Estimate:
        """Their mean."""
        return mean_over_seeds(self.values(setting, measure))

    def difference(self, setting: Setting, measure: Measure) -> Estimate | None:
        """What the setting has more than its control; None where there is no control."""
        for control in self.settings:
            if control.label == setting.control:
                return paired_difference(self.values(control, measure), self.values(setting, measure))
        return None

    def measured(self, least: int = 2) -> tuple[Measure, ...]:
        """The measures that two settings have, or another number of them."""
        return tuple(m for m in self.measures if sum(len(self.values(s, m)) > 0 for s in self.settings) >= least)

    def sentence(self, measure: Measure) -> str:
        """What the intervals allow to say of a measure, in one sentence."""
        found = [(setting, self.difference(setting, measure)) for setting in self.settings]
        known = [(setting, difference) for setting, difference in found if difference and difference.seeds]
        if not known:
            return f"On {measure.title}: nothing can be compared."
        controls = {setting.control for setting, _ in known}
        clauses = []
        for setting, difference in known:
            label = setting.label + (f" against {setting.control}" if len(controls) > 1 else "")
            shown = {1: "is higher", -1: "is lower", 0: "is not shown to differ"}[difference.sign]
            shown = "cannot be judged by one seed" if difference.seeds == 1 else shown
            clauses.append(f"{label} {shown}, {difference.points.replace(' (', ' points (')}")
        against = f", against {controls.pop()}" if len(controls) == 1 else ""
        return f"On {measure.title}{against}: {'; '.join(clauses)}."

    def verdict(self, start: str, measure: Measure) -> str:
        """Which sources an interval sets apart from their control, and which it does not."""
        groups: dict[str, list[str]] = {"higher": [], "lower": [], "not shown to differ": [], "one seed": []}
        for setting in self.settings:
            found = self.difference(setting, measure)
            if found is not None and found.seeds:
                words = {1: "higher", -1: "lower", 0: "not shown to differ"}[found.sign]
                groups[words if found.seeds > 1 else "one seed"].append(f"{setting.label} {percent(found.mean, '+')}")
        said = [f"{words}: {', '.join(labels)}" for words, labels in groups.items() if labels]
        return f"{start} ({measure.title}, mean difference in points): {'; '.join(said) or 'not run'}."


def studies(runs: pd.DataFrame) -> list[tuple[str, str, Iterator[Comparison]]]:
    """The paper's questions: a title, the question, and those comparisons that the runs allow."""
    relations, texts = (HELD_OUT, VSR_HELD_OUT), (*LONG_TEXTS, HELD_OUT)
    return [
        ("Share of images with graphs", "How few graphs are enough?", _shares(runs, relations)),
        (
            "Relations in a text, K",
            "Does a text of more relations teach more? The paper found 3 worse than 8 on long texts.",
            _factor(runs, "max_relations", lambda value: f"K = {value}", texts),
        ),
        (
            "Sorted relations",
            "Must the relations of a text come in the order of their subjects in the image?",
            _factor(runs, "sort", lambda value: "sorted" if value else "unsorted", texts),
        ),
        (
            "Visual masking in MRC",
            "Must MRC see subject and object alone?",
            _factor(runs, "masked", lambda value: "masked" if value else "not masked", relations),
        ),
        (
            "Mixture",
            "How many steps on captions to a step on graphs?",
            _factor(runs, "mixture", str, (*relations, TEXT_RETRIEVAL)),
        ),
        (
            "Relations or localisation",
            "X-VLM learns from the boxes of annotated images, VSG and MRC from their relations: what is each worth?",
            _supervision(runs, (*relations, TEXT_RETRIEVAL)),
        ),
        (
            "Long texts",
            "Retrieval with texts of several sentences: the paper found its largest gains here, and them due to VSG.",
            _arms(runs, LONG_TEXTS),
        ),
    ]


def images(share: float) -> str:
    """A share of images: "0.5 %"."""
    return f"{100 * share:g} %"


def _shares(runs: pd.DataFrame, measures: tuple[Measure, ...]) -> Iterator[Comparison]:
    """Each share against the baseline of the same share, or else of the usual one."""
    for where, title in _varied(runs, "share"):
        if where["arm"] != "baseline":
            control = {**where, "arm": "baseline"}
            baselines = _values(runs, "share", control)
            rows = [Setting(f"baseline at {images(v)}", {**control, "share": v}) for v in baselines]
            usual = Run.share if Run.share in baselines or not baselines else baselines[-1]
            for value in _values(runs, "share", where):
                against = f"baseline at {images(value if value in baselines else usual)}" if baselines else ""
                rows.append(Setting(f"{where['arm']} at {images(value)}", {**where, "share": value}, against))
            yield Comparison(runs, title, tuple(rows), measures)


def _factor(
    runs: pd.DataFrame, factor: str, label: Callable[[Any], str], measures: tuple[Measure, ...]
) -> Iterator[Comparison]:
    """Each value of a factor against that of the main comparison."""
    usual = MAIN[factor]
    for where, title in _varied(runs, factor):
        values = _values(runs, factor, where)
        control = label(usual) if usual in values else ""
        rows = [Setting(label(v), {**where, factor: v}, "" if v == usual else control) for v in values]
        yield Comparison(runs, title, tuple(rows), measures)


def _supervision(runs: pd.DataFrame, measures: tuple[Measure, ...]) -> Iterator[Comparison]:
    """Four kinds of supervision, each against localisation."""
    localisation = "localisation (X-VLM)"
    kinds = {
        "captions only (ALBEF)": {"backbone": "ALBEF", "arm": "baseline"},
        localisation: {"backbone": "X-VLM", "arm": "baseline"},
        "relations (ALBEF +both)": {"backbone": "ALBEF", "arm": "+both"},
        "relations and localisation (X-VLM +both)": {"backbone": "X-VLM", "arm": "+both"},
    }
    for world, words in _WORLDS.items():
        there = {k: {**v, "world": world} for k, v in kinds.items() if _values(runs, "seed", {**v, "world": world})}
        if localisation in there and len(there) > 2:
            rows = [Setting(k, v, "" if k == localisation else localisation) for k, v in there.items()]
            yield Comparison(runs, f"both backbones{words}", tuple(rows), measures)


def _arms(runs: pd.DataFrame, measures: tuple[Measure, ...]) -> Iterator[Comparison]:
    """Each arm against the baseline, in the world that has long texts."""
    for backbone in BACKBONES:
        arms = {arm: {"backbone": backbone, "arm": arm, "world": "long"} for arm in ARMS}
        rows = [
            Setting(arm, where, "" if arm == "baseline" else "baseline")
            for arm, where in arms.items()
            if _values(runs, "seed", where)
        ]
        if len(rows) > 1 and rows[0].label == "baseline":
            yield Comparison(runs, backbone + _WORLDS["long"], tuple(rows), measures)


def _varied(runs: pd.DataFrame, factor: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Backbone, arm and world of which there are runs with several values of a factor, and their title."""
    for world, words in _WORLDS.items():
        for backbone in BACKBONES:
            for arm in ARMS:
                where = {"backbone": backbone, "arm": arm, "world": world}
                if len(_values(runs, factor, where)) > 1:
                    yield where, f"{backbone} {arm}{words}"


def _values(runs: pd.DataFrame, factor: str, where: Selection) -> list[Any]:
    """The values of a factor among the runs that are elsewhere as in the main comparison, from small to large."""
    others = {name: value for name, value in {**MAIN, **where}.items() if name != factor}
    found = select(runs, **others)[factor].unique().tolist()
    return sorted(found, key=lambda value: [int(part) for part in value.split(":")] if factor == "mixture" else value)
