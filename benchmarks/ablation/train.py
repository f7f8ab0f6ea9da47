"""One run: trained by the command of `relpretrain fit`, and scored on every probe of its world."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import yaml
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ablation.design import Run, Way
from benchmarks.ablation.graphs import quality
from benchmarks.ablation.results import write_results
from relpretrain.inspect.run_report.curves import find_metrics, read_curves
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.training.command.cli import RelationCLI
from relpretrain.training.command.cli import run as fit
from relpretrain.training.progress import lightning_says_to
from relpretrain.zeroshot.analysis.table import OVERALL, Table
from relpretrain.zeroshot.callback import PREFIX
from relpretrain.zeroshot.evaluate import evaluate, prepare
from relpretrain.zeroshot.scorers import MatchScorer
from relpretrain.zeroshot.tasks import TASKS, Source

RECIPE, RESULTS, LOG = "recipe.yaml", "figures.csv", "log.txt"
GRAPHS = "graphs/triplets"
"""What the graphs themselves are measured on: precision, recall, and triplets per_image."""
PROBES = ("benchmarks", "held_out_pairs", "held_out_combinations")
"""Benchmark folders of a world; looks while a run trains are at the last one."""

_SPLITS = {"vsr": ("synthetic/test",), "aro": ("attribution",), "hard_positives": ("relations",)}
"""What is asked of benchmarks that have more than the world has."""

_Row = tuple[int, str, str, float, int]
"""Step, probe, metric, value, number of items."""


class Flops(pl.Callback):
    """Counts floating point operations: those of one step of each stream, times the steps that it was drawn."""

    def __init__(self) -> None:
        self.of_a_step: dict[str, int] = {}
        self.steps: Counter[str] = Counter()
        self._counter: Any = None  # a FlopCounterMode

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Count the first step of a stream, forward and backward."""
        self.steps[batch.stream] += 1
        if batch.stream not in self.of_a_step:
            self._stream, self._counter = batch.stream, FlopCounterMode(display=False)
            self._counter.__enter__()

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        """Note the count, before other callbacks compute something at the step's end."""
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            self.of_a_step[self._stream] = self._counter.get_total_flops()
            self._counter = None

    @property
    def tera(self) -> float:
        """Of all steps so far, in 10^12 operations: products of matrices and attention."""
        return sum(self.of_a_step[stream] * steps for stream, steps in self.steps.items()) / 1e12


def train(
    run: Run, recipe: dict[str, Any], world: Path, ways: Sequence[Way] = ("itm",), half_truths: bool = False
) -> None:
    """Train and score a run, unless the folder that its recipe names holds the results of this very recipe.

    Args:
        run: The run.
        recipe: Its recipe.
        world: Folder of its world.
        ways: By which scores probes are asked; metrics of others than the first begin with their name ("itc accuracy").
        half_truths: Whether half-truths are asked for, too.
    """
    folder = Path(recipe["run"])
    if (folder / RESULTS).is_file() and yaml.safe_load((folder / RECIPE).read_text(encoding="utf-8")) == recipe:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULTS).unlink(missing_ok=True)
    (folder / RECIPE).write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    counted = f"--trainer.callbacks+={Flops.__module__}.Flops"  # not in the recipe, which needs the package alone
    with (
        (folder / LOG).open("w", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
        lightning_says_to(log),
    ):
        start = time.perf_counter()
        trained = fit(["fit", "-c", str(folder / RECIPE), "--overwrite", counted])
        seconds = time.perf_counter() - start
        rows = [
            *_looks(trained, folder),
            *(row for way in ways for row in _scores(trained, world, way, half_truths)),
            *_graphs(recipe, world, trained.trainer.global_step),
        ]
    results = pd.DataFrame(rows, columns=["step", "probe", "metric", "value", "n"])
    part = results["step"] / trained.trainer.global_step
    tera = next(callback for callback in trained.trainer.callbacks if isinstance(callback, Flops)).tera
    write_results(folder / RESULTS, results.assign(**asdict(run), seconds=seconds * part, teraflops=tera * part))


def _looks(trained: RelationCLI, folder: Path) -> Iterator[_Row]:
    """What was seen on a sample while it trained; the last step is scored on everything."""
    for name, (steps, values) in read_curves(find_metrics(folder)).items():
        if name.startswith(f"{PREFIX}/"):  # such as "zeroshot/valse/relations" or "zeroshot/vsr_test/auroc"
            task, *rest = name.split("/")[1:]
            metric = rest.pop() if rest and rest[-1] == "auroc" else "accuracy"
            probe = "/".join([PROBES[-1], *task.split("_", 1), *rest])
            for step, value in zip(steps.tolist(), values.tolist(), strict=True):
                if step < trained.trainer.global_step:
                    yield int(step), probe, metric, float(value), 0


def _scores(trained: RelationCLI, world: Path, way: Way, half_truths: bool) -> Iterator[_Row]:
    """What the model is worth at the end, by some of its scores."""
    module, last = trained.model, trained.trainer.global_step
    scorer = MatchScorer(
        module.backbone,
        trained.datamodule.preprocess,
        module.device,
        objectives=dict(module.objectives.items()),
        by=way,
    )
    for folder in PROBES:
        asked = [task for task in TASKS if (world / folder / task).is_dir()]
        for task in [*asked, *["half_truth"] * (half_truths and folder == PROBES[0])]:
            ready, _ = prepare([task], Source(world / folder, splits=_SPLITS.get(task, ())))
            for part in evaluate(scorer, ready):
                for probe, metric, value, n in _of_a_table(part.task.summarise(part.records, part.split)):
                    if not math.isnan(value):  # cosines are no probabilities, and have no accuracy at 0.5
                        name = metric if way == "itm" else f"{way} {metric}"
                        yield last, f"{folder}/{probe}", name, float(value), n


def _graphs(recipe: dict[str, Any], world: Path, last: int) -> Iterator[_Row]:
    """How good the graphs are that a run has trained on, if any."""
    if graphs := recipe["data"]["streams"].get("graphs"):
        found = quality(graphs["datasets"]["world"], RelationVocabulary.load(world / "relations.json"))
        yield last, GRAPHS, "precision", found.precision, found.triplets
        yield last, GRAPHS, "recall", found.recall, found.images
        yield last, GRAPHS, "per_image", found.triplets / found.images, found.images


def _of_a_table(table: Table) -> Iterator[tuple[str, str, float, int]]:
    """Probe, metric, value and number of items of a task's headline."""
    if "r_mean" in {row.category for row in table.rows}:
        for row in table.rows:
            if "@" in row.category:
                yield f"{table.task}/{table.split}", row.category.lower(), row.accuracy, row.n
    elif table.task == "aro":
        row = next(row for row in table.rows if row.category == OVERALL)
        yield f"aro/{table.split}", "accuracy", row.accuracy, row.n
    elif table.task == "half_truth":
        for row in table.rows:
            yield f"half_truth/{table.split}/{row.category}", "accuracy", row.accuracy, row.n
    elif table.task == "vsr":
        row, probe = table.overall, f"vsr/{table.split.rpartition('/')[2]}"
        yield probe, "accuracy", row.accuracy, row.n
        yield probe, "auroc", row.details["auroc"], row.n
        yield probe, "ece", row.details.get("calibration_error", math.nan), row.n
    else:
        for row in table.rows:
            if row.category != OVERALL:
                yield f"{table.task}/{row.category}", "accuracy", row.accuracy, row.n
