"""Shards in, typed batches out: the data module for training, and a loader of graphs for scripts of your own.

`shards/` finds, reads and writes tars, `sampling/` says which samples are step t, `pipeline/` leads a sample to a
batch, `build/` makes shards from annotations. `decode`, `augment`, `verbalise` and `collate` are stages for webdataset
pipelines of your own. The names below are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relpretrain.data.datamodule import RelationDataModule
    from relpretrain.data.pipeline.webdataset_stages import augment, collate, decode, verbalise
    from relpretrain.data.sampling import Stream

_HOMES = {
    "RelationDataModule": "relpretrain.data.datamodule",
    "Stream": "relpretrain.data.sampling",
    "augment": "relpretrain.data.pipeline.webdataset_stages",
    "collate": "relpretrain.data.pipeline.webdataset_stages",
    "decode": "relpretrain.data.pipeline.webdataset_stages",
    "verbalise": "relpretrain.data.pipeline.webdataset_stages",
}

__all__ = ["RelationDataModule", "Stream", "augment", "collate", "decode", "verbalise"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
