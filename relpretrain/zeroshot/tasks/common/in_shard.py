"""Images that lie in shards, with their graphs: what tasks ask of held-out shards instead of annotation files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from relpretrain.data.shards.record import declared_size
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.kinds import Need
from relpretrain.pixels import decode_named
from relpretrain.reading import parse_json
from relpretrain.scene_graph import SceneGraph
from relpretrain.zeroshot.tasks.common.source import Source


class InShard(str):
    """The name of an image in a shard, "shard/key", which reads it when it is called.

    Args:
        index: The table of the shard.
        row: Row of the sample in it.
        shard: What the shard is called.
    """

    shard_index: ShardIndex
    row: int
    shard: str

    def __new__(cls, index: ShardIndex, row: int, shard: str) -> InShard:
        """Name the image."""
        name = super().__new__(cls, f"{shard}/{index.keys[row]}")
        name.shard_index, name.row, name.shard = index, row, shard
        return name

    def __reduce__(self) -> tuple[Any, ...]:
        return InShard, (self.shard_index, self.row, self.shard)

    def __hash__(self) -> int:
        return hash((self.shard_index.path, self.row))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InShard) and (self.shard_index.path, self.row) == (other.shard_index.path, other.row)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __call__(self) -> Image.Image:
        """Decode it.

        Raises:
            ValueError: If it cannot be decoded.
        """
        return decode_named(io.BytesIO(self.shard_index.read(self.row).image), self)


def held_out_shards(source: Source, task: str, own: Path | None = None) -> tuple[Path, list[Path]]:
    """The shards that a task asks of, and the folder that they are in.

    The folder is the task's own one, if it has one that is there, or else DIR/validation; generated data has that
    beside DIR, if DIR is its "benchmarks". Without any of these, all shards below DIR are meant.

    Raises:
        ValueError: If the source is a file.
    """
    if source.is_item_file:
        raise ValueError(f"Task {task!r} reads a folder of shards; {source.path} is a file.")
    beside = [source.path.parent / "validation"] if source.path.name == "benchmarks" else []
    candidates = [*([own] if own else []), source.path / "validation", *beside]
    folder = next((folder for folder in candidates if folder.is_dir()), source.path)
    return folder, sorted(folder.rglob("*.tar"))


def graphs_in(
    folder: Path, shards: Sequence[Path], need: Need
) -> Iterator[tuple[InShard, SceneGraph, tuple[float, float]]]:
    """Images with their graphs and the width and height that boxes refer to, of the samples that have what is needed.

    Shards are called by their path in the folder. Malformed graphs are passed over. As in training, a record that does
    not tell the size of its image has the image's own.
    """
    for shard in shards:
        index, name = ShardIndex.of(shard), shard.relative_to(folder).with_suffix("").as_posix()
        for row in index.eligible(need).tolist():
            raw = index.read(row)
            try:
                record = parse_json(raw.json or b"{}")
                width, height = _size(record, raw.image)
                graph = SceneGraph.from_json(record, width, height)
            except (ValueError, TypeError, AttributeError):
                continue  # `relpretrain data doctor` counts and names malformed graphs
            yield InShard(index, row, name), graph, (width, height)


def _size(record: Mapping[str, Any], image: bytes) -> tuple[float, float]:
    told = declared_size(record, 0, 0)
    return told if all(told) else declared_size(record, *decode_named(io.BytesIO(image), "of the record").size)
