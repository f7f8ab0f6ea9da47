"""Training on Lightning's Trainer."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relpretrain.training.callbacks import LastCheckpoint, LossLog
    from relpretrain.training.module import RelationModule
    from relpretrain.training.optim import Optimizer, learning_rate
    from relpretrain.training.progress import ProgressLine

_HOMES = {
    "LastCheckpoint": "relpretrain.training.callbacks",
    "LossLog": "relpretrain.training.callbacks",
    "RelationModule": "relpretrain.training.module",
    "Optimizer": "relpretrain.training.optim",
    "learning_rate": "relpretrain.training.optim",
    "ProgressLine": "relpretrain.training.progress",
}

__all__ = ["LastCheckpoint", "LossLog", "Optimizer", "ProgressLine", "RelationModule", "learning_rate"]


def __getattr__(name: str) -> Any:
    """The public names are imported when they are first used: without them this package does without torch."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
