"""Checkpoints of several processes (torch's DCP): a folder to which each wrote its shards, read as one state dict."""

from __future__ import annotations

import inspect
import io
import math
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem
from torch.distributed.checkpoint.state_dict_loader import load
from torch.futures import Future

from relpretrain.checkpoints.file import check, problem_of
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

SUPPORTED = "no_dist" in inspect.signature(load).parameters
"""Whether this torch can: the oldest that the package runs with cannot."""

_BROKEN = (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError)


def are_shards(path: Path) -> bool:
    """Whether a folder is a checkpoint of several processes."""
    return (path / INDEX).is_file()


def read_shards(path: Path, optimizers: bool = False) -> dict[str, Any]:
    """Put the weights together, whatever the number of processes that wrote them; code in the files is not executed.

    Args:
        path: The folder.
        optimizers: Whether the states of optimizers are wanted, with which one process goes on. Several that shard
            their parameters read their own shares themselves.

    Returns:
        What was saved beside the weights, and "state_dict"; with `optimizers` "optimizer_states", in which parameters
        have their names in the place of numbers.

    Raises:
        CheckpointError: If a file is missing, cut off, or holds anything but tensors and plain types, or if this torch
            is too old.
    """
    if not SUPPORTED:
        raise CheckpointError(
            f"{path} is a checkpoint of several processes that shard, and torch {torch.__version__} is too old to put "
            "it together: install a newer one"
        )
    rest = read_rest(path)
    try:
        reader = _Reader(path)
        found = reader.read_metadata().state_dict_metadata
        wanted = ("state_dict.", "optimizer_") if optimizers else ("state_dict.",)
        _check_room(path, [entry for name, entry in found.items() if name.startswith(wanted)])
        state: dict[str, Any] = {
            name: torch.empty(entry.size, dtype=entry.properties.dtype)
            if isinstance(entry, TensorStorageMetadata)
            else None
            for name, entry in found.items()
            if name.startswith(wanted) and (optimizers or isinstance(entry, TensorStorageMetadata))
        }
        load(state, storage_reader=reader, planner=_Planner(flatten_state_dict=False), no_dist=True)
    except (*_BROKEN, CheckpointException) as error:
        raise CheckpointError(f"{path} is not a whole checkpoint of several processes: {_reason(error)}") from error
    weights = {name.removeprefix("state_dict."): v for name, v in state.items() if name.startswith("state_dict.")}
    content = {**rest, "state_dict": weights}
    return {**content, "optimizer_states": _optimizer_states(state)} if optimizers else content


def _check_room(path: Path, entries: Iterable[Any]) -> None:
    """Raise a ValueError for an index that speaks of larger tensors than the shards beside it can hold."""
    tensors = [entry for entry in entries if isinstance(entry, TensorStorageMetadata)]
    claimed = sum(math.prod(entry.size) * entry.properties.dtype.itemsize for entry in tensors)
    held = sum(file.stat().st_size for file in path.iterdir())
    if claimed > held:
        raise ValueError(f"its index speaks of {claimed:,} bytes of tensors, but its files hold {held:,}")


def read_rest(path: Path) -> dict[str, Any]:
    """What was saved beside weights and optimizer states; code in it is not executed.

    Raises:
        CheckpointError: If the file is missing, cut off, or holds anything but tensors and plain types.
    """
    try:
        check(path / REST)
        rest: dict[str, Any] = torch.load(path / REST, map_location="cpu", weights_only=True)
    except _BROKEN as error:
        raise CheckpointError(f"{path / REST} is not whole: {_reason(error)}") from error
    return rest


def fill(state: dict[str, Any], path: Path) -> None:
    """Read this process's shards of a nested state dict into it, whatever the number of processes that wrote them.

    Code in the files is not executed. All processes call it together.

    Args:
        state: Tensors, distributed ones too, and plain values that will be replaced.
        path: The folder.

    Raises:
        CheckpointError: If a file is missing, cut off, or holds anything but tensors and plain types.
    """
    try:
        load(state, storage_reader=_Reader(path), planner=_Planner())
    except (*_BROKEN, CheckpointException) as error:
        raise CheckpointError(f"{path} is not a whole checkpoint of several processes: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """What went wrong, in a line; DCP's own words are a traceback of each process."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    return " ".join(str(error).split())[:300]


def _optimizer_states(state: dict[str, Any]) -> list[dict[str, Any]]:
    """States of optimizers of flat entries, named "optimizer_0.state.<parameter>.exp_avg" and so on."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in state.items():
        optimizer, _, rest = name.partition(".")
        part, _, rest = rest.partition(".")
        if optimizer == "state_dict":
            continue
        states, groups = found.setdefault(optimizer, {"state": {}, "param_groups": {}}).values()
        if part == "state":
            parameter, _, field = rest.rpartition(".")
            states.setdefault(parameter, {})[field] = value
        else:
            number, _, field = rest.partition(".")
            groups.setdefault(int(number), {})[field] = value
    for each in found.values():
        each["param_groups"] = [group for _, group in sorted(each["param_groups"].items())]
    return [found[name] for name in sorted(found, key=lambda name: int(name.rpartition("_")[2]))]


class _Planner(DefaultLoadPlanner):
    """Reads what is no tensor without letting it run code."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        name = read_item.dest_index.fqn
        *way, last = self.mappings.get(name, (name,))  # into what is nested
        place: Any = self.original_state_dict
        for key in way:
            place = place[key]
        place[last] = torch.load(value, map_location="cpu", weights_only=True)


class _Reader(FileSystemReader):
    """Reads DCP's index, which is a pickle, without letting it run code."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with (Path(self.path) / INDEX).open("rb") as file:
            metadata: Metadata = _Unpickler(file).load()
        return metadata

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Compare what is wanted with its checksums first: each tensor is an archive of its own in a shard."""
        for index in dict.fromkeys(item.storage_index for item in plan.items):
            found = self.storage_data[index]
            place = Path(self.path) / found.relative_path
            if place.name != found.relative_path or not place.is_file():
                raise CheckpointError(f"{index.fqn} is said to lie in {found.relative_path!r}, no file of {self.path}")
            with place.open("rb") as file:
                file.seek(found.offset)
                content = file.read(min(found.length, place.stat().st_size))
            if (problem := problem_of(io.BytesIO(content), len(content))) is not None:
                raise CheckpointError(f"{index.fqn} in {place} {problem}")
        return super().read_data(plan, planner)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if _ALLOWED.get(name) == module or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"its index names {module}.{name}, which is no part of a checkpoint")
