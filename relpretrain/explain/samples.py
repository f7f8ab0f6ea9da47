"""Images with graphs, drawn from shards, and the triplets of them that are looked at."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from relpretrain.data.pipeline.stages import parse, read_graph
from relpretrain.data.shards.indexing import index_shards
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.errors import BadSample, ConfigError
from relpretrain.pixels import BROKEN, decode, decode_named
from relpretrain.scene_graph import Relation, SceneGraph, choose_relations


@dataclass(frozen=True)
class Sample:
    """An image of a shard with its annotations, and those of its triplets that are looked at.

    Args:
        name: Shard and key.
        size: Width and height of the image in pixels.
        captions: Texts about it.
        graph: Its entities and relations; boxes in pixels.
        relations: The triplets, of entities with boxes.
        index: Its shard.
        row: Its row there.
    """

    name: str
    size: tuple[int, int]
    captions: tuple[str, ...]
    graph: SceneGraph
    relations: tuple[Relation, ...]
    index: ShardIndex
    row: int

    def image(self) -> Image.Image:
        """Decode the image.

        Raises:
            ValueError: If it cannot be decoded.
        """
        return decode_named(io.BytesIO(self.index.read(self.row).image), self.name)

    def triplet(self, relation: Relation) -> tuple[str, str, str]:
        """Names of subject, predicate and object of one of its relations."""
        entities = self.graph.entities
        return entities[relation.subject].label, relation.relation, entities[relation.object].label


def draw(shards: Sequence[str], n: int, relations: int, seed: int) -> tuple[list[Sample], list[str]]:
    """Draw samples with triplets of two boxes at random.

    Args:
        shards: Paths or addresses.
        n: How many at most.
        relations: Triplets of each at most, drawn as for MRC: one for each pair of entities.
        seed: Of all choices.

    Returns:
        The samples, and why others could not be used.

    Raises:
        ConfigError: If some shards cannot be read; names all of them.
    """
    found = index_shards(shards)
    problems = [f"Shard {shard}: {index}" for shard, index in found.items() if isinstance(index, Exception)]
    if problems:
        raise ConfigError(problems)
    indexes = [index for shard in shards if isinstance(index := found[shard], ShardIndex)]
    cards = [(index, row) for index in indexes for row in index.eligible("boxed_graphs").tolist()]
    rng = np.random.default_rng(seed)
    samples: list[Sample] = []
    bad: list[str] = []
    for number in rng.permutation(len(cards)).tolist():
        if len(samples) == n:
            break
        index, row = cards[number]
        try:
            samples += _read(index, row, relations, np.random.default_rng([seed, number]))
        except BadSample as error:
            bad.append(f"{index.place(row)}: {error.reason} {error.detail}".rstrip())
    return samples, bad


def _read(index: ShardIndex, row: int, relations: int, rng: np.random.Generator) -> Iterator[Sample]:
    raw = index.read(row)
    record = parse(raw, "", index)
    try:
        size = decode(io.BytesIO(raw.image)).size  # its head may be whole where the rest is cut off
    except BROKEN as error:
        raise BadSample("broken_image", str(error)) from error
    graph = read_graph(record, *size)
    chosen = tuple(choose_relations(graph, relations, rng))
    if chosen:
        yield Sample(index.place(row), size, tuple(record.captions), graph, chosen, index, row)


def another_triplet(samples: Sequence[Sample], number: int, relation: Relation) -> tuple[str, str, str] | None:
    """A triplet of another sample that shares no name with this one; the first after it, None if there is none.

    Args:
        samples: All samples.
        number: Which of them the relation is of.
        relation: The relation.
    """
    own = {name.lower() for name in samples[number].triplet(relation)}
    for step in range(1, len(samples)):
        other = samples[(number + step) % len(samples)]
        for candidate in map(other.triplet, other.relations):
            if own.isdisjoint(name.lower() for name in candidate):
                return candidate
    return None
