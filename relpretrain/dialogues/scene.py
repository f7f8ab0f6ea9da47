"""An image with its graph, as a dialogue speaks of it."""

from __future__ import annotations

import io
import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from PIL import Image

from relpretrain.data.build.pack_sample import own_graph
from relpretrain.data.shards.record import texts_of
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.pixels import decode
from relpretrain.scene_graph import Entity, Relation, SceneGraph
from relpretrain.scene_graph.foils import RULES, Statement, Witness
from relpretrain.scene_graph.geometry import normalise
from relpretrain.sources.common.annotation import ImageFile, probe_image
from relpretrain.sources.common.values import as_number, identity

EXHAUSTIVE = ("synthetic",)
"""Sources that annotate everything that an image shows: only of these can be said what is not there."""

_PLAIN = re.compile(r"[^\W_](?:[\w .,'/&()-]*[\w.)])?")  # no quotes, and none of the marks that stand for images
_VAGUE = ("near", "far from")
_LONGEST = 60  # characters of a name that is spoken of


@dataclass(frozen=True)
class Frame:
    """Where an image stands in a video."""

    video: str
    number: float


@dataclass(frozen=True)
class Scene:
    """An image with its graph.

    Args:
        key: Its key in its shard.
        image: The encoded image.
        file: Its size in pixels, and the ending of its name.
        graph: Its entities and relations, those with plain names; boxes in pixels.
        source: Who annotated it.
        frame: Where it stands in a video; None where that is not known.
        exhaustive: Whether the graph has everything that the image shows.
    """

    key: str
    image: bytes
    file: ImageFile
    graph: SceneGraph
    source: str = ""
    frame: Frame | None = None
    exhaustive: bool = False

    @cached_property
    def witness(self) -> Witness:
        """What the annotation says of statements."""
        return Witness(self.graph)

    @cached_property
    def labels(self) -> list[str]:
        """What is there, each name once, by the alphabet."""
        return sorted({entity.label for entity in self.graph.entities})

    def only(self, label: str) -> int | None:
        """The entity that "the ..." means; None where it may mean several, or none."""
        found = self.witness.named(label)
        same = [number for number in found if self.graph.entities[number].label == label]
        return same[0] if len(found) == len(same) == 1 else None

    @cached_property
    def statements(self) -> list[Statement]:
        """What the relations say, each once, in the order of the annotation; none of a thing with its like."""
        found = (self.statement(relation) for relation in self.graph.relations)
        return [statement for statement in dict.fromkeys(found) if statement.subject != statement.object]

    def statement(self, relation: Relation) -> Statement:
        """A relation in words."""
        one, other = self.graph.entities[relation.subject], self.graph.entities[relation.object]
        return Statement(one.label, relation.relation, other.label)

    def denies(self, statement: Statement) -> bool:
        """Whether a statement is certainly false of the image.

        Both things have to be there and to be the only ones that their names may mean: else another thing, which
        nobody annotated, may be meant. Near and far are too vague to be denied where things may be left out: another
        lamp of a room is soon far from a chair.
        """
        if not self.exhaustive and RULES.key(statement.relation) in map(RULES.key, _VAGUE):
            return False
        known = all(self.only(label) is not None for label in (statement.subject, statement.object))
        return known and self.witness.true(statement) is False

    def pixels(self) -> Image.Image:
        """The image, decoded, RGB.

        Raises:
            OSError: Or another one of `relpretrain.pixels.BROKEN`, if it is broken.
        """
        return decode(io.BytesIO(self.image))


def read_scene(
    index: ShardIndex, row: int, frames: re.Pattern[str] | None, exhaustive: tuple[str, ...] = EXHAUSTIVE
) -> Scene | None:
    """Read a sample; None if its image or record cannot be used.

    Args:
        index: Its shard.
        row: Its row there.
        frames: Finds `video` and `frame` in the names of samples that do not tell them themselves.
        exhaustive: Sources that annotate everything.
    """
    raw = index.read(row)
    file = probe_image(io.BytesIO(raw.image), Counter())
    if file is None:
        return None
    try:
        record, _ = texts_of(raw.json, raw.txt)
        graph = _plain(own_graph(record, file))
    except ValueError:  # such as GraphError and BadSample
        return None
    source = str(record.get("source") or index.name)
    name = identity(record.get("image_id")) or raw.key
    frame = _frame(record, name, frames)
    return Scene(raw.key, raw.image, file, graph, source, frame, source in exhaustive)


def _plain(graph: SceneGraph) -> SceneGraph:
    """The graph without entities and relations whose names cannot be quoted, all others in plain spelling."""
    kept: dict[int, int] = {}
    entities: list[Entity] = []
    for number, entity in enumerate(graph.entities):
        if _speakable(label := normalise(entity.label)):
            kept[number] = len(entities)
            attributes = tuple(name for a in entity.attributes if _speakable(name := normalise(a)))
            entities.append(replace(entity, label=label, attributes=attributes))
    relations = [
        Relation(kept[r.subject], normalise(r.relation), kept[r.object])
        for r in graph.relations
        if r.subject in kept and r.object in kept and r.subject != r.object and _speakable(normalise(r.relation))
    ]
    return SceneGraph(tuple(entities), tuple(relations))


def _speakable(name: str) -> bool:
    return len(name) <= _LONGEST and _PLAIN.fullmatch(name) is not None


def _frame(record: dict[str, Any], name: str, frames: re.Pattern[str] | None) -> Frame | None:
    video, number = identity(record.get("video")), as_number(record.get("frame"))
    if video is not None and number == number:
        return Frame(video, number)
    found = frames.search(name) if frames is not None else None
    if found is None or not all(found.groupdict().get(part) for part in ("video", "frame")):
        return None
    return Frame(found["video"], float(as_number(found["frame"])))
