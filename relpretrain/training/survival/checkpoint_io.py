"""How Lightning's trainer writes and reads checkpoints here."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import fsspec
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from relpretrain.checkpoints import checkpoint as checkpoints
from relpretrain.checkpoints.file import write
from relpretrain.checkpoints.sharded import are_shards, read_shards
from relpretrain.writing import folder_aside, replace_folder

SAVED = "saved"
"""Entry of a checkpoint: when it was saved, in seconds since 1970; a copy of the file keeps it."""


class CheckpointFiles(TorchCheckpointIO):
    """Writes a checkpoint aside and renames it, or raises; reads tensors and plain types only.

    Lightning's own passes over a folder that may not be written, and some of its versions run what a file holds.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save.

        Raises:
            OSError: If the file cannot be written.
        """
        content = {**checkpoint, SAVED: time.time()}
        if _elsewhere(path):
            super().save_checkpoint(content, path, storage_options)
        elif are_shards(Path(path)):  # of several processes, with which this one went on
            written = folder_aside(Path(path))
            write(content, written)
            replace_folder(written, Path(path))
        else:
            write(content, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> Any:
        """Load into memory: a run outlives the file that it went on from.

        Raises:
            CheckpointError: If the file is no whole checkpoint, or holds more than tensors and plain types.
        """
        if _elsewhere(path):
            with fsspec.open(str(path), "rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
        if are_shards(Path(path)):  # of several processes that sharded what this one has whole
            return read_shards(Path(path), optimizers=True)
        return checkpoints.read_any(path, mapped=False)


def _elsewhere(path: Any) -> bool:
    return "://" in str(path)
