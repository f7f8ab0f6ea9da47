"""Scene graphs: entities, with or without boxes, and relations between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relpretrain.scene_graph.entity import (
    Entity,
    Relation,
    changed,
    entity_record,
    read_entities,
    read_relations,
    relation_record,
    unchecked,
)
from relpretrain.scene_graph.errors import FlipRefused, GraphError
from relpretrain.scene_graph.geometry import Box, holds
from relpretrain.scene_graph.mirror import mentions_side, mirror_relation

MIN_VISIBLE = 0.5
"""Share of a thing's box that a crop must keep, else the thing leaves the graph."""


@dataclass(frozen=True)
class SceneGraph:
    """Entities of an image and relations between them.

    Args:
        entities: The entities, in the order of the annotation.
        relations: Triplets over indices of `entities`.

    Raises:
        GraphError: If a relation names an entity that is not there.
    """

    entities: tuple[Entity, ...] = ()
    relations: tuple[Relation, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "entities", tuple(self.entities))
        object.__setattr__(self, "relations", tuple(self.relations))
        for relation in self.relations:
            for index in (relation.subject, relation.object):
                if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(self.entities):
                    raise GraphError(
                        "relation_without_entity",
                        f"relation {relation.relation!r} names entity {index!r} of {len(self.entities)}",
                    )

    @classmethod
    def from_json(cls, record: Mapping[str, Any], width: float, height: float) -> SceneGraph:
        """Read the graph of a sample's record (the sample format of the shards).

        Args:
            record: Its keys "entities" and "relations" are read; both may be absent or empty.
            width: Width of the image in pixels.
            height: Height of the image in pixels.

        Raises:
            GraphError: If anything is malformed, or a box reaches more than `ROUNDING` pixels over the border.
        """
        return cls(tuple(read_entities(record, width, height)), tuple(read_relations(record)))

    def to_json(self) -> dict[str, Any]:
        """Return {"entities": [...], "relations": [...]} of plain types, as `from_json` reads it."""
        return {
            "entities": [entity_record(entity) for entity in self.entities],
            "relations": [relation_record(relation) for relation in self.relations],
        }

    def boxed_pairs(self) -> list[Relation]:
        """The relations whose two entities both have a box: those that can be looked at region by region."""
        placed = [entity.box is not None for entity in self.entities]
        return [r for r in self.relations if placed[r.subject] and placed[r.object]]

    def confident(self, minimum: float) -> SceneGraph:
        """The graph without the relations whose confidence is below a minimum; all entities stay."""
        if all(relation.confidence >= minimum for relation in self.relations):
            return self
        return _sound(self.entities, [r for r in self.relations if r.confidence >= minimum])

    def flip(self, width: float) -> SceneGraph:
        """Mirror the graph horizontally: boxes, and left and right within relations.

        Args:
            width: Width of the image, in the boxes' unit.

        Raises:
            FlipRefused: If a label or attribute speaks of left or right, or a relation does so in a way that cannot
                be exchanged.
        """
        for entity in self.entities:
            for text in (entity.label, *entity.attributes):
                if mentions_side(text):
                    raise FlipRefused("side_in_label", f"a flip would make {text!r} of {entity.label!r} untrue")
        return _sound(
            [e if e.box is None else _moved(e, e.box.flip(width)) for e in self.entities],
            [
                r if (name := mirror_relation(r.relation)) == r.relation else changed(r, relation=name)
                for r in self.relations
            ],
        )

    def crop(
        self, box: Box, min_visible: float = MIN_VISIBLE, size: tuple[float, float] | None = None
    ) -> tuple[SceneGraph, Counter[str]]:
        """Cut the graph to a part of its image; coordinates then count from the part's corner.

        An entity without a box stays.

        Args:
            box: The part that stays.
            min_visible: Share of an entity's area that must stay, else the entity goes.
            size: Width and height that the part is then resized to; None leaves it as it is.

        Returns:
            The graph, and what was dropped: "entity_cropped" (too little of it stays), "relation_lost_entity" (its
            subject or object went) and "relation_untrue" (a spatial relation that was true of the whole boxes and is
            not of the clipped ones).
        """
        dropped: Counter[str] = Counter()
        left, top, right, bottom = box
        scale_x, scale_y = (1.0, 1.0) if size is None else (size[0] / box.width, size[1] / box.height)
        if left == top == 0 and all(e.box is None or box.contains(e.box) for e in self.entities):
            return (self if size is None else self.resize(scale_x, scale_y)), dropped
        kept: dict[int, int] = {}
        entities: list[Entity] = []
        for index, entity in enumerate(self.entities):
            if entity.box is None:
                kept[index] = len(entities)
                entities.append(entity)
                continue
            x_min, y_min, x_max, y_max = entity.box
            area = (x_max - x_min) * (y_max - y_min)
            x_min = x_min if x_min > left else left  # `clip` by hand: of thousands of boxes a batch, calls would count
            y_min = y_min if y_min > top else top
            x_max = x_max if x_max < right else right
            y_max = y_max if y_max < bottom else bottom
            if x_max <= x_min or y_max <= y_min or (x_max - x_min) * (y_max - y_min) < min_visible * area:
                dropped["entity_cropped"] += 1
                continue
            kept[index] = len(entities)
            x_min, x_max, y_min, y_max = x_min - left, x_max - left, y_min - top, y_max - top
            place = Box(x_min * scale_x, y_min * scale_y, x_max * scale_x, y_max * scale_y)
            entities.append(_moved(entity, place))

        relations: list[Relation] = []
        for relation in self.relations:
            subject, object_ = kept.get(relation.subject), kept.get(relation.object)
            if subject is None or object_ is None:
                dropped["relation_lost_entity"] += 1
                continue
            moved = changed(relation, subject=subject, object=object_)
            if _holds(relation, self.entities) and not _holds(moved, entities):
                dropped["relation_untrue"] += 1
                continue
            relations.append(moved)
        return _sound(entities, relations), dropped

    def resize(self, scale_x: float, scale_y: float) -> SceneGraph:
        """Multiply all x by `scale_x` and all y by `scale_y` (both positive)."""
        scaled = [e if e.box is None else _moved(e, e.box.scale(scale_x, scale_y)) for e in self.entities]
        return _sound(scaled, self.relations)


def _moved(entity: Entity, box: Box) -> Entity:
    """The entity with another box that has an inside; `changed` with less on the way."""
    moved = object.__new__(Entity)
    moved.__dict__.update(entity.__dict__, box=box)
    return moved


def _holds(relation: Relation, entities: Sequence[Entity]) -> bool | None:
    """Whether a relation is true of its entities' boxes, as far as these can tell."""
    subject, object_ = entities[relation.subject].box, entities[relation.object].box
    return None if subject is None or object_ is None else holds(relation.relation, subject, object_)


def _sound(entities: Sequence[Entity], relations: Sequence[Relation]) -> SceneGraph:
    """A graph made of a checked one."""
    return unchecked(SceneGraph, entities=tuple(entities), relations=tuple(relations))
