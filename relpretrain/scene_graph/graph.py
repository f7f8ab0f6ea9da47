"""Scene graphs: entities with boxes, and relations between them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

from relpretrain.scene_graph.errors import FlipRefused, GraphError
from relpretrain.scene_graph.geometry import Box, holds
from relpretrain.scene_graph.mirror import mentions_side, mirror_relation

ROUNDING = 1.0
"""How many pixels a box may reach over the border of its image, as the annotation's rounding; it is then clipped."""


@dataclass(frozen=True)
class Entity:
    """Something in an image.

    Args:
        label: What it is, of one or several words.
        box: Where it is.
        attributes: What it is like, such as ("red", "wooden").
        id: Its position in the annotation that `SceneGraph.from_json` read; flips and crops keep it, and equality
            leaves it out. -1 where it was not read.

    Raises:
        GraphError: If the label is empty or the box not finite or without inside.
    """

    label: str
    box: Box
    attributes: tuple[str, ...] = ()
    id: int = field(default=-1, compare=False, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.label, str) or not self.label.strip():
            raise GraphError("empty_label", f"an entity needs a label, got {self.label!r}")
        object.__setattr__(self, "box", _checked_box(self.box))
        object.__setattr__(self, "attributes", tuple(self.attributes))


@dataclass(frozen=True)
class Relation:
    """A triplet: how one entity of a graph relates to another.

    Args:
        subject: Index of the first entity.
        relation: How it relates, such as "in front of".
        object: Index of the second entity.

    Raises:
        GraphError: If the relation is empty.
    """

    subject: int
    relation: str
    object: int

    def __post_init__(self) -> None:
        if not isinstance(self.relation, str) or not self.relation.strip():
            raise GraphError("empty_relation", f"a relation needs a name, got {self.relation!r}")


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
        entities = [_entity(item, i, width, height) for i, item in enumerate(_items(record, "entities"))]
        relations = []
        for item in _items(record, "relations"):
            try:
                relations.append(Relation(item["subject"], item["relation"], item["object"]))
            except (KeyError, TypeError) as error:
                raise GraphError(
                    "malformed_relation", f"expected subject, relation and object, got {item!r:.80}"
                ) from error
        return cls(tuple(entities), tuple(relations))

    def to_json(self) -> dict[str, Any]:
        """Return {"entities": [...], "relations": [...]} of plain types, as `from_json` reads it."""
        return {
            "entities": [
                {"label": e.label, "box": list(e.box), "attributes": list(e.attributes)} for e in self.entities
            ],
            "relations": [{"subject": r.subject, "relation": r.relation, "object": r.object} for r in self.relations],
        }

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
        return SceneGraph(
            tuple(replace(e, box=e.box.flip(width)) for e in self.entities),
            tuple(replace(r, relation=mirror_relation(r.relation)) for r in self.relations),
        )

    def crop(self, box: Box, min_visible: float = 0.5) -> tuple[SceneGraph, Counter[str]]:
        """Cut the graph to a part of its image; coordinates then count from the part's corner.

        Args:
            box: The part that stays.
            min_visible: Share of an entity's area that must stay, else the entity goes.

        Returns:
            The graph, and what was dropped: "entity_cropped" (too little of it stays), "relation_lost_entity" (its
            subject or object went) and "relation_untrue" (a spatial relation that was true of the whole boxes and is
            not of the clipped ones).
        """
        dropped: Counter[str] = Counter()
        if box.x_min == box.y_min == 0 and all(box.contains(entity.box) for entity in self.entities):
            return self, dropped
        kept: dict[int, int] = {}
        entities: list[Entity] = []
        for index, entity in enumerate(self.entities):
            visible = entity.box.clip(box).shift(-box.x_min, -box.y_min)
            if visible.area <= 0 or visible.area < min_visible * entity.box.area:
                dropped["entity_cropped"] += 1
                continue
            kept[index] = len(entities)
            entities.append(replace(entity, box=visible))

        relations: list[Relation] = []
        for relation in self.relations:
            if relation.subject not in kept or relation.object not in kept:
                dropped["relation_lost_entity"] += 1
                continue
            cut = Relation(kept[relation.subject], relation.relation, kept[relation.object])
            was = holds(cut.relation, self.entities[relation.subject].box, self.entities[relation.object].box)
            if was and not holds(cut.relation, entities[cut.subject].box, entities[cut.object].box):
                dropped["relation_untrue"] += 1
                continue
            relations.append(cut)
        return SceneGraph(tuple(entities), tuple(relations)), dropped

    def resize(self, scale_x: float, scale_y: float) -> SceneGraph:
        """Multiply all x by `scale_x` and all y by `scale_y` (both positive)."""
        entities = (replace(e, box=e.box.scale(scale_x, scale_y)) for e in self.entities)
        return SceneGraph(tuple(entities), self.relations)


def fit_box(box: Box, width: float, height: float) -> Box:
    """Clip a box that reaches over its image by no more than `ROUNDING` pixels.

    Raises:
        GraphError: If it reaches further ("box_outside_image").
    """
    frame = Box(0.0, 0.0, width, height)
    if not Box(-ROUNDING, -ROUNDING, width + ROUNDING, height + ROUNDING).contains(box):
        raise GraphError("box_outside_image", f"box {_shown(box)} leaves its image of {width:g} x {height:g} pixels")
    return _checked_box(box.clip(frame))


def _items(record: Mapping[str, Any], key: str) -> Sequence[Any]:
    items = _listed(record.get(key), Mapping)
    if items is None:
        raise GraphError(f"malformed_{key}", f"expected a list of {key}, got {record[key]!r:.80}")
    return items


def _listed(value: Any, single: type) -> Sequence[Any] | None:
    """A list; one thing alone, of its type, is a list of one, null and NaN are empty, and None says that it is none."""
    if isinstance(value, list | tuple):
        return value
    if value is None or value != value or value in ("", {}):
        return ()
    return (value,) if isinstance(value, single) else None


def _entity(item: Any, position: int, width: float, height: float) -> Entity:
    if not isinstance(item, Mapping) or "label" not in item or "box" not in item:
        raise GraphError("malformed_entity", f"expected an entity with label and box, got {item!r:.80}")
    attributes = _listed(item.get("attributes"), str)
    if attributes is None or not all(isinstance(a, str) for a in attributes):
        raise GraphError("malformed_entity", f"expected a list of attributes, got {item['attributes']!r:.80}")
    return Entity(item["label"], fit_box(_checked_box(item["box"]), width, height), tuple(attributes), id=position)


def _checked_box(values: Any) -> Box:
    if not isinstance(values, list | tuple) or len(values) != 4 or not all(map(_is_finite, values)):
        raise GraphError(
            "malformed_box", f"expected [x_min, y_min, x_max, y_max] of finite numbers, got {values!r:.60}"
        )
    box = Box(*map(float, values))
    if box.width <= 0 or box.height <= 0:
        raise GraphError("empty_box", f"expected x_min < x_max and y_min < y_max, got {_shown(box)}")
    return box


def _is_finite(value: Any) -> bool:
    number = type(value) is float or type(value) is int  # asking for Real takes ten times as long
    try:
        return (number or (isinstance(value, Real) and not isinstance(value, bool))) and math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def _shown(box: Box) -> str:
    return "[" + ", ".join(f"{v:g}" for v in box) + "]"
