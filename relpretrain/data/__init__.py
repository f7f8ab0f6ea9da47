"""Shards in, typed batches out: the data module for training, and a loader of graphs for scripts of your own.

`shards/` finds, reads and writes tars, `sampling/` says which samples are step t, `pipeline/` leads a sample to a
batch, `build/` makes shards from annotations. The names below are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relpretrain.data.datamodule import RelationDataModule
    from relpretrain.data.sampling import Stream

_HOMES = {
    "RelationDataModule": "relpretrain.data.datamodule",
    "Stream": "relpretrain.data.sampling",
}

__all__ = ["RelationDataModule", "Stream"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
