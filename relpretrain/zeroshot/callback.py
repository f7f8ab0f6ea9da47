"""Zero-shot figures while a model trains: a few items of each benchmark every so many steps."""

from __future__ import annotations

import sys
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import lightning.pytorch as pl
import numpy as np
import torch.distributed as dist
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from relpretrain.distributed import is_distributed, rank, world_size
from relpretrain.errors import ConfigError, suggest
from relpretrain.training.callbacks import LossLog
from relpretrain.zeroshot.analysis.table import LOWER_IS_BETTER, OVERALL, Table
from relpretrain.zeroshot.evaluate import Ready, prepare
from relpretrain.zeroshot.look import leave_out_broken
from relpretrain.zeroshot.scorers import MatchScorer
from relpretrain.zeroshot.tasks import TASKS, Source

PREFIX = "zeroshot"


class ZeroShot(pl.Callback):
    """Scores a fixed sample of benchmark items every so many steps, and logs what comes out.

    The headline of a split is logged as "zeroshot/<task>_<split>" (a share), its categories as
    "zeroshot/<task>_<split>/<category>", and AUROC where there is one as ".../auroc". Of a split such as
    "random_v1/dev" the name has "dev" only, unless another of the task's splits ends alike. A ModelCheckpoint can
    monitor these names, with `mode: max` (`min` for brittleness).

    Several processes share the splits among them, each scoring whole ones, and all of them learn every figure. Training
    goes on exactly as it would have done without: modes and random states are put back. Works where every process holds
    the whole model, in single or mixed precision.

    Args:
        data: Folder with a folder per task, or a JSON file of items, as of `relpretrain zeroshot --data`.
        tasks: Names of tasks; VSR and VALSE if None.
        every_n_steps: Steps between two looks; the end of training is looked at as well.
        items: Sample size of each split, in items or groups of items that belong together; None for all. Figures of
            retrieval depend on it, because the sample is all there is to find.
        splits: The splits to use of each task by its name, such as {vsr: [random_v1/dev]}; all of a task not named.
        images: Further image folders.
        allow_missing: Whether items without their image are left out instead of refused.
        batch_size: Images encoded at once.
        clean: Whether texts are cleaned as ALBEF and X-VLM clean captions.
        seed: Of the sample, which is the same at every look and in every run.
    """

    def __init__(
        self,
        data: str,
        tasks: list[str] | None = None,
        every_n_steps: int = 1000,
        items: int | None = 200,
        splits: dict[str, list[str]] | None = None,
        images: list[str] | None = None,
        allow_missing: bool = False,
        batch_size: int = 32,
        clean: bool = False,
        seed: int = 0,
    ) -> None:
        if every_n_steps < 1 or batch_size < 1 or (items is not None and items < 1):
            raise ConfigError("ZeroShot: every_n_steps, batch_size and items must be at least 1, not "
                              f"{every_n_steps}, {batch_size} and {items}")  # fmt: skip
        self.data = Path(data)
        self.tasks = tuple(tasks or ("vsr", "valse"))
        self.every_n_steps = every_n_steps
        self.items = items
        self.splits = {name: tuple(chosen) for name, chosen in (splits or {}).items()}
        self.images = tuple(map(Path, images or ()))
        self.allow_missing = allow_missing
        self.batch_size = batch_size
        self.clean = clean
        self.seed = seed
        self.latest: dict[str, float] = {}
        self._ready: dict[str, Ready] = {}
        self._looked_at = -1

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Read the items and find their images, before training.

        Raises:
            ConfigError: If something is missing, or a checkpoint is to be chosen by what will not be logged.
        """
        if stage != "fit":
            return
        if str(trainer.precision) in ("bf16-true", "16-true", "transformer-engine"):
            raise ConfigError(f"ZeroShot scores in single precision; precision={trainer.precision} has no such weights")
        self._ready = dict(self._prepare())
        for checkpoint in trainer.checkpoint_callbacks:
            if isinstance(checkpoint, ModelCheckpoint):
                self._check(checkpoint)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Score the sample every `every_n_steps` steps and after the last one, and log the figures."""
        step = trainer.global_step
        due = step % self.every_n_steps == 0 or step == trainer.max_steps
        if not due or step == self._looked_at:
            return
        self._looked_at = step
        start = time.perf_counter()
        self.latest = self.look(pl_module, trainer.datamodule.preprocess)
        seconds = time.perf_counter() - start
        pl_module.log_dict(self.latest, logger=False, on_step=True, on_epoch=False, batch_size=1, rank_zero_only=False)
        for logger in trainer.loggers:
            logger.log_metrics(self.latest, step=step)
        for callback in trainer.callbacks:
            if isinstance(callback, LossLog):
                callback.leave_out(seconds)
        if trainer.is_global_zero:
            shown = (f"{name} {self.latest.get(f'{PREFIX}/{name}', float('nan')):.3f}" for name in self._ready)
            print(f"zero-shot at step {step}: {', '.join(shown)} ({seconds:.1f} s)", file=sys.stderr, flush=True)

    def look(self, module: Any, preprocess: Any) -> dict[str, float]:
        """Score the sample now.

        Args:
            module: A RelationModule, or anything with `backbone`, `objectives` and `device`.
            preprocess: What turns images and texts into the model's input.

        Returns:
            The figures by the names they are logged under, on every process.
        """
        mine: dict[str, float] = {}
        with _undisturbed(module):
            objectives = dict(module.objectives.items())
            scorer = MatchScorer(
                module.backbone, preprocess, module.device, self.batch_size, self.clean, objectives=objectives
            )
            for name, part in list(self._ready.items())[rank() :: world_size()]:
                records = part.task.score(scorer, part.items)
                mine |= dict(_figures(name, part.task.summarise(records, part.split)))
        shares: list[Any] = [mine]
        if is_distributed():
            shares = [None] * world_size()
            dist.all_gather_object(shares, mine)
        return {name: value for share in shares for name, value in share.items()}

    def _prepare(self) -> Iterator[tuple[str, Ready]]:
        problems = [f"ZeroShot: there is no data folder or item file {self.data}"] if not self.data.exists() else []
        problems += [f"ZeroShot: there is no image folder {folder}" for folder in self.images if not folder.is_dir()]
        for name in (*self.tasks, *self.splits):
            if name not in TASKS:
                problems.append(f"ZeroShot: unknown task {name!r}{suggest(name, TASKS)}")
        if problems:
            raise ConfigError(problems)
        for name in self.tasks:
            source = Source(self.data, self.images, self.allow_missing, self.splits.get(name, ()))
            try:
                ready, _ = prepare([name], source)
            except (ValueError, OSError) as error:
                raise ConfigError(f"ZeroShot: {' '.join(str(error).split())}") from error
            ends = [part.split.rpartition("/")[2] for part in ready]
            for part, end in zip(ready, ends, strict=True):
                split = end if ends.count(end) == 1 else part.split.replace("/", "_")
                sample = replace(part, items=self._sample(part))
                try:
                    (sample,) = leave_out_broken([sample], self.allow_missing)
                except ValueError as error:
                    raise ConfigError(f"ZeroShot: {error}") from error
                yield _slug("_".join(filter(None, (name, split)))), sample

    def _sample(self, part: Ready) -> list[Any]:
        """A few items of a split, in their order; those of one group come together."""
        groups: dict[Hashable, list[Any]] = {}
        for number, item in enumerate(part.items):
            group = getattr(item, "group", None)
            groups.setdefault(("item", number) if group is None else ("group", group), []).append(item)
        rng = np.random.default_rng([self.seed, crc32(part.task.name.encode()), crc32(part.split.encode())])
        chosen = np.sort(rng.permutation(len(groups))[: self.items])
        members = list(groups.values())
        return [item for number in chosen for item in members[number]]

    def _check(self, checkpoint: ModelCheckpoint) -> None:
        monitor = str(checkpoint.monitor or "")
        if not monitor.startswith(f"{PREFIX}/"):
            return
        if monitor.split("/")[1] not in self._ready:
            known = [f"{PREFIX}/{name}" for name in self._ready]
            raise ConfigError(
                f"ModelCheckpoint monitors {monitor!r}, which ZeroShot does not log{suggest(monitor, known)}"
            )
        steps = getattr(checkpoint, "_every_n_train_steps", 0)
        lower = monitor.rpartition("/")[2] in map(_slug, LOWER_IS_BETTER)
        mode, better = ("min", "lower") if lower else ("max", "higher")
        if checkpoint.mode != mode:
            raise ConfigError(f"ModelCheckpoint monitors {monitor!r} with mode={checkpoint.mode!r}: {better} is "
                              f"better, set mode: {mode}")  # fmt: skip
        if steps and steps % self.every_n_steps:
            raise ConfigError(f"ModelCheckpoint saves every {steps} steps by {monitor!r}, which is scored every "
                              f"{self.every_n_steps} only: make the first a multiple of the second")  # fmt: skip


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    """Put every submodule's mode and all random states back afterwards."""
    modes = {part: part.training for part in module.modules()}
    with isolate_rng():
        try:
            yield
        finally:
            for part, mode in modes.items():
                part.training = mode


def _figures(name: str, table: Table) -> Iterator[tuple[str, float]]:
    """Names and values of a table's accuracies."""
    first = table.overall
    values: Mapping[str, float] = {"": first.accuracy, "/auroc": first.details.get("auroc", float("nan"))}
    rows: Sequence[Any] = table.rows[1:] if first.category == OVERALL else table.rows
    values = {**values, **{f"/{_slug(row.category)}": row.accuracy for row in rows}}
    for suffix, value in values.items():
        if value == value:
            yield f"{PREFIX}/{name}{suffix}", float(value)


def _slug(text: str) -> str:
    return "_".join(text.replace("/", "_").split())
