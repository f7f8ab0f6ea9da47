"""How processes that shard a model write checkpoints, and go on from those of any number of processes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from relpretrain.checkpoints import checkpoint as checkpoints
from relpretrain.checkpoints.sharded import are_shards, fill, read_rest
from relpretrain.training.survival.checkpoint_io import SAVED
from relpretrain.writing import folder_aside, replace_folder


class ShardedStrategy(ModelParallelStrategy):
    """Writes a folder of shards aside, and renames it when all processes are done; reads any checkpoint, runs nothing.

    Lightning's own writes into the folder that is there. It takes a file's numbers of parameters for their places in
    the model, where they are places in the optimizer's groups, so that weights with and without decay would get each
    other's states. And it unpickles what a folder holds beside tensors.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Save, so that a folder of that name is whole, whatever happens to a process.

        Raises:
            OSError: If it cannot be written.
        """
        path = Path(self.broadcast(filepath))
        if not self._save_distributed_checkpoint:  # the whole model in one file
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        written = folder_aside(path)
        if self.is_global_zero and written.exists():  # a kill has left it
            shutil.rmtree(written)
        self.barrier()
        super().save_checkpoint({**checkpoint, SAVED: time.time()}, written, storage_options)
        self.barrier()
        if self.is_global_zero:
            replace_folder(written, path)
        self.barrier()

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load weights and optimizer states into this process's shards.

        Returns:
            The rest of the checkpoint.

        Raises:
            CheckpointError: If it is no whole checkpoint, holds more than tensors and plain types, or is of another
                optimizer.
        """
        path, model = Path(self.broadcast(checkpoint_path)), self.model
        assert model is not None
        assert self.lightning_module is not None
        strict = self.lightning_module.strict_loading
        if are_shards(path):
            weights = {"state_dict": get_model_state_dict(model)}
            fill(weights, path)
            model.load_state_dict(weights["state_dict"], strict=strict)
            for number, optimizer in enumerate(self.optimizers):
                own = {f"optimizer_{number}": get_optimizer_state_dict(model, optimizer)}
                fill(own, path)
                set_optimizer_state_dict(model, optimizer, own[f"optimizer_{number}"])
            return read_rest(path)
        content: dict[str, Any] = checkpoints.read_any(path)
        whole = StateDictOptions(full_state_dict=True, strict=strict)
        set_model_state_dict(model, content.pop("state_dict"), options=whole)
        saved = content.pop("optimizer_states", [])
        for optimizer, state in zip(self.optimizers, saved, strict=False):  # none to evaluate
            set_optimizer_state_dict(model, optimizer, _named(state, optimizer, model, path), options=whole)
        return content


def take_over(strategy: Any) -> None:
    """Let Lightning's `ModelParallelStrategy` go on as `ShardedStrategy` does, which has no state of its own."""
    if type(strategy) is ModelParallelStrategy:
        strategy.__class__ = ShardedStrategy


def _named(saved: Mapping[str, Any], optimizer: torch.optim.Optimizer, model: nn.Module, path: Path) -> dict[str, Any]:
    """An optimizer's state with the names of parameters for their numbers, by their places in its groups."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [[names[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]
    checkpoints.check_groups(path, saved["param_groups"], optimizer.param_groups)
    numbers = [group["params"] for group in saved["param_groups"]]
    name_of = dict(zip(chain(*numbers), chain(*groups), strict=True))
    return {
        "state": {name_of[number]: state for number, state in saved["state"].items()},
        "param_groups": [
            {**group, "params": members} for group, members in zip(saved["param_groups"], groups, strict=True)
        ],
    }
