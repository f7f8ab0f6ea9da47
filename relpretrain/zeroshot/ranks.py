"""Several processes score together (`torchrun`); how they share the work is in `tasks.common.shares`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from relpretrain.distributed import has_group, world_size

_PATIENCE = timedelta(days=7)  # one process may have hours more to do than another; torchrun ends all if one dies


@contextmanager
def process_group() -> Iterator[None]:
    """The processes that `torchrun` began, as a group; nothing where it did not begin several."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or has_group():
        yield
        return
    dist.init_process_group("gloo", timeout=_PATIENCE)  # what is exchanged are score records, on the CPU
    try:
        yield
    finally:
        dist.destroy_process_group()


def own_device() -> str:
    """The device of this process: its own GPU, or the CPU."""
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}" if world_size() > 1 else "cuda"
