"""Finds, without a GPU, what would make a GPU's host wait: fake CUDA tensors, and a look at every operation.

A fake tensor has a shape, a type and a device, but no values (`torch._subclasses.FakeTensorMode`). So a step runs on
device "cuda" of a machine that has none. What reads a value, or has a shape that depends on values, raises there. What
copies between the devices and waits for the copy is only seen by looking at the operations, which `SyncLog` does.
"""

import traceback
from pathlib import Path

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PACKAGE = Path(__file__).resolve().parents[1] / "relpretrain"

WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "_unique", "unique_", "equal.default", "bincount")
"""Beginnings of the names of operations whose result the host waits for, wherever they are called from."""
COPIES = ("_to_copy", "copy_", "_copy_from")
INDEXING = ("index.Tensor", "index_put", "_index_put", "_unsafe_index")


class SyncLog(TorchDispatchMode):
    """Notes every operation that would make the host wait for the device, with the line that called it.

    Enter it inside a `FakeTensorMode`. Operations that raise there are noted before they do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        reason = _wait(func, args, kwargs)
        if reason is not None:
            self.found.append(f"{reason} at {_place()}")
        try:
            return func(*args, **kwargs)
        except RuntimeError as error:  # devices that do not fit, or a value that is needed
            if reason is None:
                self.found.append(f"{func}: {type(error).__name__}: {str(error).splitlines()[0]} at {_place()}")
            raise


def _wait(func, args, kwargs):
    name = str(func).removeprefix("aten.")
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    if name.startswith(WAITING):
        return name
    if name.startswith(COPIES) and tensors:
        source = tensors[-1] if name.startswith("copy_") else tensors[0]
        target = tensors[0].device if name.startswith("copy_") else torch.device(kwargs.get("device") or source.device)
        waits = not (kwargs.get("non_blocking") or (name.startswith("copy_") and True in args[2:]))
        if source.device.type != target.type and waits:
            return f"{name} {source.device.type} to {target.type}, blocking"
    if name.startswith(INDEXING):
        indices = [leaf for leaf in tree_leaves(args[1]) if isinstance(leaf, torch.Tensor)]
        if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
            return f"{name} by a mask"
        if any(index.device != args[0].device for index in indices):
            return f"{name} by an index on another device"
    return None


def _place():
    """The innermost line of the package on the stack, or of anything else if there is none."""
    stack = traceback.extract_stack()[:-2]
    own = [frame for frame in stack if str(PACKAGE) in frame.filename]
    frame = (own or stack)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} ({frame.line})"


def fake(module: nn.Module, mode: FakeTensorMode, device: str) -> nn.Module:
    """Replace a module's parameters and buffers by fake ones on a device."""

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        copy = mode.from_tensor(tensor.detach(), static_shapes=True)
        with mode:
            return copy.to(device)

    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            owner._parameters[name] = nn.Parameter(moved(parameter.data), parameter.requires_grad)
        for name, buffer in owner.named_buffers(recurse=False):
            owner._buffers[name] = moved(buffer)
    return module
