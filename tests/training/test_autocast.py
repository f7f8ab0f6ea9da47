"""Under autocast every encoder computes in bf16: of every stream, on every backbone, the teacher's as well."""

import re

import pytest
import torch
from torch import nn

from tests.training.test_syncs import BACKBONES, OF_TEXTS, SIDE, STREAMS, module

ENCODERS = re.compile(r"backbone\.(teacher\.model\.)?(vision|text|fusion)\.")


def products(name, stream):
    """By the name of each linear layer of an encoder that was called: the types of what it gave."""
    torch.manual_seed(0)
    batch = STREAMS[stream]()
    batch.images = torch.rand(len(batch.images), 3, SIDE, SIDE)
    trained, found = module(BACKBONES[name](), batch.foils is not None), {}
    for path, layer in trained.named_modules():
        if isinstance(layer, nn.Linear) and ENCODERS.match(path):
            layer.register_forward_hook(lambda _, __, out, path=path: found.setdefault(path, set()).add(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        loss = trained.training_step(batch)
    assert loss.dtype == torch.float32
    loss.backward()
    return found


@pytest.mark.parametrize(
    ("name", "stream"), [(n, s) for n in BACKBONES for s in STREAMS if n != "xvlm, swin" or s not in OF_TEXTS]
)
def test_encoders_compute_in_bf16(name, stream):
    found = products(name, stream)
    assert {path for path, types in found.items() if types != {torch.bfloat16}} == set()
    parts = {ENCODERS.match(path)[0] for path in found}
    assert parts >= {"backbone.vision.", "backbone.text.", "backbone.fusion."}
    if name == "albef" and stream == "captions":  # whose objectives are distilled
        assert parts >= {f"backbone.teacher.model.{part}." for part in ("vision", "text", "fusion")}
