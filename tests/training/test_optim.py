import math

import pytest
import torch
from timm.scheduler import CosineLRScheduler
from torch import nn

from relpretrain.backbones import ALBEF, XVLM
from relpretrain.checkpoints.official.back import official_names
from relpretrain.errors import ConfigError
from relpretrain.objectives import ITC, MRC
from relpretrain.training import RelationModule
from relpretrain.training.optim import Optimizer, build, learning_rate, parameter_groups


def test_warm_up_rises_linearly_to_the_peak():
    optimizer = Optimizer(lr=1.0, warmup_steps=4)
    assert [learning_rate(step, optimizer, 100) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, pytest.approx(95 / 96)]


@pytest.mark.parametrize(("decay", "middle"), [("linear", 0.55), ("cosine", 0.55), ("constant", 1.0)])
def test_decay_ends_at_the_minimum(decay, middle):
    optimizer = Optimizer(lr=1.0, warmup_steps=0, decay=decay, min_lr=0.1)
    assert learning_rate(4, optimizer, 10) == pytest.approx(middle)
    last = 1.0 if decay == "constant" else 0.1
    assert learning_rate(9, optimizer, 10) == pytest.approx(last)
    assert learning_rate(50, optimizer, 10) == pytest.approx(last)


def test_cosine_is_slower_at_first():
    assert learning_rate(1, Optimizer(lr=1.0, warmup_steps=0, decay="cosine"), 10) == pytest.approx(
        (1 + math.cos(0.2 * math.pi)) / 2
    )


def test_a_run_shorter_than_its_warm_up_never_decays():
    assert learning_rate(1, Optimizer(lr=1.0, warmup_steps=5000), 2) == pytest.approx(2 / 5000)


def test_decay_is_for_matrices():
    model = nn.ModuleDict({"linear": nn.Linear(3, 4), "norm": nn.LayerNorm(4), "words": nn.Embedding(5, 4)})
    model.temperature = nn.Parameter(torch.tensor(0.07))
    model.linear.frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)
    decayed, free = parameter_groups(model, Optimizer(weight_decay=0.02))
    assert decayed["weight_decay"] == 0.02
    assert free["weight_decay"] == 0
    assert {id(p) for p in decayed["params"]} == {id(model.linear.weight), id(model.words.weight)}
    assert {id(p) for p in free["params"]} == {
        id(p) for p in (model.linear.bias, model.norm.weight, model.norm.bias, model.temperature)
    }


def test_the_optimizer_follows_the_schedule():
    optimizer = Optimizer(lr=0.5, warmup_steps=2, betas=(0.9, 0.995))
    adamw, schedule = build(nn.Linear(2, 2), optimizer, 6)
    rates = []
    for _ in range(6):
        rates.append(adamw.param_groups[0]["lr"])
        adamw.step()
        schedule.step()
    assert rates == pytest.approx([learning_rate(step, optimizer, 6) for step in range(6)])
    assert adamw.param_groups[0]["betas"] == (0.9, 0.995)


@pytest.mark.parametrize("wrong", [{"lr": 0}, {"min_lr": 1.0}, {"weight_decay": -1}, {"betas": (0.9, 1.0)}])
def test_numbers_that_cannot_train_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Optimizer(**wrong)


def test_the_schedule_of_albef_is_that_of_its_loop():
    """The official loop: timm's scheduler, moved every 100 steps of the first epoch, then once an epoch."""
    optimizer = Optimizer(lr=1e-4, min_lr=1e-5, decay="albef", steps_per_epoch=2500)
    adamw = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1e-4)
    scheduler = CosineLRScheduler(
        adamw, t_initial=4, lr_min=1e-5, warmup_lr_init=1e-5, warmup_t=20, warmup_prefix=True, cycle_limit=1
    )
    rates = []
    for epoch in range(4):
        if epoch > 0:
            scheduler.step(epoch + 20)
        for i in range(2500):
            rates.append(adamw.param_groups[0]["lr"])
            if epoch == 0 and i % 100 == 0 and i <= 2000:
                scheduler.step(i // 100)
    assert rates == pytest.approx([learning_rate(step, optimizer, 10_000) for step in range(10_000)])


def albef_decays(name, shape):
    return not (len(shape) == 1 or name.endswith(".bias"))


def xvlm_decays(name, shape):
    return not any(part in name for part in ("bias", "LayerNorm.weight", "norm.weight", "norm1.weight", "norm2.weight"))


@pytest.mark.parametrize(
    ("kind", "vision", "rule"),
    [("albef", "vit", albef_decays), *(("xvlm", vision, xvlm_decays) for vision in ("vit", "clip", "swin"))],
)
def test_the_groups_are_those_of_the_official_rules(kind, vision, rule):
    numbers = {"size": "tiny", "image_size": 64, "vocab_size": 50}
    backbone = ALBEF(**numbers, momentum=0.9, queue_size=8) if kind == "albef" else XVLM(**numbers, vision=vision)
    module = RelationModule(backbone, {"itc": ITC(), "mrc": MRC()}, Optimizer())
    groups = parameter_groups(module, Optimizer(lr=1.0, weight_decay=0.5, groups=kind, new_lr=2.0))
    given = {id(p): (group["weight_decay"] > 0, group["lr"]) for group in groups for p in group["params"]}
    assert len(given) == sum(len(group["params"]) for group in groups)
    trainable = [p for p in module.parameters() if p.requires_grad]
    assert {id(p) for p in trainable} == given.keys()
    prefix, layers = ("visual_encoder." if kind == "albef" else "vision_encoder."), backbone.config.text_layers
    for name, parameter in backbone.named_parameters():
        if parameter.requires_grad:
            for theirs in official_names(name, layers, prefix, vision == "clip"):
                shape = () if theirs == "temp" else parameter.shape
                assert given[id(parameter)][0] == rule(theirs, shape), theirs
                new = theirs.partition(".")[0] in ("vision_proj", "text_proj", "temp", "itm_head", "bbox_head")
                assert given[id(parameter)][1] == (2.0 if new or ".crossattention." in theirs else 1.0), theirs


def test_xvlm_base_has_the_recorded_number_of_faster_parameters():
    with torch.device("meta"):
        backbone = XVLM(size="base", vision="swin")
    groups = parameter_groups(nn.ModuleDict({"backbone": backbone}), Optimizer(groups="xvlm", new_lr=2.0))
    faster = {id(p) for group in groups if group["lr"] > 1e-4 for p in group["params"]}
    names = [n for name, p in backbone.named_parameters() if id(p) in faster for n in official_names(name, 6)]
    assert len(names) == 77


def test_a_schedule_by_epochs_needs_their_length():
    with pytest.raises(ConfigError, match="steps_per_epoch"):
        Optimizer(decay="albef")
