"""One run: trained by the command of `relpretrain fit`, and scored on every probe of its world."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml

from relpretrain.evidence.design import Run
from relpretrain.evidence.flops import Flops
from relpretrain.evidence.results import Figure, write_figures
from relpretrain.inspect.run_report.curves import find_metrics, read_curves
from relpretrain.training.command.cli import RelationCLI
from relpretrain.training.command.cli import run as fit
from relpretrain.training.progress import lightning_says_to
from relpretrain.zeroshot.analysis.table import OVERALL, Table
from relpretrain.zeroshot.callback import PREFIX
from relpretrain.zeroshot.evaluate import evaluate, prepare
from relpretrain.zeroshot.scorers import MatchScorer
from relpretrain.zeroshot.tasks import TASKS, Source

RECIPE, FIGURES, LOG = "recipe.yaml", "figures.csv", "log.txt"
PROBES = ("benchmarks", "held_out_pairs", "held_out_combinations")
"""Benchmark folders of a world."""

_Callback = TypeVar("_Callback")


def perform(run: Run, recipe: dict[str, Any], world: Path) -> None:
    """Train and score a run, unless its folder holds the figures of this very recipe.

    Args:
        run: The run.
        recipe: Its recipe, which names its folder.
        world: Folder of the generated world.
    """
    folder = Path(recipe["run"])
    if is_done(recipe):
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FIGURES).unlink(missing_ok=True)
    (folder / RECIPE).write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    with (
        (folder / LOG).open("w", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
        lightning_says_to(log),
    ):
        start = time.perf_counter()
        trained = fit(["fit", "-c", str(folder / RECIPE)])
        seconds = time.perf_counter() - start
        figures = list(_figures(run, trained, folder, world, seconds))
    write_figures(folder / FIGURES, figures)


def is_done(recipe: dict[str, Any]) -> bool:
    """Whether a run's folder holds the figures of this recipe."""
    folder = Path(recipe["run"])
    if not (folder / FIGURES).is_file():
        return False
    return bool(yaml.safe_load((folder / RECIPE).read_text(encoding="utf-8")) == recipe)


def _figures(run: Run, trained: RelationCLI, folder: Path, world: Path, seconds: float) -> Iterator[Figure]:
    """What was seen while it trained, then what it is worth at the end."""
    trainer, module = trained.trainer, trained.model
    last = trainer.global_step
    tera = next(callback for callback in trainer.callbacks if isinstance(callback, Flops)).tera

    def figure(step: int, probe: str, metric: str, value: float, n: int) -> Figure:
        share = step / last
        return Figure(run, step, seconds * share, tera * share, probe, metric, float(value), n)

    for name, (steps, values) in read_curves(find_metrics(folder)).items():
        if name.startswith(f"{PREFIX}/"):
            probe, metric = _of_a_look(name)
            for step, value in zip(steps.tolist(), values.tolist(), strict=True):
                if step < last:  # on a sample; the last step is scored on everything
                    yield figure(int(step), probe, metric, value, 0)
    scorer = MatchScorer(
        module.backbone, trained.datamodule.preprocess, module.device, objectives=dict(module.objectives.items())
    )
    for probes in PROBES:
        for task in TASKS if (world / probes).is_dir() else ():
            if (world / probes / task).is_dir():
                splits = ("synthetic/test",) if task == "vsr" else ()
                ready, _ = prepare([task], Source(world / probes, splits=splits))
                for part in evaluate(scorer, ready):
                    for probe, metric, value, n in _of_a_table(part.task.summarise(part.records, part.split)):
                        yield figure(last, f"{probes}/{probe}", metric, value, n)


def _of_a_look(name: str) -> tuple[str, str]:
    """Probe and metric of a logged name, such as "zeroshot/valse/relations" or "zeroshot/vsr_test/auroc"."""
    task, *rest = name.split("/")[1:]
    metric = rest.pop() if rest and rest[-1] == "auroc" else "accuracy"
    return "/".join([PROBES[-1], *task.split("_", 1), *rest]), metric


def _of_a_table(table: Table) -> Iterator[tuple[str, str, float, int]]:
    """Probe, metric, value and number of items of a task's headline."""
    if "r_mean" in {row.category for row in table.rows}:
        for row in table.rows:
            if "@" in row.category:
                yield f"{table.task}/{table.split}", row.category.lower(), row.accuracy, row.n
    elif table.task == "vsr":
        row, split = table.overall, table.split.rpartition("/")[2]
        yield f"vsr/{split}", "accuracy", row.accuracy, row.n
        yield f"vsr/{split}", "auroc", row.details["auroc"], row.n
        yield f"vsr/{split}", "ece", row.details["calibration_error"], row.n
    else:
        for row in table.rows:
            if row.category != OVERALL:
                yield f"{table.task}/{row.category}", "accuracy", row.accuracy, row.n
