"""From a preset to its figures: the jobs, what each of them does, and what came out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from relpretrain.data.synthetic import generate
from relpretrain.evidence.design import Preset, Run, World
from relpretrain.evidence.recipe import recipe_of
from relpretrain.evidence.results import Figure, read_figures
from relpretrain.evidence.train import FIGURES, perform
from relpretrain.evidence.work import Job, carry_out

_DIALS = "dials.json"


def train_all(preset: Preset, out: Path, processes: int, say: Callable[[str], None] = print) -> dict[str, str]:
    """Generate the worlds and train the runs that are not there yet.

    Args:
        preset: What to train.
        out: Where worlds and runs go.
        processes: How many at a time.
        say: Told of the progress.

    Returns:
        What went wrong, by the name of the job.
    """
    worlds = {(run.world, run.seed): f"world of {run.world}, seed {run.seed}" for run in preset.runs}
    jobs = [Job(name, make_world, (preset, *which, out), weight=0.2) for which, name in worlds.items()]
    for run in preset.runs:
        after = [worlds[run.world, run.seed]]
        if run.budget == "compute":
            after += [rival.name for rival in run.rivals]
        jobs.append(Job(run.name, conduct, (preset, run, out), tuple(after)))
    return carry_out(jobs, processes, say)


def collect(preset: Preset, out: Path) -> list[Figure]:
    """The figures of all runs that are finished."""
    paths = [out / "runs" / run.name / FIGURES for run in preset.runs]
    return [figure for path in paths if path.is_file() for figure in read_figures(path)]


def make_world(preset: Preset, world: World, seed: int, out: Path) -> None:
    """Generate a world, unless it is there."""
    folder = world_folder(out, world, seed)
    dials = json.loads(json.dumps({"seed": seed, **preset.worlds[world]}))
    path = folder / _DIALS
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) == dials:
        return
    generate(folder, seed=seed, overwrite=True, **preset.worlds[world])
    path.write_text(json.dumps(dials, indent=1) + "\n", encoding="utf-8")


def conduct(preset: Preset, run: Run, out: Path) -> None:
    """Train and score one run in its world."""
    base: dict[str, Any] = yaml.safe_load(preset.recipe.read_text(encoding="utf-8"))
    world = world_folder(out, run.world, run.seed)
    steps = preset.steps[run.world]
    if run.budget == "compute":
        theirs, ours = (_teraflops(out, rival) for rival in run.rivals)
        steps = round(steps * theirs / ours)
    perform(run, recipe_of(run, base, world, out / "runs" / run.name, steps), world)


def world_folder(out: Path, world: World, seed: int) -> Path:
    """Where a world lies."""
    return out / "worlds" / f"{world}-{seed}"


def _teraflops(out: Path, run: Run) -> float:
    figures = read_figures(out / "runs" / run.name / FIGURES)
    return max(figure.teraflops for figure in figures)
