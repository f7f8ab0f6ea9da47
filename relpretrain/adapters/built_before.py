"""Find optimizers and wrappers that were built before the relation objectives and lack their parameters."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from typing import TypeVar

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from relpretrain.distributed import is_sharded

_Kind = TypeVar("_Kind")


def check_wrappers(model: nn.Module, new: nn.Module) -> None:
    """Raise a ValueError if the model is in DistributedDataParallel or FSDP, which would not average new gradients."""
    if not any(True for _ in new.parameters()):
        return
    from torch.distributed.fsdp import FullyShardedDataParallel  # takes its time

    wrapped = [module for wrapper in _alive(FullyShardedDataParallel) for module in wrapper.modules()]
    if any(module is model for module in wrapped) or any(map(is_sharded, model.modules())):
        raise ValueError(
            f"This {type(model).__name__} is sharded over processes (FSDP) already, which would not average the "
            "gradients of new parameters: call add_relation_objectives before."
        )
    own = {id(parameter) for parameter in model.parameters()}
    if any(own & {id(parameter) for parameter in wrapper.parameters()} for wrapper in _alive(DistributedDataParallel)):
        raise ValueError(
            f"This {type(model).__name__} is wrapped in DistributedDataParallel already, which would not average the "
            "gradients of new parameters: call add_relation_objectives before wrapping."
        )


def warn_optimizers(model: nn.Module, new: nn.Module) -> None:
    """Warn about every optimizer that has parameters of the model but not the new ones."""
    wanted = {id(parameter) for parameter in new.parameters()}
    own = {id(parameter) for parameter in model.parameters()} - wanted
    for optimizer in _alive(Optimizer):
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if held & own and wanted - held:
            warnings.warn(
                f"This {type(model).__name__} has an optimizer already ({type(optimizer).__name__}), which does not "
                "train the new parameters: build it after add_relation_objectives, or call "
                'optimizer.add_param_group({"params": relation_parameters(model)}).',
                stacklevel=3,
            )


def _alive(kind: type[_Kind]) -> Iterator[_Kind]:
    """All living objects of a class; by `type`, since `isinstance` would trigger lazy proxies."""
    return (thing for thing in gc.get_objects() if issubclass(type(thing), kind))
