"""Scene graphs: entities with boxes, and relations between them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from relpretrain.scene_graph.errors import FlipRefused, GraphError
from relpretrain.scene_graph.geometry import Box, holds
from relpretrain.scene_graph.mirror import mentions_side, mirror_relation

_Kind = TypeVar("_Kind")

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
        items = _items(record, "entities")
        entities = _sound_entities(items, width, height)
        if entities is None:  # one by one, to mend what can be mended and name what cannot
            entities = [_entity(item, i, width, height) for i, item in enumerate(items)]
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
        return _sound(
            [_moved(e, e.box.flip(width)) for e in self.entities],
            [
                r if (name := mirror_relation(r.relation)) == r.relation else Relation(r.subject, name, r.object)
                for r in self.relations
            ],
        )

    def crop(
        self, box: Box, min_visible: float = 0.5, size: tuple[float, float] | None = None
    ) -> tuple[SceneGraph, Counter[str]]:
        """Cut the graph to a part of its image; coordinates then count from the part's corner.

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
        if left == top == 0 and all(box.contains(entity.box) for entity in self.entities):
            return (self if size is None else self.resize(scale_x, scale_y)), dropped
        kept: dict[int, int] = {}
        entities: list[Entity] = []
        for index, entity in enumerate(self.entities):
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
            entities.append(_moved(entity, Box(x_min * scale_x, y_min * scale_y, x_max * scale_x, y_max * scale_y)))

        relations: list[Relation] = []
        for relation in self.relations:
            subject, object_ = kept.get(relation.subject), kept.get(relation.object)
            if subject is None or object_ is None:
                dropped["relation_lost_entity"] += 1
                continue
            was = holds(relation.relation, self.entities[relation.subject].box, self.entities[relation.object].box)
            if was and not holds(relation.relation, entities[subject].box, entities[object_].box):
                dropped["relation_untrue"] += 1
                continue
            relations.append(_unchecked(Relation, subject=subject, relation=relation.relation, object=object_))
        return _sound(entities, relations), dropped

    def resize(self, scale_x: float, scale_y: float) -> SceneGraph:
        """Multiply all x by `scale_x` and all y by `scale_y` (both positive)."""
        return _sound([_moved(e, e.box.scale(scale_x, scale_y)) for e in self.entities], self.relations)


def _unchecked(kind: type[_Kind], **values: Any) -> _Kind:
    """An entity or a graph of sound values: checking them again would take most of the time of a crop."""
    made = object.__new__(kind)
    made.__dict__.update(values)
    return made


def _moved(entity: Entity, box: Box) -> Entity:
    """The entity with another box that has an inside."""
    moved = object.__new__(Entity)
    moved.__dict__.update(entity.__dict__, box=box)
    return moved


def _sound(entities: Sequence[Entity], relations: Sequence[Relation]) -> SceneGraph:
    """A graph made of a checked one."""
    return _unchecked(SceneGraph, entities=tuple(entities), relations=tuple(relations))


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


def _sound_entities(items: Sequence[Any], width: float, height: float) -> list[Entity] | None:
    """All entities at once, which takes a fifth of the time; None if any of them asks for a closer look."""
    if set(map(type, items)) != {dict}:
        return None
    labels, boxes = [item.get("label") for item in items], [item.get("box") for item in items]
    attributes = [item.get("attributes", []) for item in items]
    if set(map(type, labels)) != {str} or {*map(type, boxes), *map(type, attributes)} != {list}:
        return None
    if not all(map(str.strip, labels)) or not set(map(type, chain.from_iterable(attributes))) <= {str}:
        return None
    if set(map(len, boxes)) != {4} or not set(map(type, chain.from_iterable(boxes))) <= {int, float}:
        return None
    try:
        corners = np.array(boxes, np.float64)
    except OverflowError:  # a whole number that no float can hold
        return None
    low, high = corners[:, :2], corners[:, 2:]
    if not ((low >= 0) & (low < high) & (high <= (width, height)) & (high < math.inf)).all():
        return None
    return [
        _unchecked(Entity, label=label, box=tuple.__new__(Box, box), attributes=tuple(own), id=i)
        for i, (label, box, own) in enumerate(zip(labels, corners.tolist(), attributes, strict=True))
    ]


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
