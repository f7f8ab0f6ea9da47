"""Paragraphs that all pages have: where results come from, how they were measured, tables of comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ablation.design import MAIN, Preset
from benchmarks.ablation.measures import Measure
from benchmarks.ablation.studies import Comparison
from relpretrain.data.shards.writer import write_atomically
from relpretrain.zeroshot.report.terminal import markdown_table

_COLUMNS = 4
"""Figures with intervals beside each other, at most: more are hard to read."""


@dataclass(frozen=True)
class Context:
    """Where the results come from."""

    command: str  # that makes the page
    commit: str
    hardware: str
    versions: str  # of Python and the packages that matter
    minutes: float  # that all calls of the command took
    results: str  # path of the CSV file with all results
    tried: str = ""  # what was tried and did not work, in Markdown


def write_paragraphs(out: Path, paragraphs: Iterable[str]) -> Path:
    """Write a Markdown file, whole or not at all, of the paragraphs that are not empty."""
    there = [part.strip() for part in paragraphs if part.strip()]
    write_atomically(out, ("\n\n".join(there) + "\n").encode())
    return out


def made_by(preset: Preset, context: Context) -> str:
    """A line that says what made the results."""
    return (
        f"Commit {context.commit}; {context.hardware}; {context.versions}; preset `{preset.name}`, "
        f"all of it in {context.minutes:,.0f} minutes."
    )


def measured(preset: Preset) -> str:
    """How a preset measures, in Markdown: its worlds, runs and recipe."""
    seeds = ", ".join(map(str, sorted({run.seed for run in preset.runs})))
    lines = [
        f"Every run is a recipe, derived from `recipes/{preset.recipe.name}`, and trained by the command of "
        f"`lightning fit`; it lies in the folder of the run. Seeds {seeds}: each has its own world, with its own "
        f"held-out compositions, and its own initial weights, which all arms share. {len(preset.runs)} runs, "
        f"{preset.processes} side by side.",
        "",
        f"Arms have equal numbers of steps. Captions and graphs share them {MAIN['mixture']}, if there are graphs: an "
        "arm with relation objectives takes fewer steps on captions than the baseline, which has no others (X-VLM: "
        "and those on regions). MRC alone trains matching on these captions only.",
        "",
    ]
    for world, options in preset.worlds.items():
        if any(run.world == world for run in preset.runs):
            given = ", ".join(f"`{name}` {value}" for name, value in options.items())
            lines.append(f"- World of {world}, {preset.steps[world]:,} steps a run: {given}.")
    return "\n".join(lines)


def reproduce(context: Context) -> Iterator[str]:
    """How to make the page again, as paragraphs."""
    yield "## Reproduce"
    yield code(context.command)
    yield (
        f"A run that is finished is not trained again. All figures lie in `{context.results}`, a row for each: run, "
        "step, seconds and floating point operations so far, probe, metric, value (a share in [0, 1]), items. "
        "All figures of this page and its plots come from that file."
    )


def table(corner: str, compared: Comparison, measures: Sequence[Measure], differences: bool = False) -> str:
    """A row for each setting: means, on request the differences from its control, and the number of seeds."""
    header, rows = [corner], []
    for measure in measures:
        header += [measure.heading, *(["difference, points"] * differences)]
    for setting in compared.settings:
        cells, seeds = [setting.label], set()
        for measure in measures:
            mean, found = compared.mean(setting, measure), compared.difference(setting, measure)
            cells += [mean.percent, *([found.points if found else ""] * differences)]
            seeds.add(mean.seeds)
        few = f"{min(seeds)} to {max(seeds)}" if len(seeds) > 1 else str(min(seeds))
        rows.append([*cells, few])
    return markdown_table([*header, "seeds"], rows)


def parts_of(measures: Sequence[Measure]) -> list[Sequence[Measure]]:
    """As few and as equal parts as columns allow."""
    size = -(-len(measures) // max(1, -(-len(measures) // _COLUMNS)))
    return [measures[i : i + size] for i in range(0, len(measures), size or 1)]


def count(number: int, noun: str) -> str:
    """A number of things: "3 seeds"."""
    return f"{number:,} {noun}" + "s" * (number != 1)


def code(text: str) -> str:
    """A block of code."""
    return f"```\n{text}\n```"
