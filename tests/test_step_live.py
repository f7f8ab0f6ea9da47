"""The memory of tensors: what is there at one time, and nothing else."""

import torch
from torch import nn

from benchmarks.step_live import LiveTensors, live_mb

MB = 2**18
"""Numbers of a megabyte."""


def test_what_is_gone_is_not_counted():
    with LiveTensors() as live:
        for _ in range(3):
            torch.zeros(MB) + 1
    assert live.peak == 2 * 2**20


def test_views_and_what_happens_in_place_take_nothing():
    with LiveTensors() as live:
        kept = torch.zeros(MB)
        kept.view(2, -1).t().add_(1)
    assert live.peak == 2**20


def test_a_step_holds_its_weights_states_gradients_and_what_it_keeps():
    model = nn.Sequential(nn.Linear(512, 512, bias=False), nn.ReLU())  # of a megabyte
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    rows = torch.zeros(1024, 512)  # two megabytes, which were there before

    def act():
        optimizer.zero_grad()
        model(rows).sum().backward()
        optimizer.step()

    act()
    # Weights and momentum, and what the two layers give; the backward pass drops more than it makes.
    assert round(live_mb(act, model, optimizer)) == 2 + 4
