"""Several processes score together: each its share of the items, and all have the whole result (`torchrun`)."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from relpretrain.distributed import gather_objects, has_group, rank, world_size
from relpretrain.zeroshot.tasks.common.source import Record


@contextmanager
def process_group() -> Iterator[None]:
    """The processes that `torchrun` began, as a group; nothing where it did not begin several."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or has_group():
        yield
        return
    dist.init_process_group("gloo")  # what is exchanged are score records, on the CPU
    try:
        yield
    finally:
        dist.destroy_process_group()


def own_device() -> str:
    """The device of this process: its own GPU, or the CPU."""
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}" if world_size() > 1 else "cuda"


def own_share(items: Sequence[Any]) -> list[int]:
    """Numbers of the items that this process scores: neighbours, and those of one group together."""
    groups: dict[Hashable, int] = {}
    of = []
    for number, item in enumerate(items):
        group = getattr(item, "group", None)
        of.append(groups.setdefault(("item", number) if group is None else ("group", group), len(groups)))
    return [number for number, group in enumerate(of) if group * world_size() // len(groups) == rank()]


def whole(items: Sequence[Any], numbers: Sequence[int], records: Sequence[Record]) -> list[Record]:
    """The lines of all items in their order, from the shares of all processes.

    Args:
        items: All items.
        numbers: Those of this process.
        records: Their lines, one after the other.
    """
    lines = iter(records)
    mine = {number: [next(lines) for _ in items[number].records] for number in numbers}
    shares: dict[int, list[Record]] = {}
    for share in gather_objects(mine):
        shares |= share
    return [record for number in range(len(items)) for record in shares[number]]


def agree(error: Exception | None) -> None:
    """Raise the first process's error in all, so that none waits for another.

    Raises:
        ValueError: If there is one.
    """
    found = [said for said in gather_objects(None if error is None else str(error)) if said is not None]
    if error is not None:
        raise error
    if found:
        raise ValueError(f"Another process failed: {found[0]}")
