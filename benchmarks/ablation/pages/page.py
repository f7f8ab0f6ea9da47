"""The page of evidence: claims first, then what the runs say of each question; every number comes from the results."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmarks.ablation.design import ARMS, BACKBONES, MAIN, Preset, Run
from benchmarks.ablation.measures import CURVES, FOLDERS, HEADLINES, HELD_OUT, OTHERS, RELATIONS, VSR, Measure
from benchmarks.ablation.pages.paragraphs import (
    Context,
    code,
    count,
    made_by,
    measured,
    parts_of,
    reproduce,
    table,
    write_paragraphs,
)
from benchmarks.ablation.pages.plots import Panel, plot_lines, plot_settings
from benchmarks.ablation.results import RUN, by_step, final, select
from benchmarks.ablation.studies import CLAIM_COLUMNS, Comparison, Selection, Setting, claims, images, judge, studies
from relpretrain.zeroshot.report.terminal import markdown_table


def write_page(out: Path, results: pd.DataFrame, preset: Preset, context: Context) -> Path:
    """Write the page as Markdown, and its plots into a folder beside it that has its name.

    Args:
        out: The Markdown file.
        results: Results of all runs, at all steps; at least one row.
        preset: The preset that was run.
        context: Where the results come from.

    Returns:
        The Markdown file.

    Raises:
        ValueError: If a claim means several runs of a seed.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    page = Page(results, out.parent / out.stem)
    parts = [
        *page.head(preset, context),
        *page.arms(),
        *page.curves(),
        *page.equal_compute(),
        *page.studies(),
        *_method(preset, context),
    ]
    return write_paragraphs(out, parts)


class Page:
    """The sections that show results, as paragraphs; plots go into a folder."""

    def __init__(self, results: pd.DataFrame, folder: Path) -> None:
        self.folder, self.steps, self.ends = folder, by_step(results), final(results)
        self.last = final(self.steps)
        self.backbones = [name for name in BACKBONES if name in results["backbone"].unique()]

    def head(self, preset: Preset, context: Context) -> Iterator[str]:
        """What a reader sees first."""
        verdicts = [judge(claim, self.last) for claim in claims(preset)]
        seeds = count(self.last["seed"].nunique(), "seed")
        runs = count(len(self.last), "training run")
        yield "# Evidence: do the relation objectives work?"
        yield (
            f"{sum(held for held, _ in verdicts)} of {count(len(verdicts), 'claim')} held in {runs} with and without "
            "VSG and MRC, from nothing, on generated worlds whose relations are known. Differences are paired by seed "
            f"({seeds}, each with a world, initial weights and an order of the data of its own):"
        )
        yield code(context.command)
        yield markdown_table(CLAIM_COLUMNS, [row for _, row in verdicts])
        yield (
            "Figures are differences in percentage points (control → treatment, in percent), with Student's t "
            "intervals over seeds. A gain is held if its mean is what was needed and its interval above 0. That "
            'nothing much is lost is decided by the mean alone; "(mean)" says that the interval reaches lower than '
            "what was needed. Intervals are not adjusted for their number."
        )
        yield made_by(preset, context)

    def arms(self) -> Iterator[str]:
        """The arms of the main comparison, in order of outcome."""
        yield "## The four arms"
        yield (
            f"Equal steps, {images(Run.share)} of the images annotated; means over seeds and 95 % intervals, in "
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
            yield compared.sentence(HELD_OUT)
            yield self.dots(compared, HEADLINES, f"{backbone} arms", "The four arms")
            for measures in ((HELD_OUT, *RELATIONS), tuple(OTHERS)):
                there = Comparison(self.last, backbone, compared.settings, measures).measured(1)
                yield from (table("arm", compared, part) for part in parts_of(there))
            yield _vsr(compared)
        yield self._items((*HEADLINES[:2], *OTHERS))
        asked = (HELD_OUT, *RELATIONS, *OTHERS)
        if absent := [m.title for m in asked if select(self.ends, probe=m.probes, metric=m.metric).empty]:
            yield f"Not measured: {', '.join(absent)}."

    def curves(self) -> Iterator[str]:
        """Figures along training."""
        yield "## Learning curves"
        yield (
            "Held-out combinations, on a sample of the items; the last point is on all of them. Thin lines are single "
            "seeds, the thick one is their mean, the dashed line is chance."
        )
        drawn = []
        for backbone in self.backbones:
            wanted = {arm: {"backbone": backbone, "arm": arm} for arm in ARMS}
            if path := self.lines(wanted, f"{backbone} curves", "step"):
                drawn.append(f"**{backbone}**\n\n![Learning curves of {backbone}]({path})")
        yield from drawn or ["No run was measured while it trained."]

    def equal_compute(self) -> Iterator[str]:
        """The baseline that trained longer."""
        yield "## Equal compute"
        yield (
            "Relation objectives make steps costlier. Here the baseline trained for as many floating point operations "
            "(TFLOP: 10^12 of them) as +both."
        )
        answers = [part for backbone in self.backbones for part in self._longer(backbone)]
        yield from answers or ["No run of this preset asks this."]

    def studies(self) -> Iterator[str]:
        """The paper's questions."""
        yield "## The questions of the paper"
        for title, question, comparisons in studies(self.last):
            yield f"### {title}"
            yield question
            answers = [part for compared in comparisons for part in self._answer(title, compared)]
            yield from answers or ["No run of this preset asks this."]

    def _longer(self, backbone: str) -> Iterator[str]:
        where, longer = {"backbone": backbone}, "baseline at equal compute"
        rows = (
            Setting("baseline at equal steps", {**where, "arm": "baseline"}),
            Setting(longer, {**where, "arm": "baseline", "budget": "compute"}),
            Setting("+both", {**where, "arm": "+both"}, longer),
        )
        compared = Comparison(self.last, backbone, rows)
        if measures := Comparison(self.last, backbone, rows[1:2], HEADLINES).measured(1):
            yield f"**{backbone}**"
            yield self.costs(compared, measures)
            yield compared.sentence(measures[0])
            path = self.lines({s.label: s.where for s in rows[1:]}, f"{backbone} compute", "teraflops")
            yield path and f"![{backbone} by compute]({path})"

    def _answer(self, title: str, compared: Comparison) -> Iterator[str]:
        if measures := compared.measured():
            yield f"**{compared.title}**"
            yield compared.sentence(measures[0])
            yield table("", compared, measures, differences=True)
            yield self.dots(compared, measures, f"{title} {compared.title}", title)

    def _compared(self, backbone: str) -> Comparison:
        """The arms that were run, the best first, those without an outcome last."""
        rows = [
            Setting(arm, where, "" if arm == "baseline" else "baseline")
            for arm, where in ((arm, {"backbone": backbone, "arm": arm}) for arm in ARMS)
            if len(select(self.last, **{**MAIN, **where}))
        ]
        outcome = {s.label: Comparison(self.last, backbone, ()).mean(s, HELD_OUT) for s in rows}
        rows.sort(key=lambda s: -outcome[s.label].mean if outcome[s.label].seeds else 1.0)
        return Comparison(self.last, backbone, tuple(rows))

    def _items(self, measures: Sequence[Measure]) -> str:
        """How many items each figure is of."""
        words = []
        for measure in measures:
            asked = select(self.ends, probe=measure.probes, metric=measure.metric, world=Run.world)
            items = asked.groupby(RUN)["n"].agg(["sum", "size"])
            numbers = items["sum"][items["size"] == len(measure.probes)]
            if numbers.any():
                fewest, most = numbers.min(), numbers.max()
                words.append(f"{measure.title} {fewest:,}" + (f" to {most:,}" if most > fewest else ""))
        return f"Items of each seed: {'; '.join(words)}." if words else ""

    def costs(self, compared: Comparison, measures: Sequence[Measure]) -> str:
        """A row for each setting: what its runs took, and what they came to."""
        rows = []
        for setting in compared.settings:
            ends = select(self.last, **{**MAIN, **setting.where})
            if len(ends):
                step, tera, seconds = ends[["step", "teraflops", "seconds"]].mean()
                cost = [f"{step:,.0f}", f"{tera:,.0f}" if tera >= 100 else f"{tera:.3g}", f"{seconds / 60:.1f}"]
                rows.append([setting.label, *cost, *(compared.mean(setting, m).percent for m in measures)])
        return markdown_table(["", "steps", "TFLOP", "minutes", *(m.heading for m in measures)], rows)

    def dots(self, compared: Comparison, measures: Sequence[Measure], name: str, alt: str) -> str:
        """Draw a comparison; "" if it has no values."""
        panels = []
        for measure in measures:
            data = {s.label: compared.values(s, measure).tolist() for s in compared.settings}
            if any(data.values()):
                panels.append(Panel(measure.title.replace(", ", ",\n"), data, measure.chance))
        path = self._plot(name, plot_settings, panels)
        return path and f"![{alt}: {compared.title}]({path})"

    def lines(self, wanted: Mapping[str, Selection], name: str, axis: str) -> str:
        """Draw curves of runs; the path of the plot beside the page, "" if no figure was taken more than once."""
        panels = []
        for measure in CURVES:
            lines = {label: self._line(measure, where, axis) for label, where in wanted.items()}
            if data := {label: line for label, line in lines.items() if len(line) > 1}:
                title = measure.title.replace(", held-out combinations", "")
                panels.append(Panel(title, data, measure.chance))
        return self._plot(name, plot_lines, panels, {"teraflops": "TFLOP"}.get(axis, axis))

    def _plot(self, name: str, draw: Callable[..., None], panels: Sequence[Panel], *more: str) -> str:
        """The path of a plot beside the page, "" if there is nothing to draw."""
        file = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-") + ".svg"
        if panels:
            draw(panels, self.folder / file, *more)
        return f"{self.folder.name}/{file}" if panels else ""

    def _line(self, measure: Measure, where: Selection, axis: str) -> dict[float, list[float]]:
        """Values of all seeds, in their order, by the mean place; of runs alike in length the first looks together."""
        looks = measure.rows(self.steps, **{**MAIN, **where}).sort_values("step", kind="stable")
        runs = looks.groupby("seed")["step"]
        alike = runs.size().nunique() == 1
        return {
            group[axis].mean(): group.sort_values("seed")["value"].tolist()
            for _, group in looks.groupby(runs.cumcount() if alike else "step")
        }


def _method(preset: Preset, context: Context) -> Iterator[str]:
    yield "## How it was measured"
    yield measured(preset)
    yield "## What was tried and did not work"
    yield context.tried or "Nothing was written down."
    yield from reproduce(context)


def _vsr(compared: Comparison) -> str:
    rows = [
        [words, setting.label, *(compared.mean(setting, measure).percent for measure in VSR[folder])]
        for folder, words in FOLDERS.items()
        for setting in compared.settings
        if len(compared.values(setting, VSR[folder][0]))
    ]
    header = ["VSR", "arm", "accuracy at 0.5 (chance 50)", "AUROC (chance 50)", "calibration error (best 0)"]
    return markdown_table(header, rows) if rows else ""
