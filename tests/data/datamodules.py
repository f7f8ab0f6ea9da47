"""Data modules on small shards: their batches, and training on them with Lightning."""

import dataclasses
from itertools import islice

import lightning.pytorch as pl
import torch

from relpretrain.types import Batch
from tests.data.small import picture, write_shards

KINDS = {"captions": (2.0, 6), "regions": (1.0, 4), "graphs": (1.0, 4)}


def run(data, count):
    data.setup()
    return list(islice(iter(data.train_dataloader()), count))


def _tensors(batch, prefix=""):
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if dataclasses.is_dataclass(value):
            yield from _tensors(value, prefix + field.name + ".")
        else:
            yield prefix + field.name, value


def assert_equal(a, b):
    assert type(a) is type(b)
    for (name, x), (_, y) in zip(_tensors(a), _tensors(b), strict=True):
        assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y, name


class _Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, index):
        assert isinstance(batch, Batch)
        self.seen.append((batch.step, batch.keys))
        return self.weight * batch.images.sum()

    def validation_step(self, batch, index, dataloader_idx=0):
        self.seen.append(("val", batch.stream, batch.keys))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(data, folder, steps, resume=None, **options):
    model = _Model()
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=steps, logger=False, default_root_dir=folder, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, **{"max_epochs": -1, **options},
    )  # fmt: skip
    trainer.fit(model, data, ckpt_path=resume)
    return model.seen, trainer


def some_bad(make, every=8):
    return write_shards(make.folder / "some", count=40, image=lambda i: b"nothing" if i % every == 3 else picture(i))
