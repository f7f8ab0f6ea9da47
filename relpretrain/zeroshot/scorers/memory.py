"""Batches that fit: where a device's memory does not suffice, the batch size is halved and the work done again."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def fitting(scorer: Any, work: Callable[[], T]) -> T:
    """Do work with a scorer, with ever smaller batches as long as memory does not suffice.

    Args:
        scorer: Has a `batch_size`, or wraps another one as its `scorer`.
        work: What to do; it is begun anew.

    Raises:
        ValueError: If memory does not suffice for one image at a time.
    """
    while True:
        try:
            return work()
        except torch.OutOfMemoryError as error:
            owner = getattr(scorer, "scorer", scorer)
            size = getattr(owner, "batch_size", 1)
            if size <= 1:
                raise ValueError("The device's memory does not suffice for one image at a time: "
                                 f"{str(error).splitlines()[0]}") from error  # fmt: skip
        # Outside the handler, whose error holds the tensors of the batch.
        owner.batch_size = size // 2
        gc.collect()
        torch.cuda.empty_cache()
        print(f"out of memory: {size} images at once become {owner.batch_size}", file=sys.stderr, flush=True)
