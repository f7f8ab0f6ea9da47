"""Checkpoints of several processes (torch's DCP): a folder to which each wrote its shards, read as one state dict."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from relpretrain.errors import CheckpointError

INDEX, REST = ".metadata", "meta.pt"
"""DCP's index of the shards; and what Lightning puts beside them, all of a checkpoint that is no state dict."""

_META = "torch.distributed.checkpoint.metadata"
_ALLOWED = {
    **dict.fromkeys(
        ("Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata", "TensorProperties"), _META
    ),
    **dict.fromkeys(("MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING"), _META),
    "_StorageInfo": "torch.distributed.checkpoint.filesystem",
    "_get_layout": "torch.serialization",
    "Size": "torch",
    "PosixPath": "pathlib",
}

_BROKEN = (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError)


def are_shards(path: Path) -> bool:
    """Whether a folder is a checkpoint of several processes."""
    return (path / INDEX).is_file()


def read_shards(path: Path) -> dict[str, Any]:
    """Put the weights together, whatever the number of processes that wrote them; code in the files is not executed.

    Returns:
        What was saved beside the weights, and "state_dict". Optimizer states stay where they are: a training that goes
        on reads them itself.

    Raises:
        CheckpointError: If a file is missing, cut off, or holds anything but tensors and plain types.
    """
    try:
        rest: dict[str, Any] = torch.load(path / REST, map_location="cpu", weights_only=True)
        reader = _Reader(path)
        found = reader.read_metadata().state_dict_metadata
        state = {
            name: torch.empty(entry.size, dtype=entry.properties.dtype)
            for name, entry in found.items()
            if name.startswith("state_dict.") and isinstance(entry, TensorStorageMetadata)
        }
        load(state, storage_reader=reader, no_dist=True)
    except (*_BROKEN, CheckpointException) as error:
        raise CheckpointError(f"{path} is not a whole checkpoint of several processes: {str(error)[:300]}") from error
    return {**rest, "state_dict": {name.removeprefix("state_dict."): value for name, value in state.items()}}


class _Reader(FileSystemReader):
    """Reads DCP's index, which is a pickle, without letting it run code."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with (Path(self.path) / INDEX).open("rb") as file:
            metadata: Metadata = _Unpickler(file).load()
        return metadata


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if _ALLOWED.get(name) == module or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"its index names {module}.{name}, which is no part of a checkpoint")
