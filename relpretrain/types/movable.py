"""Records of tensors that move to a device as one, and a tensor that is sent there alone."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import torch
from torch import Tensor

_Record = TypeVar("_Record", bound="Movable")


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the CPU to a device without waiting for it, through page-locked memory."""
    if device.type == "cuda" and torch.cuda.is_available():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class Movable:
    """A dataclass of tensors that moves to a device (or into pinned memory) as one."""

    def _map(self: _Record, function: Any) -> _Record:
        changes: dict[str, Any] = {}
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if isinstance(value, Tensor):
                changes[f.name] = function(value)
            elif isinstance(value, Movable):
                changes[f.name] = value._map(function)
            elif isinstance(value, tuple) and value and isinstance(value[0], Movable):
                changes[f.name] = tuple(part._map(function) for part in value)
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def __repr__(self) -> str:
        """One line with shapes instead of values, without empty fields."""
        values = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))  # type: ignore[arg-type]
        shown = (f"{name}={_brief(value)}" for name, value in values if not _empty(value))
        return f"{type(self).__name__}({', '.join(shown)})"

    def to(self: _Record, device: torch.device | str, non_blocking: bool | None = None) -> _Record:
        """Return a copy whose tensors are on `device`.

        Args:
            device: Where to.
            non_blocking: Whether this process goes on before pinned tensors are copied; None for a copy to a CUDA
                device, which orders what uses them after it. Lightning asks this of single tensors only.
        """
        wait = torch.device(device).type != "cuda" if non_blocking is None else not non_blocking
        return self._map(lambda t: t.to(device, non_blocking=not wait))

    def pin_memory(self: _Record) -> _Record:
        """Return a copy whose tensors are in page-locked memory."""
        return self._map(lambda t: t.pin_memory())


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, tuple | str) and not value)


def _brief(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    return f"<{len(value)}>" if isinstance(value, tuple) and len(value) > 8 else repr(value)
