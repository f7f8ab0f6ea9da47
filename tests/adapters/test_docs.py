"""The adapter that docs/existing_codebases.md shows is run as it stands there."""

import re
from pathlib import Path

import torch
from torch import nn

from tests.objectives.standin import graphs

PAGE = Path(__file__).parents[2] / "docs" / "existing_codebases.md"


class Reader(nn.Embedding):
    def forward(self, ids, mask):
        return (super().forward(ids) * mask[..., None]).sum(1)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.image_encoder = nn.Sequential(nn.Flatten(), nn.Linear(48, 8))
        self.text_encoder, self.scale = Reader(20, 8), nn.Parameter(torch.tensor(10.0))


def test_the_adapter_of_the_page():
    section = PAGE.read_text().split("## A model of your own")[1]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names = {"model": Model()}
    exec(code, names)
    losses = names["model"].relation_losses(graphs())
    assert set(losses) == {"vsg_itc"}
    losses["vsg_itc"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in names["model"].parameters())
    assert code.split("class TwoEncoders")[1].count("\n") <= 30
