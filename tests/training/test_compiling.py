"""The parts of a backbone become graphs without breaks, and few of them; values and gradients stay."""

import copy
import dataclasses
import logging
import shutil

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from relpretrain.backbones import ALBEF, XVLM, encoders
from relpretrain.backbones.presets import from_preset
from relpretrain.backbones.vision import build_vision
from relpretrain.errors import ConfigError
from relpretrain.training import RelationModule
from relpretrain.training.compiling import REGIONS, compile_regions
from tests.objectives.standin import StandIn, captions, graphs, regions
from tests.training import test_syncs

SHALLOW = {"text_layers": 1, "fusion_layers": 2, "image_size": 32, "vocab_size": 20}


def backbone():
    """As few layers as there can be: each is traced, and a second of a kind says nothing new."""
    return XVLM("tiny", patch_size=8, vision_depth=1, **{**SHALLOW, "fusion_layers": 1})


def step(module, batch, seed):
    torch.manual_seed(seed)
    batch = dataclasses.replace(batch, images=torch.randn(len(batch.images), 3, 32, 32))
    module.zero_grad()
    loss = module.training_step(batch)
    loss.backward()
    module.on_before_optimizer_step(None)
    return loss.detach(), [p.grad for p in module.parameters() if p.requires_grad]


def test_compiled_parts_are_whole_graphs_and_few(caplog, monkeypatch):
    monkeypatch.setattr(encoders, "NARROW", 0)  # texts of tiny models are packed, too
    caplog.set_level(logging.WARNING, "torch")  # pytest would keep a record for each of dynamo's thoughts
    made = []

    def backend(graph, inputs):
        made.append(graph)
        return graph.forward

    torch._dynamo.reset()
    plain = test_syncs.module(backbone())
    fast = copy.deepcopy(plain)
    compile_regions(fast.backbone, backend=backend, fullgraph=True)  # raises at a break
    rounds = []
    for sizes in ((5, 3), (6, 4), (7, 3)):
        for batch in (captions(sizes[0]), regions(sizes[1]), graphs()):
            for expected, found in zip(step(plain, batch, 1), step(fast, batch, 1), strict=True):
                torch.testing.assert_close(found, expected)
        rounds.append(len(made))
    # One graph of each method; further ones of images with regions, of two texts an image, and of equal sizes.
    methods = sum(map(len, REGIONS.values()))
    assert methods < rounds[0] < 2.5 * methods
    assert rounds == [rounds[0]] * 3  # new sizes have none


def test_swins_images_are_one_graph(caplog):
    caplog.set_level(logging.WARNING, "torch")
    swin = build_vision(
        from_preset(vision="swin", size="tiny", vision_depth=(1, 1), vision_heads=(1, 2), image_size=32)
    )
    expected = swin(torch.ones(2, 3, 32, 32)).tokens
    found = torch.compile(swin.forward, backend="eager", fullgraph=True)(torch.ones(2, 3, 32, 32)).tokens
    torch.testing.assert_close(found, expected)


def test_one_switch_compiles_when_training_begins(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: compiled.append(function.__name__) or function)
    module = test_syncs.module(backbone())
    assert RelationModule(module.backbone, dict(module.objectives.items()), compile=True).compiles
    compile_regions(module.backbone)
    assert sorted(compiled) == sorted(method for methods in REGIONS.values() for method in methods)


def test_other_backbones_compile_themselves():
    with pytest.raises(ConfigError, match="StandIn does not say"):
        compile_regions(StandIn())
    with pytest.raises(ConfigError, match="compile=false"):
        compile_regions(nn.Linear(1, 1))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler for CPUs calls g++")
@pytest.mark.parametrize("momentum", [None, 0.9])
def test_inductor_trains_as_plain_torch_does(momentum):
    """All streams; new sizes are no new graphs."""
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    sizes = {"vision_depth": 2, "patch_size": 8, "dropout": 0.0, **SHALLOW}
    plain = test_syncs.module(XVLM("tiny", **sizes) if momentum is None else ALBEF("tiny", momentum=momentum, **sizes))
    fast = copy.deepcopy(plain)
    compile_regions(fast.backbone, fullgraph=True)
    graphs_made = []
    for number in range(12):
        batch = (captions(5 + number), regions(2 + number % 3), graphs())[number % 3]
        (loss, gradients), (found, compiled) = step(plain, batch, number), step(fast, batch, number)
        torch.testing.assert_close(found, loss, rtol=1e-4, atol=1e-4)
        largest = max(float(gradient.abs().max()) for gradient in gradients)
        for expected, gradient in zip(gradients, compiled, strict=True):
            torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-4 * largest)
        graphs_made.append(counters["stats"]["unique_graphs"])
    assert not counters["graph_break"]
    assert graphs_made[5] == graphs_made[-1] <= 3 * sum(map(len, REGIONS.values()))
