"""The page of evidence: claims first, then what the runs say of each question; every number comes from figures."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from relpretrain.data.shards.writer import write_atomically
from relpretrain.evidence.claims import HEADER, Claim, judge
from relpretrain.evidence.design import ARMS, BACKBONES, Run
from relpretrain.evidence.plots import Panel, plot_lines, plot_settings
from relpretrain.evidence.probes import (
    CURVES,
    FOLDERS,
    HELD_OUT,
    OTHERS,
    RELATIONS,
    TEXT_RETRIEVAL,
    VSR_ACCURACY,
    VSR_AUROC,
    VSR_CALIBRATION,
    VSR_HELD_OUT,
    Measure,
)
from relpretrain.evidence.results import MAIN, Figure, Selection, composite, final, select
from relpretrain.evidence.statistics import Estimate
from relpretrain.evidence.studies import Comparison, Setting, percent, studies
from relpretrain.zeroshot.report.terminal import markdown_table

_COLUMNS = 4
"""Figures with intervals beside each other, at most: more are hard to read."""
_HEADLINES = (HELD_OUT, VSR_HELD_OUT, TEXT_RETRIEVAL)


@dataclass(frozen=True)
class Context:
    """Where the figures come from.

    Args:
        preset: Name of the preset.
        command: The command that makes the page.
        commit: Commit of the code.
        hardware: Processor and cores, or GPU.
        versions: Of Python and the packages that matter.
        wall_clock_minutes: How long all runs took together with what else the command did.
        results: Path of the CSV file with all figures.
        measured: How it was measured, in Markdown: the worlds' dials, settings, seeds.
        tried: What was tried and did not work, in Markdown.
    """

    preset: str
    command: str
    commit: str
    hardware: str
    versions: str
    wall_clock_minutes: float
    results: str
    measured: str = ""
    tried: str = ""


def write_page(out: Path, figures: Sequence[Figure], claims: Sequence[Claim], context: Context) -> Path:
    """Write the page as Markdown, and its plots into a folder beside it that has its name.

    Args:
        out: The Markdown file.
        figures: Figures of all runs, at all steps.
        claims: What the runs were to show.
        context: Where the figures come from.

    Returns:
        The Markdown file.

    Raises:
        ValueError: If there are no figures, or a claim means several runs of a seed.
    """
    if not figures:
        raise ValueError("There are no figures to write a page of; train at least one run first.")
    out.parent.mkdir(parents=True, exist_ok=True)
    page = _Page(figures, out.parent / out.stem)
    parts = [
        *page.head(claims, context),
        *page.arms(),
        *page.curves(),
        *page.equal_compute(),
        *page.studies(),
        *_method(context),
    ]
    write_atomically(out, ("\n\n".join(part.strip() for part in parts if part.strip()) + "\n").encode())
    return out


class _Page:
    """The sections that show figures, as paragraphs.

    Args:
        figures: Figures of all runs.
        folder: Where the plots go.
    """

    def __init__(self, figures: Sequence[Figure], folder: Path) -> None:
        self.figures, self.last, self.folder = figures, final(figures), folder
        self.backbones = [name for name in BACKBONES if any(figure.run.backbone == name for figure in figures)]

    def head(self, claims: Sequence[Claim], context: Context) -> Iterator[str]:
        """What a reader sees first."""
        verdicts = [judge(claim, self.last) for claim in claims]
        seeds = _count(len({figure.run.seed for figure in self.figures}), "seed")
        runs = _count(len({figure.run for figure in self.figures}), "training run")
        yield "# Evidence: do the relation objectives work?"
        yield (
            f"{sum(v.is_held for v in verdicts)} of {_count(len(verdicts), 'claim')} held in {runs} with and without "
            "VSG and MRC, from nothing, on generated worlds whose relations are known. Differences are paired by seed "
            f"({seeds}, each with a world, initial weights and an order of the data of its own):"
        )
        yield _code(context.command)
        yield markdown_table(HEADER, [verdict.row for verdict in verdicts])
        yield (
            "Figures are differences in percentage points (control → treatment, in percent), with Student's t "
            "intervals over seeds. A gain is held if its mean is what was needed and its interval above 0. That "
            'nothing much is lost is decided by the mean alone; "(mean)" says that the interval reaches lower than '
            "what was needed. Intervals are not adjusted for their number."
        )
        yield (
            f"Commit {context.commit}; {context.hardware}; {context.versions}; preset `{context.preset}`, "
            f"all of it in {context.wall_clock_minutes:,.0f} minutes."
        )

    def arms(self) -> Iterator[str]:
        """The arms of the main comparison, in order of outcome."""
        yield "## The four arms"
        yield (
            f"Equal steps, {percent(Run.share)} of the images annotated; means over seeds and 95 % intervals, in "
            "percent. The arms stand in the order of their outcome. Held-out combinations: no training image "
            "had this relation of these two objects. Held-out pairs: none had these two together."
        )
        for backbone in BACKBONES:
            compared = self._compared(backbone)
            yield f"### {backbone}"
            if missing := [arm for arm in ARMS if arm not in [s.label for s in compared.settings]]:
                yield f"Not run: {', '.join(missing)}."
            if not compared.settings:
                continue
            yield compared.sentence(HELD_OUT, self.last)
            yield self._dots(compared, _HEADLINES, f"{backbone} arms", "The four arms")
            for measures in ((HELD_OUT, *RELATIONS), OTHERS):
                there = [m for m in measures if any(compared.values(s, m, self.last) for s in compared.settings)]
                yield from (self._means(compared, part) for part in _parts(there))
            yield self._vsr(compared)
        yield self._items((HELD_OUT, VSR_HELD_OUT, *OTHERS))
        if absent := [m.title for m in (HELD_OUT, *RELATIONS, *OTHERS) if not self._is_measured(m)]:
            yield f"Not measured: {', '.join(absent)}."

    def curves(self) -> Iterator[str]:
        """Figures along training."""
        yield "## Learning curves"
        yield (
            "Held-out combinations, on a sample of the items; the last point is on all of them. Bands are 95 % "
            "intervals over seeds, the dashed line is chance."
        )
        drawn = False
        for backbone in self.backbones:
            wanted = {arm: {"backbone": backbone, "arm": arm} for arm in ARMS}
            path = self._lines(wanted, f"{backbone} curves", "step")
            drawn = drawn or bool(path)
            yield path and f"**{backbone}**\n\n![Learning curves of {backbone}]({path})"
        if not drawn:
            yield "No run was measured while it trained."

    def equal_compute(self) -> Iterator[str]:
        """The baseline that trained longer."""
        yield "## Equal compute"
        yield (
            "Relation objectives make steps costlier. Here the baseline trained for as many floating point operations "
            "(TFLOP: 10^12 of them) as +both."
        )
        drawn = False
        for backbone in self.backbones:
            where = {"backbone": backbone}
            longer = "baseline at equal compute"
            rows = (
                Setting("baseline at equal steps", {**where, "arm": "baseline"}),
                Setting(longer, {**where, "arm": "baseline", "budget": "compute"}),
                Setting("+both", {**where, "arm": "+both"}, longer),
            )
            compared = Comparison(backbone, rows, _HEADLINES)
            measures = [m for m in _HEADLINES if compared.values(rows[1], m, self.last)]
            if measures:
                drawn = True
                yield f"**{backbone}**"
                yield self._costs(compared, measures)
                yield compared.sentence(measures[0], self.last)
                path = self._lines({s.label: s.where for s in rows[1:]}, f"{backbone} compute", "teraflops")
                yield path and f"![{backbone} by compute]({path})"
        if not drawn:
            yield "No run of this preset asks this."

    def studies(self) -> Iterator[str]:
        """The paper's questions."""
        yield "## The questions of the paper"
        for study in studies(self.last):
            yield f"### {study.title}"
            yield study.question
            drawn = False
            for compared in study.comparisons:
                measures = compared.measured(self.last)
                if measures:
                    drawn = True
                    yield f"**{compared.title}**"
                    yield compared.sentence(measures[0], self.last)
                    yield self._differences(compared, measures)
                    yield self._dots(compared, measures, f"{study.title} {compared.title}", study.title)
            if not drawn:
                yield "No run of this preset asks this."

    def _compared(self, backbone: str) -> Comparison:
        """The arms that were run, the best first."""
        rows = [Setting(arm, {"backbone": backbone, "arm": arm}) for arm in ARMS]
        rows = [Setting(s.label, s.where, "" if s.label == "baseline" else "baseline") for s in rows if self._ran(s)]
        all_rows = Comparison(backbone, tuple(rows), _HEADLINES)
        outcome = {s.label: all_rows.mean(s, HELD_OUT, self.last).mean for s in rows}
        rows.sort(key=lambda s: -outcome[s.label] if outcome[s.label] == outcome[s.label] else 1.0)
        return Comparison(backbone, tuple(rows), _HEADLINES)

    def _ran(self, setting: Setting) -> bool:
        return bool(select(self.last, **{**MAIN, **setting.where}))

    def _is_measured(self, measure: Measure) -> bool:
        return bool(select(self.last, probe=measure.probes, metric=measure.metric))

    def _items(self, measures: Sequence[Measure]) -> str:
        """How many items each figure is of."""
        words = []
        for measure in measures:
            there = select(self.last, metric=measure.metric, world=Run.world)
            numbers = {figure.n for figure in composite(there, measure.probes, measure.title)}
            if any(numbers):
                fewest, most = min(numbers), max(numbers)
                words.append(f"{measure.title} {fewest:,}" + (f" to {most:,}" if most > fewest else ""))
        return f"Items of each seed: {'; '.join(words)}." if words else ""

    def _means(self, compared: Comparison, measures: Sequence[Measure]) -> str:
        rows = []
        for setting in compared.settings:
            means = [compared.mean(setting, measure, self.last) for measure in measures]
            rows.append([setting.label, *(mean.percent for mean in means), _seeds(means)])
        return markdown_table(["arm", *(measure.heading for measure in measures), "seeds"], rows)

    def _vsr(self, compared: Comparison) -> str:
        rows = []
        for folder, words in FOLDERS.items():
            measures = [family[folder] for family in (VSR_ACCURACY, VSR_AUROC, VSR_CALIBRATION)]
            for setting in compared.settings:
                if compared.values(setting, measures[0], self.last):
                    figures = (compared.mean(setting, measure, self.last).percent for measure in measures)
                    rows.append([words, setting.label, *figures])
        header = ["VSR", "arm", "accuracy at 0.5 (chance 50)", "AUROC (chance 50)", "calibration error (best 0)"]
        return markdown_table(header, rows) if rows else ""

    def _differences(self, compared: Comparison, measures: Sequence[Measure]) -> str:
        header = ["", *(cell for measure in measures for cell in (measure.heading, "difference, points")), "seeds"]
        rows = []
        for setting in compared.settings:
            means = [compared.mean(setting, measure, self.last) for measure in measures]
            cells = []
            for measure, mean in zip(measures, means, strict=True):
                difference = compared.difference(setting, measure, self.last)
                cells += [mean.percent, "" if difference is None else difference.points]
            rows.append([setting.label, *cells, _seeds(means)])
        return markdown_table(header, rows)

    def _costs(self, compared: Comparison, measures: Sequence[Measure]) -> str:
        rows = []
        for setting in compared.settings:
            ends = list({figure.run: figure for figure in select(self.last, **{**MAIN, **setting.where})}.values())
            if ends:
                totals = [sum(getattr(f, name) for f in ends) / len(ends) for name in ("step", "teraflops", "seconds")]
                cost = [f"{totals[0]:,.0f}", _operations(totals[1]), f"{totals[2] / 60:.1f}"]
                rows.append([setting.label, *cost, *(compared.mean(setting, m, self.last).percent for m in measures)])
        return markdown_table(["", "steps", "TFLOP", "minutes", *(m.heading for m in measures)], rows)

    def _dots(self, compared: Comparison, measures: Sequence[Measure], name: str, alt: str) -> str:
        panels = []
        for measure in measures:
            data = {s.label: list(compared.values(s, measure, self.last).values()) for s in compared.settings}
            if any(data.values()):
                panels.append(Panel(measure.title.replace(", ", ",\n"), data, measure.chance))
        if not panels:
            return ""
        path = self.folder / f"{_slug(name)}.svg"
        plot_settings(panels, path)
        return f"![{alt}: {compared.title}]({self.folder.name}/{path.name})"

    def _lines(self, wanted: Mapping[str, Selection], name: str, axis: str) -> str:
        """Draw curves of runs; the path of the plot beside the page, "" if no figure was taken more than once."""
        panels = []
        for measure in CURVES:
            lines = {label: self._line(measure, {**MAIN, **where}, axis) for label, where in wanted.items()}
            if data := {label: line for label, line in lines.items() if len(line) > 1}:
                panels.append(Panel(measure.title.replace(", held-out combinations", ""), data, measure.chance))
        if not panels:
            return ""
        path = self.folder / f"{_slug(name)}.svg"
        plot_lines(panels, path, {"teraflops": "TFLOP"}.get(axis, axis))
        return f"{self.folder.name}/{path.name}"

    def _line(self, measure: Measure, where: Selection, axis: str) -> dict[float, list[float]]:
        """Values of all seeds by their mean place; where runs differ in length, the first looks together and so on."""
        runs: dict[Run, list[Figure]] = {}
        there = select(self.figures, metric=measure.metric, **where)
        for figure in sorted(composite(there, measure.probes, measure.title), key=lambda figure: figure.step):
            if math.isfinite(figure.value):
                runs.setdefault(figure.run, []).append(figure)
        alike = len({len(looks) for looks in runs.values()}) == 1
        groups: dict[int, list[Figure]] = {}
        for looks in runs.values():
            for number, figure in enumerate(looks):
                groups.setdefault(number if alike else figure.step, []).append(figure)
        return {
            sum(getattr(figure, axis) for figure in group) / len(group): [figure.value for figure in group]
            for _, group in sorted(groups.items())
        }


def _method(context: Context) -> Iterator[str]:
    yield "## How it was measured"
    yield context.measured or "Nothing was written down."
    yield "## What was tried and did not work"
    yield context.tried or "Nothing was written down."
    yield "## Reproduce"
    yield _code(context.command)
    yield (
        f"A run that is finished is not trained again. All figures lie in `{context.results}`, a row for each: run, "
        "step, seconds and floating point operations so far, probe, metric, value (a share in [0, 1]), items. "
        "All figures of this page and its plots come from that file."
    )


def _parts(measures: Sequence[Measure]) -> Iterator[Sequence[Measure]]:
    """As few and as equal parts as columns allow."""
    number = -(-len(measures) // _COLUMNS)
    size = -(-len(measures) // max(1, number))
    return (measures[i : i + size] for i in range(0, len(measures), size or 1))


def _seeds(estimates: Sequence[Estimate]) -> str:
    """How many seeds they have, from the fewest to the most."""
    numbers = sorted({estimate.seeds for estimate in estimates})
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + "s" * (number != 1)


def _operations(tera: float) -> str:
    return f"{tera:,.0f}" if tera >= 100 else f"{tera:.3g}"


def _code(text: str) -> str:
    return f"```\n{text}\n```"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
