import math

import pytest
import torch
from torch import nn

from relpretrain.errors import ConfigError
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
    decayed, free = parameter_groups(model, 0.02)
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
