"""A real training run in a process of its own, which logs what every step saw; to be killed and resumed."""

import faulthandler
import hashlib
import json
import os
import re
import sys
import warnings
from dataclasses import fields, is_dataclass
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.environments import LightningEnvironment

from relpretrain.backbones import ALBEF
from relpretrain.data.datamodule import RelationDataModule
from relpretrain.objectives import ITC, ITM, MLM, MRC, VSG
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.training import RelationModule
from relpretrain.training.optim import Optimizer
from tests.data.small import stream

EVERY = 3
"""Steps between two checkpoints."""


PATIENCE = 600
"""Seconds that a run may take."""


class Estimating(RelationModule):
    """Reads what makes Lightning forget the state of its loaders."""

    def configure_optimizers(self):
        assert self.trainer.estimated_stepping_batches > 0
        return super().configure_optimizers()


class Log(pl.Callback):
    """A line for every step: its keys, a digest of the batch, each image's digest, the exact loss."""

    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        line = {
            "step": batch.step,
            "keys": batch.keys,
            "batch": digest(tensors(batch)),
            "images": [digest([image]) for image in batch.images],
            "loss": float(outputs["loss"]).hex(),
        }
        self._write(line)

    def on_train_end(self, trainer, module):
        self._write({"step": None, "weights": digest(module.state_dict().values())})

    def _write(self, line):
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def tensors(record):
    for field in fields(record):
        value = getattr(record, field.name)
        if is_dataclass(value):
            yield from tensors(value)
        elif isinstance(value, torch.Tensor):
            yield value


def digest(values):
    found = hashlib.sha256()
    for value in values:
        found.update(value.detach().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


class EveryBatch(pl.Callback):
    """A checkpoint after every batch, inside accumulations too."""

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        trainer.save_checkpoint(f"checkpoints/{batch.step + 1}.ckpt")


def newest(folder):
    """The checkpoint to go on from, and its step; None and 0 if there is none yet."""
    steps = {int(m[1]): path for path in folder.glob("*.ckpt") if (m := re.fullmatch(r"(\d+)\.ckpt", path.name))}
    return (steps[max(steps)], max(steps)) if steps else (None, 0)


def train(rank, world, port, folder, log, steps, workers, estimate, epoch, accumulate):
    """Train on the shards of `folder` up to `steps`, from its newest checkpoint on.

    If it holds a file `address`, the shards come from there while training runs.
    """
    os.chdir(folder)
    shards, address = "shards", Path("address")
    if address.exists():
        shards = address.read_text()
        os.environ["RELPRETRAIN_CACHE"] = str(Path("cache").absolute())
    sys.stdout = sys.stderr = open(f"{log}-{rank}.out", "w", buffering=1)  # noqa: SIM115  (until the process ends)
    os.dup2(sys.stderr.fileno(), 2)
    faulthandler.dump_traceback_later(PATIENCE - 10)  # says where it hangs, if it does
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    if world > 1:
        os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", WORLD_SIZE=str(world))
    streams = {
        "captions": stream("captions", shards, 6, objectives=["itc", "itm", "mlm"]),
        "graphs": stream("graphs", shards, 4, objectives=["vsg", "mrc"], dataset_ratios="size"),
    }
    data = RelationDataModule(streams, "tokenizer", image_size=16, num_workers=workers, seed=3)
    pl.seed_everything(5)
    objectives = {"itc": ITC(), "itm": ITM(), "mlm": MLM(), "vsg": VSG()}
    objectives["mrc"] = MRC(RelationVocabulary(("beside", "on", "under")))
    backbone = ALBEF("tiny", image_size=16, vocab_size=128, momentum=0.9, queue_size=12)
    model = (Estimating if estimate else RelationModule)(backbone, objectives, Optimizer(lr=1e-3, warmup_steps=2))
    saver = ModelCheckpoint(
        "checkpoints", "{step}", every_n_train_steps=EVERY, save_top_k=1, auto_insert_metric_name=False
    )
    if accumulate > 1:
        saver = EveryBatch()
    trainer = pl.Trainer(
        accelerator="cpu", devices=world, strategy="ddp" if world > 1 else "auto", plugins=[LightningEnvironment()],
        max_steps=steps, max_epochs=-1, limit_train_batches=epoch, accumulate_grad_batches=accumulate,
        callbacks=[Log(Path(f"{log}-{rank}.jsonl")), saver],
        logger=False, enable_checkpointing=accumulate == 1, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False,
        val_check_interval=None if epoch is None else 1.0, default_root_dir=".",
    )  # fmt: skip
    trainer.fit(model, data, ckpt_path=newest(Path("checkpoints"))[0])
