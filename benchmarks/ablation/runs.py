"""From a preset to its results: the worlds, the runs, and what came out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks.ablation.design import GRAPH_SHARE, Preset, Run, World
from benchmarks.ablation.graphs import TAGGER_STEPS, make_graphs, make_tagger
from benchmarks.ablation.jobs import Job, carry_out
from benchmarks.ablation.recipe import recipe_of, shards_of
from benchmarks.ablation.results import read_results
from benchmarks.ablation.train import RESULTS, train
from relpretrain.synthetic import generate

_OPTIONS = "dials.json"


def train_all(preset: Preset, out: Path, say: Callable[[str], None] = print) -> dict[str, str]:
    """Generate the worlds and train the runs that are not there yet; returns what `carry_out` does."""
    worlds = {(run.world, run.seed): f"world of {run.world}, seed {run.seed}" for run in preset.runs}
    jobs = [Job(name, make_world, (preset, *which, out), weight=0.2) for which, name in worlds.items()]
    made = {run.seed: f"graphs of seed {run.seed}" for run in preset.runs if run.graphs != "human"}
    for seed, name in made.items():
        jobs.append(Job(name, make_graphs_of, (preset, seed, out), (worlds["main", seed],), weight=0.5))
    for run in preset.runs:
        rivals = [r.name for r in run.rivals if r in preset.runs] if run.budget == "compute" else []
        waits = [made[run.seed]] if run.graphs != "human" else []
        jobs.append(Job(run.name, train_run, (preset, run, out), (worlds[run.world, run.seed], *rivals, *waits)))
    return carry_out(jobs, preset.processes, say)


def collect(preset: Preset, out: Path) -> pd.DataFrame:
    """The results of all runs that are finished; empty if none is."""
    paths = [out / "runs" / run.name / RESULTS for run in preset.runs]
    found = [read_results(path) for path in paths if path.is_file()]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def make_world(preset: Preset, world: World, seed: int, out: Path) -> None:
    """Generate a world, unless it is there.

    Raises:
        ValueError: If it is there with other options: what was trained in it would be counted as of the new one.
    """
    folder = _world_folder(out, world, seed)
    options = json.loads(json.dumps({"seed": seed, **preset.worlds[world]}))
    path = folder / _OPTIONS
    if path.is_file():
        there = json.loads(path.read_text(encoding="utf-8"))
        if there == options:
            return
        other = ", ".join(sorted(k for k in there.keys() | options.keys() if there.get(k) != options.get(k)))
        raise ValueError(f"{folder} was generated with another {other}. Choose another --out, or remove {out}.")
    generate(folder, seed=seed, overwrite=True, **preset.worlds[world])
    path.write_text(json.dumps(options, indent=1) + "\n", encoding="utf-8")


def make_graphs_of(preset: Preset, seed: int, out: Path) -> None:
    """Make the graphs of all sources but a human who is always right, unless they are there."""
    world = _world_folder(out, "main", seed)
    annotated, every = shards_of(world, GRAPH_SHARE), sorted(map(str, (world / "graphs").glob("*.tar")))
    make_graphs(world, seed, preset.worlds["main"], annotated)
    base = recipe_of(preset, Run("ALBEF", "baseline", seed), world, world / "tagger", TAGGER_STEPS)
    make_tagger(world, base, seed, annotated, [shard for shard in every if shard not in annotated])


def train_run(preset: Preset, run: Run, out: Path) -> None:
    """Train and score one run in its world, unless that is done."""
    world, steps = _world_folder(out, run.world, run.seed), preset.steps[run.world]
    if run.budget == "compute":
        theirs, ours = (read_results(out / "runs" / r.name / RESULTS)["teraflops"].max() for r in run.rivals)
        steps = round(steps * theirs / ours)
    recipe = recipe_of(preset, run, world, out / "runs" / run.name, steps)
    train(run, recipe, world, preset.ways, preset.half_truths)


def _world_folder(out: Path, world: World, seed: int) -> Path:
    return out / "worlds" / f"{world}-{seed}"
