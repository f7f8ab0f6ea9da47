"""One training step: a batch, its features, the objectives that consume it, the sum."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from relpretrain.checkpoints import checkpoint as checkpoints
from relpretrain.checkpoints.described import record
from relpretrain.checkpoints.start import start_from
from relpretrain.distributed import attach_unused_parameters, is_sharded, rank
from relpretrain.errors import ConfigError, suggest
from relpretrain.features import Features, lay_out, step_generator
from relpretrain.identity import number_of
from relpretrain.objectives import Objective
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.training import optim
from relpretrain.training.accumulation import rewind
from relpretrain.training.callbacks import LossLog
from relpretrain.training.compiling import compile_regions
from relpretrain.training.metric_buffer import MetricBuffer
from relpretrain.training.micro_batch import MicroBatched, micro_batched_teacher
from relpretrain.training.optim import Optimizer
from relpretrain.training.precision import check_precision
from relpretrain.training.sharding import begin_step, data_mesh, filled, shard
from relpretrain.training.survival.finite import FiniteGuard, Policy
from relpretrain.training.survival.sharded_strategy import take_over
from relpretrain.types import Backbone, Batch, CaptionBatch, ObjectiveOutput, Pairs, Teacher

_Embeddings = tuple[Tensor, Tensor, Tensor, Tensor, list[int]]
"""What a teacher's queue takes of a batch."""

_MOVED = "teacher_moved"
"""In a checkpoint taken inside an accumulation: whether the teacher has moved for it."""


class RelationModule(pl.LightningModule):
    """Trains a backbone with the objectives that each batch asks for.

    Features are computed once per step and shared. Dropout and negatives are seeded by (seed, step, rank), so that a
    resumed step equals the one it repeats. Losses are logged as "train/<objective>_<part>" and "val/...", and only
    where they happened.

    Under gradient accumulation the batches between two optimizer steps are one step of a larger batch: the teacher
    moves once, before the first of them, and their embeddings enter its queue together, when the optimizer steps. A
    checkpoint taken between is that of the first of them (`training.accumulation`). A loop other than Lightning's calls
    `on_before_optimizer_step` itself.

    Args:
        backbone: The model; satisfies `relpretrain.types.Backbone`.
        objectives: The losses by name; streams refer to them by these names.
        optimizer: AdamW's numbers and the learning rate's schedule.
        seed: Of dropout and negatives.
        weights: A checkpoint to start from: of ours, or an official one of ALBEF or X-VLM (`training.start`).
        compile: Compile the backbone's parts when training begins (`training.compiling`).
        micro_batch: Encode and fuse so many images or texts of a process's batch at a time, for large batches in little
            memory (`training.micro_batch`); None for all at once.
        not_finite: What becomes of a step whose loss or gradient is NaN or infinite: it stops the run, or is skipped.
        freeze_backbone: Train the objectives' heads alone, on a backbone that stays as it is, without dropout.

    Raises:
        ValueError: If an objective cannot be computed on the backbone.
        CheckpointError: If `weights` do not fit it.
    """

    def __init__(
        self,
        backbone: nn.Module,
        objectives: dict[str, Objective],
        optimizer: Optimizer = Optimizer(),  # noqa: B008  (frozen)
        seed: int = 0,
        weights: str | None = None,
        compile: bool = False,
        micro_batch: int | None = None,
        not_finite: Policy = "stop",
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__()
        if not objectives:
            raise ConfigError("model.objectives is empty: name at least one objective")
        for objective in objectives.values():
            objective.attach(cast(Backbone, backbone))
        self.backbone = backbone
        self.objectives = nn.ModuleDict(objectives)
        self.optimizer = optimizer
        self.seed = seed
        if micro_batch is not None and micro_batch < 1:
            raise ConfigError(f"model.micro_batch={micro_batch} must be at least 1, or null for all at once")
        self.compiles = compile
        self.micro_batch = micro_batch
        self._compiled = False
        self.validation = MetricBuffer()
        self.guard = FiniteGuard(not_finite)
        self.starts_official = False
        if weights is not None:
            line, self.starts_official = start_from(backbone, dict(self.objectives.items()), weights)
            rank_zero_info(line)
        self.freeze_backbone = freeze_backbone
        if freeze_backbone:
            backbone.requires_grad_(False)
            if not any(parameter.requires_grad for parameter in self.parameters()):
                raise ConfigError("model.freeze_backbone=true leaves nothing to train: no objective has a head")
            if self.teacher is not None:
                raise ConfigError("model.freeze_backbone=true and a teacher do not go together: set momentum to null")
        self.last: tuple[Tensor, dict[str, ObjectiveOutput]] | None = None
        self._accumulated = 0  # batches since the last optimizer step
        self._teacher_moved = False  # since then
        self._embeddings: list[_Embeddings] = []  # since then, for the teacher's queue
        self.save_hyperparameters(
            {
                "_instantiator": "lightning.pytorch.cli.instantiate_module",
                "backbone": record(backbone),
                "objectives": {name: record(objective) for name, objective in objectives.items()},
                "optimizer": {**asdict(optimizer), "betas": list(optimizer.betas)},
                "seed": seed,
                "compile": compile,
                "micro_batch": micro_batch,
                "freeze_backbone": freeze_backbone,
            }
        )

    def train(self, mode: bool = True) -> RelationModule:
        """Set the mode of training; a frozen backbone stays in that of evaluation."""
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        return self

    @property
    def relation_vocabulary(self) -> RelationVocabulary | None:
        """The relations that MRC tells apart; None without MRC."""
        return checkpoints.relation_vocabulary(dict(self.objectives.items()))

    @property
    def teacher(self) -> Teacher | None:
        """The backbone's momentum copy; None if it has none."""
        return cast("Teacher | None", getattr(self.backbone, "teacher", None))

    def configure_model(self) -> None:
        """Shard the model over the processes where the strategy is Lightning's `ModelParallelStrategy`."""
        mesh = getattr(self, "_device_mesh", None)
        if mesh is None or is_sharded(self.backbone):
            return
        if self._compiled:
            raise ConfigError("model.compile=true and ModelParallelStrategy do not go together: leave out one of them")
        if self.micro_batch is not None:
            raise ConfigError("model.micro_batch and ModelParallelStrategy do not go together: leave out one of them")
        take_over(self.trainer.strategy)
        shard(self.backbone, self.objectives, data_mesh(mesh))

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Lay out a batch's texts and regions while it is on the CPU: later the host would wait for the device."""
        if not isinstance(batch, Batch):
            return batch
        batch = lay_out(batch, self._wanted, self._model)
        return batch.pin_memory() if torch.cuda.is_available() else batch

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Sum of the weighted losses of the objectives that the batch names."""
        if is_sharded(self.backbone):
            begin_step(self)
            _ = cast(Backbone, self.backbone).temperature  # clamped in the shards, too
        _seed_dropout(batch.images.device, self.seed, batch.step)
        teacher = self.teacher
        self._accumulated += 1
        if teacher is not None and not self._teacher_moved:
            teacher.update(self.backbone)
            self._teacher_moved = True
        features, outputs = self.losses(batch, step_generator(self.seed, batch.step), teacher)
        if teacher is not None and teacher.queue is not None and isinstance(batch, CaptionBatch):
            self._embeddings += _taught(features)
        features.release()
        loss = attach_unused_parameters(_total(outputs, batch), self.parameters())
        self.last = loss.detach(), outputs
        self.guard.note(batch, loss, outputs)
        return loss

    def losses(
        self, batch: Batch, generator: torch.Generator, teacher: Teacher | None = None
    ) -> tuple[Features, dict[str, ObjectiveOutput]]:
        """Run the batch's objectives on one set of features.

        Raises:
            ConfigError: If the batch names an objective that is unknown or does not consume its type.
        """
        if is_sharded(self.backbone):
            batch = filled(batch, self.relation_vocabulary)
        chosen = {name: self._objective(name, batch) for name in self._names(batch)}
        backbone = self._model
        if self.micro_batch is not None and teacher is not None:
            teacher = micro_batched_teacher(teacher, self.micro_batch)
        known = batch.pairs.text.packing or batch.regions
        if known is None and batch.images.device.type == "cpu":  # a loop that lays out nothing
            batch = lay_out(batch, self._wanted, backbone)
        features = Features(backbone, batch, self._wanted(batch), generator, teacher)
        parameters, outputs = list(self.parameters()), {}
        for name, objective in chosen.items():
            outputs[name] = objective(features)
            # Here, not at the end: a loss that has nothing on this process then holds its place in the backward pass,
            # where DDP's buckets and the collectives of ITC must come in one order on all processes.
            outputs[name].loss = attach_unused_parameters(outputs[name].loss, parameters)
        return features, outputs

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Note the same losses without dropout, teacher or changing negatives."""
        features, outputs = self.losses(batch, step_generator(self.seed, batch_idx))
        features.release()
        number = dataloader_idx * 1_000_000 + batch_idx
        self.validation.add(number, batch.stream, _total(outputs, batch), outputs)

    def on_validation_epoch_end(self) -> None:
        """Log the means as "val/...", which a ModelCheckpoint can monitor."""
        for name, value in self.validation.means().items():
            self.log(f"val/{name}", value, batch_size=1, rank_zero_only=False)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """End the step: fill the teacher's queue, and give idle parameters a zero gradient.

        One optimizer over all parameters would see those zeros, and DDP fills them in too: training on one process and
        on many stays the same. A step that is not finite is stopped here, or made one that changes nothing.

        Raises:
            NotFinite: If the step stops the run.
        """
        if not self.guard.passes(self.named_parameters(), scaled=self._scaler is not None):
            self._begin()
            for parameter in self.parameters():
                parameter.grad = None
            return
        if self.teacher is not None:
            for embeddings in self._embeddings:
                self.teacher.enqueue(*embeddings)
        self._begin()
        for parameter in self.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW, and a schedule over the trainer's `max_steps`."""
        # Never `estimated_stepping_batches`: reading it drops the loader's state on resume (Lightning#20550).
        total = self.trainer.max_steps
        if total < 1 and self.optimizer.decay != "constant":
            raise ConfigError(
                f"trainer.max_steps={total}: decay={self.optimizer.decay!r} needs the number of steps; set "
                "--trainer.max_steps, or optimizer.decay=constant"
            )
        # Lightning refuses to clip gradients of a fused optimizer under mixed precision.
        clips = bool(self.trainer.gradient_clip_val) and "mixed" in str(self.trainer.precision)
        fused = self.device.type in ("cuda", "cpu") and not clips
        adamw, schedule = optim.build(self, self.optimizer, total, fused)
        return {"optimizer": adamw, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Let this run's learning rate, decay and so on count, where a checkpoint has brought those of another."""
        if type(self).configure_optimizers is not RelationModule.configure_optimizers:
            return
        adamw, schedule = self.optimizers(use_pl_optimizer=False), self.lr_schedulers()
        assert isinstance(adamw, torch.optim.AdamW)
        assert isinstance(schedule, torch.optim.lr_scheduler.LambdaLR)
        optim.take_settings(adamw, schedule, self, self.optimizer)

    def configure_callbacks(self) -> list[Any]:
        """What logs the losses."""
        return [LossLog()]

    def setup(self, stage: str) -> None:
        """Begin with no batch accumulated; check the precision, and that the data gives what the model takes."""
        self._begin()
        check_precision(self.trainer.precision)
        if self.compiles and stage == "fit" and not self._compiled:
            compile_regions(self.backbone)
            self._compiled = True
        preprocess = getattr(getattr(self.trainer, "datamodule", None), "preprocess", None)
        if preprocess is None:
            return
        if self.starts_official and preprocess.separator:
            rank_zero_warn(
                "the official weights were trained on texts without [SEP], in lower case and without punctuation: set "
                "data.separator=false and data.clean=true, as recipes/albef_official.yaml does"
            )
        config = record(self.backbone)["init_args"] or {}
        if preprocess.image_size != config.get("image_size", preprocess.image_size):
            raise ConfigError(
                f"data.image_size={preprocess.image_size} but the backbone takes images of {config['image_size']} "
                "pixels: set both to one size"
            )
        words = len(preprocess.tokenizer)
        if words > config.get("vocab_size", words):
            raise ConfigError(
                f"the tokenizer has {words} words but the backbone only {config['vocab_size']}: set "
                f"--model.backbone.vocab_size={words}"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what `relpretrain.load` needs; inside an accumulation, go back to its first batch.

        Raises:
            NotFinite: If the step before was not finite, and stops the run.
        """
        self.guard.settle()
        if self._accumulated:
            rewind(checkpoint, self._accumulated)
            checkpoint[_MOVED] = self._teacher_moved
        preprocess = getattr(getattr(self.trainer, "datamodule", None), "preprocess", None)
        objectives = {name: cast(Objective, objective) for name, objective in self.objectives.items()}
        checkpoint[checkpoints.KEY] = checkpoints.describe(self.backbone, objectives, preprocess)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint with another relation vocabulary."""
        checkpoints.check_vocabulary(checkpoint.get(checkpoints.KEY, {}), self.relation_vocabulary)
        self._begin(teacher_moved=bool(checkpoint.get(_MOVED, False)))

    def _begin(self, teacher_moved: bool = False) -> None:
        """No batch has been accumulated since the last optimizer step."""
        self._accumulated = 0
        self._teacher_moved = teacher_moved
        self._embeddings.clear()

    @property
    def _model(self) -> Backbone:
        """The backbone as steps use it: a part of a batch at a time, if so asked."""
        backbone = cast(Backbone, self.backbone)
        return backbone if self.micro_batch is None else MicroBatched(backbone, self.micro_batch)

    @property
    def _scaler(self) -> Any:
        return getattr(getattr(self._trainer, "precision_plugin", None), "scaler", None)

    def _names(self, batch: Batch) -> tuple[str, ...]:
        if batch.objectives:
            return tuple(batch.objectives)
        return tuple(name for name, o in self.objectives.items() if isinstance(batch, cast(Objective, o).consumes))

    def _wanted(self, batch: Batch) -> list[Pairs]:
        """The pairs that the batch's objectives look at."""
        return [pairs for name in self._names(batch) for pairs in self._objective(name, batch).views(batch)]

    def _objective(self, name: str, batch: Batch) -> Objective:
        if name not in self.objectives:
            raise ConfigError(
                f"stream {batch.stream!r} names the objective {name!r}, which the model does not have"
                f"{suggest(name, self.objectives)}"
            )
        objective = cast(Objective, self.objectives[name])
        if not isinstance(batch, objective.consumes):
            raise ConfigError(
                f"stream {batch.stream!r} gives {type(batch).__name__}s, which objective {name!r} "
                f"({type(objective).__name__}) does not consume"
            )
        return objective


def _total(outputs: dict[str, ObjectiveOutput], batch: Batch) -> Tensor:
    return sum((output.loss for output in outputs.values()), start=batch.images.new_zeros((), dtype=torch.float32))


def _taught(features: Features) -> list[_Embeddings]:
    """What the teacher's queue takes of a batch; nothing without a teacher."""
    pairs = features.batch.pairs
    view = features.view(pairs)
    if view.teacher_view is None:
        return []
    with torch.no_grad():
        embeddings = view.teacher_view.image_embedding, view.teacher_view.text_embedding
        return [(*embeddings, view.image_ids, pairs.text_keys, view.sizes)]


def _seed_dropout(device: torch.device, seed: int, step: int) -> None:
    mixed = number_of("dropout", seed, step, rank())
    if device.type == "cuda":
        torch.cuda.manual_seed(mixed)
    else:
        torch.default_generator.manual_seed(mixed)
