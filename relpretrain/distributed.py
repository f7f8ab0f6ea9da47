"""Device, rank, world size and collectives; without a process group, all are the identity."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def check_device(name: str) -> str:
    """The name of a device, if this machine has it.

    Raises:
        ValueError: If it cannot be used.
    """
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"Device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return name


def is_distributed() -> bool:
    """True inside an initialised process group of more than one process."""
    return has_group() and dist.get_world_size() > 1


def has_group() -> bool:
    """True inside an initialised process group, even of one process (where DDP waits for all parameters, too)."""
    return dist.is_available() and dist.is_initialized()


def is_sharded(module: Any) -> bool:
    """Whether a module's parameters are sharded over the processes (FSDP2): all of them then run the same parts."""
    from torch.distributed.fsdp import FSDPModule

    return isinstance(module, FSDPModule)


def rank() -> int:
    """Rank of this process, 0 without a process group."""
    return dist.get_rank() if is_distributed() else 0


def is_first_process() -> bool:
    """Whether this is the first process of a run, as its launcher says: asked before there is a process group."""
    number = next((os.environ[name] for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ), "0")
    return number == "0" and os.environ.get("NODE_RANK", "0") == "0"


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return dist.get_world_size() if is_distributed() else 1


def gather_objects(value: Any) -> list[Any]:
    """Gather a picklable value of each process, by rank."""
    if not is_distributed():
        return [value]
    everyone: list[Any] = [None] * world_size()
    dist.all_gather_object(everyone, value)
    return everyone


def sum_over_ranks(value: Tensor) -> Tensor:
    """Sum of a tensor over all processes, without gradient."""
    if not is_distributed():
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def gather_sizes(rows: int) -> list[int]:
    """Gather each process's number of rows, by rank: one collective among the CPUs, which no device takes part in."""
    if not is_distributed():
        return [rows]
    sizes = torch.zeros(world_size(), dtype=torch.long)
    sizes[rank()] = rows
    dist.all_reduce(sizes, group=_host_group(dist.group.WORLD))
    return sizes.tolist()  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def _host_group(world: Any) -> Any:
    """The group for collectives on the CPU: the processes' own where it has them, or one of gloo beside it."""
    return world if "cpu:" in dist.get_backend_config(world) else new_host_group()


def new_host_group() -> Any:
    """A group of its own for collectives on the CPU (gloo), with the time-out of the run's. A collective call."""
    world: Any = dist.group.WORLD
    own = world._get_backend(torch.device("cuda" if "cuda:nccl" in dist.get_backend_config(world) else "cpu"))
    return dist.new_group(backend="gloo", timeout=own.options._timeout)  # else it would be half an hour


def gather(tensor: Tensor, sizes: list[int]) -> Tensor:
    """Concatenate a tensor's rows over all processes, in rank order, with gradient.

    The backward pass sums each row's gradients over all processes. Averaged over processes afterwards (DDP), they are
    the gradients of a loss on the joint batch.

    Args:
        tensor: (rows, ...), where the number of rows may differ between processes.
        sizes: Number of rows by rank, from `gather_sizes`.
    """
    if not is_distributed() or max(sizes) == 0:
        return tensor
    gathered: Tensor = _Gather.apply(tensor, sizes)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, sizes: list[int]) -> Tensor:
        # Pad to the longest (all_gather wants equal shapes), gather, and cut the padding off: (sum of sizes, ...).
        ctx.sizes = sizes
        padded = tensor.new_zeros((max(sizes), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded.contiguous())
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        total = grad.contiguous().clone()
        dist.all_reduce(total)
        start = sum(ctx.sizes[: rank()])
        return total[start : start + ctx.sizes[rank()]], None


def mean_over_ranks(total: Tensor, count: Tensor | float) -> Tensor:
    """Turn a process's sum of losses into its part of the mean over the joint batch.

    Averaged over processes (as DDP averages gradients), the returned values give the sum of all losses over the sum of
    all counts, however unequal the counts are; counts may be sums of weights. An empty joint batch gives a zero that
    keeps its graph.
    """
    if not isinstance(count, Tensor):  # filled in on the device: a copy from the CPU would wait for it
        count = torch.full((), float(count), device=total.device)
    joint = sum_over_ranks(count.float())
    return total * world_size() / joint.masked_fill(joint == 0, 1.0)


def weighted_mean(losses: Tensor, weights: Tensor | None, count: Tensor | float) -> Tensor:
    """`mean_over_ranks` of losses: the sum over the sum of their weights, in the joint batch.

    Args:
        losses: Of any shape.
        weights: How much each counts, of that shape; None for all alike.
        count: How many there are, where all count alike.
    """
    if weights is None:
        return mean_over_ranks(losses.sum(), count)
    return mean_over_ranks((losses * weights).sum(), weights.sum())


def attach_unused_parameters(loss: Tensor, parameters: Iterable[Tensor]) -> Tensor:
    """Make a loss depend on parameters without changing its value or any gradient.

    DDP expects every parameter in every step (`find_unused_parameters=False`), but a step on one type of batch does not
    use the heads of the others. Their gradients stay undefined, which DDP counts as zeros. The result is a copy, so
    that it may be changed in place (`loss /= 4`).
    """
    trained = [p for p in parameters if p.requires_grad]
    attached: Tensor = _Attach.apply(loss, *trained) if trained else loss
    return attached


class _Attach(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, *parameters: Tensor) -> Tensor:
        ctx.number = len(parameters)
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return grad, *(None for _ in range(ctx.number))
