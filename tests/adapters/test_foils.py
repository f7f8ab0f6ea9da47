"""Foils, units and several positives on models of other codebases."""

import dataclasses

import pytest
import torch

from relpretrain import add_relation_objectives, graph_loader
from relpretrain.objectives import VSG, MultiPositive, RelationUnits, TextFoil
from tests.adapters import host_checks as checks
from tests.adapters.test_blip import blip
from tests.adapters.test_blip import texts as blip_texts
from tests.adapters.test_dual import clip, siglip, texts_for
from tests.data.small import tokenizer, write_shards
from tests.objectives.standin import with_foils, with_units

HOSTS = {"clip": (clip, texts_for("clip")), "siglip": (siglip, texts_for("siglip")), "blip": (blip, blip_texts)}


def batch_of(texts):
    """Four images with graphs, foils of three texts and six units of which three have foils."""
    batch = with_units(with_foils(checks.graph_batch(texts), of=(0, 0, 2)))
    foils = dataclasses.replace(batch.foils, pairs=dataclasses.replace(batch.foils.pairs, text=texts(3, 11)))
    units = batch.units
    false = dataclasses.replace(units.foils, pairs=dataclasses.replace(units.foils.pairs, text=texts(3, 13)))
    units = dataclasses.replace(units, pairs=dataclasses.replace(units.pairs, text=texts(6, 12)), foils=false)
    return dataclasses.replace(batch, foils=foils, units=units)


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_learns_from_all_of_them(name):
    make, texts = HOSTS[name]
    objectives = [VSG(), TextFoil(sites={"itc_columns": 1.0, "itc_row": 1.0, "itm": 1.0}), RelationUnits()]
    host = add_relation_objectives(make(), [*objectives, MultiPositive()])
    losses = host.relation_losses(batch_of(texts))
    matching = name == "blip"
    assert ("textfoil_itm" in losses) == ("relationunits_itm" in losses) == matching, sorted(losses)
    for loss in losses.values():
        host.zero_grad()
        loss.backward(retain_graph=True)
        assert torch.isfinite(loss)
        grads = [p.grad for p in host.parameters() if p.grad is not None]
        assert sum(float(g.abs().sum()) for g in grads) > 0


def test_the_loader_makes_them(tmp_path):
    shards, words = write_shards(tmp_path / "shards", count=24), tokenizer(tmp_path)
    loader = graph_loader(shards, words, 4, 32, foils_per_text=2, units_per_image=2, positions_per_text=2)
    batch = next(iter(loader))
    assert len(batch.foils) > 0
    assert len(batch.units) > 0
    assert next(iter(graph_loader(shards, words, 4, 32))).foils is None
