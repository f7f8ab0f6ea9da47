"""Entities and relations of a scene graph, and how they are read of a sample's JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from relpretrain.scene_graph.errors import GraphError
from relpretrain.scene_graph.geometry import Box

_Kind = TypeVar("_Kind")

ROUNDING = 1.0
"""How many pixels a box may reach over the border of its image, as the annotation's rounding; it is then clipped."""


@dataclass(frozen=True)
class Entity:
    """Something in an image.

    Args:
        label: What it is, of one or several words.
        box: Where it is; None where that is not known, as of an entity that was read from a caption.
        attributes: What it is like, such as ("red", "wooden").
        id: Its position in the annotation that `SceneGraph.from_json` read; flips and crops keep it, and equality
            leaves it out, as it does the following. -1 where it was not read.
        caption: Index of the caption that it was read from; None where it was read from none.
        span: First character of its words in that caption, and the one after the last.
        source: Who says so, such as the name of a parser; empty for people.

    Raises:
        GraphError: If the label is empty, the box not finite or without inside, or the place in a caption is none.
    """

    label: str
    box: Box | None = None
    attributes: tuple[str, ...] = ()
    id: int = field(default=-1, compare=False, repr=False, kw_only=True)
    caption: int | None = field(default=None, compare=False, repr=False, kw_only=True)
    span: tuple[int, int] | None = field(default=None, compare=False, repr=False, kw_only=True)
    source: str = field(default="", compare=False, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.label, str) or not self.label.strip():
            raise GraphError("empty_label", f"an entity needs a label, got {self.label!r}")
        if self.box is not None:
            object.__setattr__(self, "box", _checked_box(self.box))
        object.__setattr__(self, "attributes", tuple(self.attributes))
        object.__setattr__(self, "span", _checked_origin("malformed_entity", self.caption, self.span, self.source))


@dataclass(frozen=True)
class Relation:
    """A triplet: how one entity of a graph relates to another.

    Args:
        subject: Index of the first entity.
        relation: How it relates, such as "in front of".
        object: Index of the second entity.
        confidence: How sure the source is, in [0, 1]; equality leaves it out, as it does the following.
        source: Who says so, such as "lexicon 3"; empty for people.
        caption: Index of the caption that it was read from; None where it was read from none.
        span: First character of the relation's words in that caption, and the one after the last.

    Raises:
        GraphError: If the relation is empty, the confidence outside [0, 1], or the place in a caption is none.
    """

    subject: int
    relation: str
    object: int
    confidence: float = field(default=1.0, compare=False, repr=False, kw_only=True)
    source: str = field(default="", compare=False, repr=False, kw_only=True)
    caption: int | None = field(default=None, compare=False, repr=False, kw_only=True)
    span: tuple[int, int] | None = field(default=None, compare=False, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.relation, str) or not self.relation.strip():
            raise GraphError("empty_relation", f"a relation needs a name, got {self.relation!r}")
        if not (_is_finite(self.confidence) and 0 <= self.confidence <= 1):
            raise GraphError("malformed_confidence", f"a confidence lies in [0, 1], got {self.confidence!r:.60}")
        object.__setattr__(self, "confidence", float(self.confidence))
        object.__setattr__(self, "span", _checked_origin("malformed_relation", self.caption, self.span, self.source))


def unchecked(kind: type[_Kind], **values: Any) -> _Kind:
    """An entity, a relation or a graph of sound values: checking them again would take most of the time of a crop."""
    made = object.__new__(kind)
    made.__dict__.update(values)
    return made


def changed(thing: _Kind, **values: Any) -> _Kind:
    """The entity or relation with other sound values, and all else that is known of it."""
    made = object.__new__(type(thing))
    made.__dict__.update(thing.__dict__, **values)
    return made


def fit_box(box: Box, width: float, height: float) -> Box:
    """Clip a box that reaches over its image by no more than `ROUNDING` pixels.

    Raises:
        GraphError: If it reaches further ("box_outside_image").
    """
    frame = Box(0.0, 0.0, width, height)
    if not Box(-ROUNDING, -ROUNDING, width + ROUNDING, height + ROUNDING).contains(box):
        raise GraphError("box_outside_image", f"box {_shown(box)} leaves its image of {width:g} x {height:g} pixels")
    return _checked_box(box.clip(frame))


def read_entities(record: Mapping[str, Any], width: float, height: float) -> list[Entity]:
    """The entities of a sample's record.

    Raises:
        GraphError: If one is malformed.
    """
    items = _items(record, "entities")
    sound = _sound_entities(items, width, height)
    if sound is not None:
        return sound  # else one by one, to mend what can be mended and name what cannot
    return [_entity(item, i, width, height) for i, item in enumerate(items)]


def read_relations(record: Mapping[str, Any]) -> list[Relation]:
    """The relations of a sample's record; whether their entities are there is for the graph to check.

    Raises:
        GraphError: If one is malformed.
    """
    relations = []
    for item in _items(record, "relations"):
        if (
            type(item) is dict
            and item.keys() == _TRIPLET
            and type(item["relation"]) is str
            and item["relation"].strip()
        ):
            relations.append(unchecked(Relation, **item))  # the rest is the class's defaults
            continue
        try:
            triplet = item["subject"], item["relation"], item["object"]
            further = _further(item, _OF_RELATION) if len(item) > 3 else {}
        except (KeyError, TypeError) as error:
            raise GraphError(
                "malformed_relation", f"expected subject, relation and object, got {item!r:.80}"
            ) from error
        relations.append(Relation(*triplet, **further))
    return relations


def entity_record(entity: Entity) -> dict[str, Any]:
    """An entity in the sample format; what is not known of it is left out."""
    record: dict[str, Any] = {"label": entity.label}
    if entity.box is not None:
        record["box"] = list(entity.box)
    return record | {"attributes": list(entity.attributes)} | _origin(entity)


def relation_record(relation: Relation) -> dict[str, Any]:
    """A relation in the sample format; a confidence of 1 is left out."""
    record = {"subject": relation.subject, "relation": relation.relation, "object": relation.object}
    return record | ({} if relation.confidence == 1 else {"confidence": relation.confidence}) | _origin(relation)


_ORIGIN = ("caption", "span", "source")
_TRIPLET = {"subject", "relation", "object"}
_OF_RELATION = ("confidence", *_ORIGIN)


def _origin(thing: Entity | Relation) -> dict[str, Any]:
    """Where an entity or a relation comes from, as far as it is known."""
    known = {name: value for name in _ORIGIN if (value := getattr(thing, name)) not in (None, "")}
    return known | ({"span": list(thing.span)} if thing.span is not None else {})


def _further(item: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Optional values of an item, those that are there: null and NaN are nothing."""
    found = {name: item[name] for name in names if name in item}
    return {name: value for name, value in found.items() if value is not None and value == value}


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
    if not isinstance(item, Mapping) or "label" not in item:
        raise GraphError("malformed_entity", f"expected an entity with a label, got {item!r:.80}")
    attributes = _listed(item.get("attributes"), str)
    if attributes is None or not all(isinstance(a, str) for a in attributes):
        raise GraphError("malformed_entity", f"expected a list of attributes, got {item['attributes']!r:.80}")
    box = item.get("box")
    placed = None if box is None or box != box else fit_box(_checked_box(box), width, height)
    return Entity(item["label"], placed, tuple(attributes), id=position, **_further(item, _ORIGIN))


_NOWHERE: dict[str, Any] = {"caption": None, "span": None, "source": ""}
_SOURCED = frozenset(_ORIGIN)


def _sound_entities(items: Sequence[Any], width: float, height: float) -> list[Entity] | None:
    """All entities at once, which takes a fifth of the time; None if any of them asks for a closer look."""
    if set(map(type, items)) != {dict}:
        return None
    labels, boxes = [item.get("label") for item in items], [item.get("box") for item in items]
    attributes = [item.get("attributes", []) for item in items]
    if set(map(type, labels)) != {str} or set(map(type, attributes)) != {list}:
        return None
    if not all(map(str.strip, labels)) or not set(map(type, chain.from_iterable(attributes))) <= {str}:
        return None
    placed = boxes if None not in boxes else [box for box in boxes if box is not None]
    sides = _sound_boxes(placed, width, height)
    if sides is None:
        return None
    if placed is not boxes:
        each = iter(sides)
        sides = [None if box is None else next(each) for box in boxes]
    made = [
        unchecked(Entity, label=label, box=box, attributes=tuple(own), id=i)  # the rest is the class's defaults
        for i, (label, box, own) in enumerate(zip(labels, sides, attributes, strict=True))
    ]
    if all(map(_SOURCED.isdisjoint, items)):
        return made
    for i, item in enumerate(items):
        if origin := _further(item, _ORIGIN):
            origin["span"] = _checked_origin("malformed_entity", **(_NOWHERE | origin))
            made[i] = changed(made[i], **origin)
    return made


def _sound_boxes(boxes: Sequence[Any], width: float, height: float) -> Sequence[Box | None] | None:
    """Boxes of lists of numbers that lie in the image; None if any of them asks for a closer look."""
    if not boxes:
        return []
    if set(map(type, boxes)) != {list} or set(map(len, boxes)) != {4}:
        return None
    if not set(map(type, chain.from_iterable(boxes))) <= {int, float}:
        return None
    try:
        corners = np.array(boxes, np.float64)
    except OverflowError:  # a whole number that no float can hold
        return None
    low, high = corners[:, :2], corners[:, 2:]
    if not ((low >= 0) & (low < high) & (high <= (width, height)) & (high < math.inf)).all():
        return None
    return [tuple.__new__(Box, box) for box in corners.tolist()]


def _checked_origin(reason: str, caption: Any, span: Any, source: Any) -> tuple[int, int] | None:
    """The span, if the place in a caption and the name of a source are what they ought to be."""
    if caption is not None and (type(caption) is not int or caption < 0):
        raise GraphError(reason, f"expected the index of a caption, got {caption!r:.60}")
    if not isinstance(source, str):
        raise GraphError(reason, f"expected the name of a source, got {source!r:.60}")
    if span is None:
        return None
    whole = isinstance(span, list | tuple) and len(span) == 2 and all(type(place) is int for place in span)
    if caption is None or not whole or not 0 <= span[0] < span[1]:
        raise GraphError(reason, f"expected [start, end] of characters of a caption, got {span!r:.60}")
    return span[0], span[1]


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
