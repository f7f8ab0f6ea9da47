"""From a preset to its figures: the jobs, what each of them does, and what came out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from relpretrain.evidence.design import Preset, Run, World
from relpretrain.evidence.recipe import recipe_of
from relpretrain.evidence.results import Figure, read_figures
from relpretrain.evidence.settings import check_settings, with_settings
from relpretrain.evidence.train import FIGURES, perform
from relpretrain.evidence.work import Job, carry_out
from relpretrain.synthetic import generate

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
    """Generate a world, unless it is there.

    Raises:
        ValueError: If it is there with other dials: what was trained in it would be counted as of the new one.
    """
    folder = world_folder(out, world, seed)
    dials = json.loads(json.dumps({"seed": seed, **preset.worlds[world]}))
    path = folder / _DIALS
    if path.is_file():
        there = json.loads(path.read_text(encoding="utf-8"))
        if there == dials:
            return
        other = ", ".join(sorted(k for k in there.keys() | dials.keys() if there.get(k) != dials.get(k)))
        raise ValueError(f"{folder} was generated with another {other}. Choose another --out, or remove {out}.")
    generate(folder, seed=seed, overwrite=True, **preset.worlds[world])
    path.write_text(json.dumps(dials, indent=1) + "\n", encoding="utf-8")


def conduct(preset: Preset, run: Run, out: Path) -> None:
    """Train and score one run in its world."""
    world = world_folder(out, run.world, run.seed)
    steps = preset.steps[run.world]
    if run.budget == "compute":
        theirs, ours = (_teraflops(out, rival) for rival in run.rivals)
        steps = round(steps * theirs / ours)
    recipe = recipe_of(run, base_recipe(preset), world, out / "runs" / run.name, steps)
    check_settings(recipe, preset.settings)
    perform(run, recipe, world)


def base_recipe(preset: Preset) -> dict[str, Any]:
    """The preset's recipe, with the preset's settings.

    Raises:
        ConfigError: If one is of a section that the recipe does not have.
    """
    return with_settings(yaml.safe_load(preset.recipe.read_text(encoding="utf-8")), preset.settings)


def world_folder(out: Path, world: World, seed: int) -> Path:
    """Where a world lies."""
    return out / "worlds" / f"{world}-{seed}"


def _teraflops(out: Path, run: Run) -> float:
    figures = read_figures(out / "runs" / run.name / FIGURES)
    return max(figure.teraflops for figure in figures)
