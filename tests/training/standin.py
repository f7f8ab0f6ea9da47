"""A backbone of a few layers with dropout, that remembers how it was built, and a fixed list of batches."""

import dataclasses

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from relpretrain.config_record import recorded
from relpretrain.objectives import BOX, ITC, ITM, MLM, MRC, VSG
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.training import Optimizer, RelationModule
from tests.objectives.standin import StandIn, captions, graphs, regions

NAMES = ("on", "under", "left of")


class Dropping(StandIn):
    @recorded
    def __init__(self, seed: int = 0, dropout: float = 0.2) -> None:
        super().__init__(seed)
        self.drop = nn.Dropout(dropout)

    def fuse(self, *args):
        return self.drop(super().fuse(*args))


def batch(step, kind=None):
    kind = kind or ("captions", "regions", "graphs")[step % 3]
    made = {"captions": captions, "regions": regions, "graphs": graphs}[kind](seed=step)
    chosen = {"captions": ("itc", "itm", "mlm"), "regions": ("box",), "graphs": ("vsg", "mrc")}[kind]
    return dataclasses.replace(made, stream=kind, objectives=chosen, step=step)


class Batches(Dataset):
    def __init__(self, start=0, stop=1000, kind=None):
        self.start, self.stop, self.kind = start, stop, kind

    def __len__(self):
        return self.stop - self.start

    def __getitem__(self, index):
        return batch(self.start + index, self.kind)


def loader(start=0, stop=1000, kind=None):
    return DataLoader(Batches(start, stop, kind), batch_size=None, shuffle=False)


def module(seed=0, names=NAMES, **optimizer):
    objectives = {"itc": ITC(), "itm": ITM(), "mlm": MLM(), "box": BOX(), "vsg": VSG()}
    objectives["mrc"] = MRC(RelationVocabulary(names))
    torch.manual_seed(seed)
    options = {"lr": 1e-2, "warmup_steps": 2, **optimizer}
    return RelationModule(Dropping(), objectives, Optimizer(**options), seed=seed)
