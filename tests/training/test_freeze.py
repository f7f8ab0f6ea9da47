"""Heads trained on a backbone that stays as it is."""

import dataclasses

import pytest
import torch
from torch.utils.data import DataLoader

from relpretrain.errors import ConfigError
from relpretrain.objectives import ITC, MRC
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.training import Optimizer, RelationModule
from tests.training.standin import Dropping, batch
from tests.training.test_module import fit


def graph_batch(step):
    return dataclasses.replace(batch(step, "graphs"), objectives=("mrc",))


def frozen(**objectives):
    return RelationModule(Dropping(), objectives, Optimizer(lr=1e-2, warmup_steps=2), freeze_backbone=True)


def test_only_the_head_moves(tmp_path):
    model = frozen(mrc=MRC(RelationVocabulary(["on", "under"])))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = fit(tmp_path, model, 4, DataLoader([graph_batch(step) for step in range(4)], batch_size=None))
    assert trainer.global_step == 4
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("objectives.mrc.head") for name in moved)


def test_a_frozen_backbone_drops_nothing():
    model = frozen(mrc=MRC(RelationVocabulary(["on", "under"]))).train()
    assert not model.backbone.training
    assert model.objectives.training
    first = model.training_step(graph_batch(0))
    assert float(model.training_step(graph_batch(0)).detach()) == float(first.detach())


def test_nothing_to_train_is_told():
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        frozen(itc=ITC())
