"""Compile the parts of a backbone that hold its layers.

Objectives call a backbone's methods, not its `forward`: `torch.compile(backbone)` would compile nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from relpretrain.backbones.encoders import Encoders
from relpretrain.errors import ConfigError

REGIONS: dict[str, tuple[str, ...]] = {
    "vision": ("forward",),
    "text": ("forward",),
    "fusion": ("forward", "precompute_image_kv", "precompute_text", "first_token"),
}
"""Parts of a backbone and their methods, each compiled as one graph: fusion begun (what depends on an image or a text
alone) and finished (for all tokens or the first)."""

GRAPHS = 32
"""Graphs of a method before torch gives up and runs it uncompiled."""


def compile_regions(backbone: nn.Module, **options: Any) -> None:
    """Compile a backbone's parts (`REGIONS`), and those of its momentum teacher, in place.

    Each method is one graph, without breaks. Numbers of images, texts, tokens and regions are dynamic, so that a new
    shape is no new graph. Names of parameters stay as they are. What is compiled belongs to this very module: copy it
    before, not after.

    Args:
        backbone: One of ours.
        **options: For `torch.compile`, such as `backend`, `mode` or `fullgraph`.

    Raises:
        ConfigError: If it is not one of ours.
    """
    if not isinstance(backbone, Encoders):
        raise ConfigError(
            f"model.compile=true: {type(backbone).__name__} does not say which of its parts can be compiled; compile "
            "them in its own __init__ (for instance `self.encoder.compile(dynamic=True)`) and set model.compile=false"
        )
    # A method has a graph for each of: student and teacher, training and not, with and without gradients or regions.
    dynamo: Any = torch._dynamo.config
    limit = "recompile_limit" if hasattr(dynamo, "recompile_limit") else "cache_size_limit"  # its name in torch 2.6
    setattr(dynamo, limit, max(getattr(dynamo, limit), GRAPHS))
    teacher = getattr(backbone, "teacher", None)
    for encoders in (backbone,) if teacher is None else (backbone, teacher.model):
        for part, methods in REGIONS.items():
            owner = getattr(encoders, part)
            for method in methods:
                setattr(owner, method, torch.compile(getattr(owner, method), dynamic=True, **options))
