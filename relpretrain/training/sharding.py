"""Shard a model's parameters, gradients and optimizer states over the processes (FSDP2)."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformerBlock
from timm.models.vision_transformer import Block
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from relpretrain.backbones.encoders import Encoders
from relpretrain.backbones.text import Layer
from relpretrain.checkpoints.sharded import SUPPORTED
from relpretrain.errors import ConfigError
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.types import NO_RELATION, Batch, GraphBatch, Pairs, TextBatch

BLOCKS = (Block, SwinTransformerBlock, Layer)
"""What is gathered and freed at a time."""
METHODS = (
    *("attend", "finish", "keys_values"),
    *("encode_", "fuse", "precompute_", "match", "project_", "word_logits", "boxes"),
)
"""Beginnings of the names of what is called of a block, and of a backbone, beside `forward`."""


def shard(backbone: nn.Module, objectives: nn.ModuleDict, mesh: Any) -> None:
    """Shard a backbone, block by block, and the heads of objectives over a mesh, in place.

    Blocks are gathered when they run and freed again; what is left of the backbone stays gathered from its first use in
    a step to the end of the backward pass. Gradients are means over processes, as DDP's.

    Args:
        backbone: One of ours.
        objectives: The losses; their children with parameters are sharded.
        mesh: One dimension of a `DeviceMesh`.

    Raises:
        ConfigError: If it is not one of ours, or if this torch is too old.
    """
    if not SUPPORTED:
        raise ConfigError(
            f"ModelParallelStrategy: torch {torch.__version__} is too old to shard these models; install a newer one, "
            "or use strategy=ddp"
        )
    if not isinstance(backbone, Encoders):
        raise ConfigError(
            f"ModelParallelStrategy: {type(backbone).__name__} does not say where it can be cut; use strategy=ddp"
        )
    # Nothing of ours changes an output in place, which the warning is about.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    for module in list(backbone.modules()):
        if isinstance(module, BLOCKS):
            _unit(module, mesh)
    _unit(backbone, mesh)
    for objective in objectives.values():
        for head in objective.children():
            if next(head.parameters(), None) is not None:
                _unit(head, mesh)


def begin_step(module: nn.Module) -> None:
    """Free what a forward pass without a backward pass left gathered, such as a validation's.

    What changes parameters in place (the momentum teacher's average, the temperature's clamp) then meets the shards.
    """
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def filled(batch: Batch, vocabulary: RelationVocabulary | None) -> Batch:
    """A graph batch in which MRC has something to run on: a placeholder if no relation of it is in the vocabulary.

    A process takes part in gathering parameters only by running what they are in, forward and backward, as others do.
    """
    if not isinstance(batch, GraphBatch) or vocabulary is None or any(r in vocabulary for r in batch.relations):
        return batch
    device = batch.images.device
    mask, first = torch.arange(2, device=device)[None] < 1, torch.zeros(1, dtype=torch.long, device=device)
    box = torch.full((1, 4), 0.5, device=device)
    box[:, 2:] = 1.0  # the whole image
    entities = Pairs(TextBatch(2 * mask, mask), first, first, box)
    return replace(
        batch, entities=entities, subjects=first, objects=first, relations=(NO_RELATION,), weights=None, regions=None
    )


def data_mesh(mesh: Any) -> Any:
    """The dimension of a strategy's mesh that parameters are sharded over.

    Raises:
        ConfigError: If the strategy wants tensors cut as well.
    """
    if mesh["tensor_parallel"].size() > 1:
        processes = mesh.size()
        raise ConfigError(
            f"ModelParallelStrategy with tensor_parallel_size={mesh['tensor_parallel'].size()}: parameters are sharded "
            f"over data_parallel_size alone; set data_parallel_size={processes} and tensor_parallel_size=1"
        )
    return mesh["data_parallel"]


def _unit(module: nn.Module, mesh: Any) -> None:
    methods = [name for name in dir(type(module)) if name.startswith(METHODS) and callable(getattr(type(module), name))]
    fully_shard(module, mesh=mesh)
    for method in methods:
        register_fsdp_forward_method(module, method)
