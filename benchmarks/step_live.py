"""The memory that the tensors of a step need, whatever the libraries and the allocator hold besides.

The largest resident memory of a process, which `step_worker.measure` tells, also has its libraries and what the
allocator keeps of freed tensors. On a GPU the allocator tells what tensors take; here operations are watched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.multiprocessing import reductions
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_Reference: Any = reductions.StorageWeakRef  # torch gives it no types


def live_mb(act: Callable[[], Any], model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> float:
    """Megabytes of tensors at the moment with the most of them, while something is done.

    Args:
        act: A step, which begins by dropping the gradients of the step before.
        model: Its parameters and buffers are there all the time.
        optimizer: So are its states, once it has made a step.
    """
    states = [state for states in optimizer.state.values() for state in states.values()]
    lasting = [*model.parameters(), *model.buffers(), *(state for state in states if torch.is_tensor(state))]
    sizes: dict[int, int] = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in lasting}
    with LiveTensors() as live:
        act()
    return float(sum(sizes.values()) + live.peak) / 2**20


class LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that operations make, as long as each is there.

    Attributes:
        peak: The largest number of bytes at a time.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: int = 0
        self._now = 0
        self._sizes: dict[Any, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        known = {tensor.untyped_storage()._cdata for tensor in given}
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in known:  # else a view
                storage = leaf.untyped_storage()
                self._now += storage.nbytes() - self._sizes.get(_Reference(storage), 0)
                self._sizes[_Reference(storage)] = storage.nbytes()
        if self._now > self.peak:  # unless some of them are gone
            for gone in [reference for reference in self._sizes if reference.expired()]:
                self._now -= self._sizes.pop(gone)
            self.peak = max(self.peak, self._now)
        return out
