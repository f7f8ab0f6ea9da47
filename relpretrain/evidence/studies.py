"""The paper's questions: which runs answer each, and what the intervals allow to say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from relpretrain.evidence.design import ARMS, BACKBONES, Run, World
from relpretrain.evidence.probes import (
    HELD_OUT,
    LONG_IMAGE_RETRIEVAL,
    LONG_TEXT_RETRIEVAL,
    TEXT_RETRIEVAL,
    VSR_HELD_OUT,
    Measure,
)
from relpretrain.evidence.results import MAIN, Figure, Selection
from relpretrain.evidence.statistics import Estimate, mean_over_seeds, paired_difference

_LONG = (LONG_TEXT_RETRIEVAL, LONG_IMAGE_RETRIEVAL)
_WORLDS: dict[World, str] = {"main": "", "long": ", world of long texts"}
"""What titles say of each world."""


@dataclass(frozen=True)
class Setting:
    """One row of a comparison.

    Args:
        label: Its name, unique in the comparison.
        where: Its runs.
        control: Label of the row that it is compared with, seed by seed; "" for none.
    """

    label: str
    where: Selection
    control: str = ""


@dataclass(frozen=True)
class Comparison:
    """Settings that differ in one thing.

    Args:
        title: What they have in common.
        settings: The rows.
        measures: What is compared.
    """

    title: str
    settings: tuple[Setting, ...]
    measures: tuple[Measure, ...]

    def values(self, setting: Setting, measure: Measure, figures: Sequence[Figure]) -> dict[int, float]:
        """A setting's figures by seed."""
        return measure.of(figures, **setting.where)

    def mean(self, setting: Setting, measure: Measure, figures: Sequence[Figure]) -> Estimate:
        """Their mean."""
        return mean_over_seeds(list(self.values(setting, measure, figures).values()))

    def difference(self, setting: Setting, measure: Measure, figures: Sequence[Figure]) -> Estimate | None:
        """What the setting has more than its control; None where there is no control."""
        found = [other for other in self.settings if other.label == setting.control]
        if not found:
            return None
        return paired_difference(self.values(found[0], measure, figures), self.values(setting, measure, figures))

    def measured(self, figures: Sequence[Figure]) -> tuple[Measure, ...]:
        """The measures that two or more of the settings have."""
        return tuple(m for m in self.measures if sum(bool(self.values(s, m, figures)) for s in self.settings) > 1)

    def sentence(self, measure: Measure, figures: Sequence[Figure]) -> str:
        """What the intervals allow to say of a measure, in one sentence."""
        found = [(setting, self.difference(setting, measure, figures)) for setting in self.settings]
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


@dataclass(frozen=True)
class Study:
    """A question with the comparisons that answer it.

    Args:
        title: The question in a few words.
        question: What the paper found or asked, in a sentence.
        comparisons: None where no run was made for it.
    """

    title: str
    question: str
    comparisons: tuple[Comparison, ...]


def studies(figures: Iterable[Figure]) -> list[Study]:
    """The paper's questions, each with those comparisons that the figures' runs allow."""
    runs = sorted({figure.run for figure in figures}, key=str)
    relations = (HELD_OUT, VSR_HELD_OUT)
    return [
        Study("Share of images with graphs", "How few graphs are enough?", tuple(_shares(runs, relations))),
        Study(
            "Relations in a text, K",
            "Does a text of more relations teach more? The paper found 3 worse than 8 on long texts.",
            tuple(_factor(runs, "max_relations", lambda value: f"K = {value}", (*_LONG, HELD_OUT))),
        ),
        Study(
            "Sorted relations",
            "Must the relations of a text come in the order of their subjects in the image?",
            tuple(_factor(runs, "sort", lambda value: "sorted" if value else "unsorted", (*_LONG, HELD_OUT))),
        ),
        Study(
            "Visual masking in MRC",
            "Must MRC see subject and object alone?",
            tuple(_factor(runs, "masked", lambda value: "masked" if value else "not masked", relations)),
        ),
        Study(
            "Mixture",
            "How many steps on captions to a step on graphs?",
            tuple(_factor(runs, "mixture", str, (*relations, TEXT_RETRIEVAL))),
        ),
        Study(
            "Relations or localisation",
            "X-VLM learns from the boxes of annotated images, VSG and MRC from their relations: what is each worth?",
            tuple(_kinds(runs, (*relations, TEXT_RETRIEVAL))),
        ),
        Study(
            "Long texts",
            "Retrieval with texts of several sentences: the paper found its largest gains here, and them due to VSG.",
            tuple(_arms(runs, _LONG)),
        ),
    ]


def percent(share: float) -> str:
    """A share of images: "0.5 %"."""
    return f"{100 * share:g} %"


def _shares(runs: Sequence[Run], measures: tuple[Measure, ...]) -> Iterator[Comparison]:
    """Each share against the baseline of the same share, or else of the usual one."""
    for where, title in _settings(runs, "share"):
        if where["arm"] == "baseline":
            continue
        baselines = _values(runs, "share", {**where, "arm": "baseline"})
        rows = [Setting(f"baseline at {percent(v)}", {**where, "arm": "baseline", "share": v}) for v in baselines]
        usual = Run.share if Run.share in baselines or not baselines else baselines[-1]
        for value in _values(runs, "share", where):
            control = f"baseline at {percent(value if value in baselines else usual)}" if baselines else ""
            rows.append(Setting(f"{where['arm']} at {percent(value)}", {**where, "share": value}, control))
        yield Comparison(title, tuple(rows), measures)


def _factor(
    runs: Sequence[Run], factor: str, label: Callable[[Any], str], measures: tuple[Measure, ...]
) -> Iterator[Comparison]:
    """Each value of a factor against that of the main comparison."""
    usual = getattr(Run, factor)
    for where, title in _settings(runs, factor):
        values = _values(runs, factor, where)
        control = label(usual) if usual in values else ""
        rows = [Setting(label(v), {**where, factor: v}, "" if v == usual else control) for v in values]
        yield Comparison(title, tuple(rows), measures)


def _kinds(runs: Sequence[Run], measures: tuple[Measure, ...]) -> Iterator[Comparison]:
    """Four kinds of supervision, each against localisation."""
    localisation = "localisation (X-VLM)"
    kinds = {
        "captions only (ALBEF)": ("ALBEF", "baseline"),
        localisation: ("X-VLM", "baseline"),
        "relations (ALBEF +both)": ("ALBEF", "+both"),
        "relations and localisation (X-VLM +both)": ("X-VLM", "+both"),
    }
    for world, words in _WORLDS.items():
        there = {
            label: {"backbone": backbone, "arm": arm, "world": world}
            for label, (backbone, arm) in kinds.items()
            if _values(runs, "share", {"backbone": backbone, "arm": arm, "world": world, "share": Run.share})
        }
        if localisation in there and len(there) > 2:
            rows = [Setting(k, v, "" if k == localisation else localisation) for k, v in there.items()]
            yield Comparison(f"both backbones{words}", tuple(rows), measures)


def _arms(runs: Sequence[Run], measures: tuple[Measure, ...]) -> Iterator[Comparison]:
    """Each arm against the baseline, in the world that has long texts."""
    for backbone in BACKBONES:
        where = {"backbone": backbone, "world": "long"}
        arms = [arm for arm in ARMS if _values(runs, "arm", {**where, "arm": arm})]
        if "baseline" in arms and len(arms) > 1:
            rows = [Setting(arm, {**where, "arm": arm}, "" if arm == "baseline" else "baseline") for arm in arms]
            yield Comparison(backbone + _WORLDS["long"], tuple(rows), measures)


def _settings(runs: Sequence[Run], factor: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Backbone, arm and world of which there are runs with several values of a factor, and their title."""
    for world, words in _WORLDS.items():
        for backbone in BACKBONES:
            for arm in ARMS:
                where = {"backbone": backbone, "arm": arm, "world": world}
                if len(_values(runs, factor, where)) > 1:
                    yield where, f"{backbone} {arm}{words}"


def _values(runs: Sequence[Run], factor: str, where: Selection) -> list[Any]:
    """The values of a factor among the runs that are elsewhere as in the main comparison, from small to large."""
    fixed = {name: value for name, value in MAIN.items() if name != factor} | dict(where)
    found = {getattr(run, factor) for run in runs if all(getattr(run, k) == v for k, v in fixed.items())}
    return sorted(found, key=lambda value: [int(part) for part in value.split(":")] if factor == "mixture" else value)
