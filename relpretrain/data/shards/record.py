"""What a sample's JSON and text say, in this package's format or img2dataset's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from relpretrain.errors import BadSample
from relpretrain.kinds import Need
from relpretrain.reading import decode, parse_json
from relpretrain.sources.common.values import as_number, identity


def captions_of(record: Mapping[str, Any], txt: str | None) -> list[str]:
    """Captions of a sample: ours (`captions`), or those of img2dataset (`caption`, else the txt member).

    A text alone is a list of one. What is empty, and what in a list is no text, is passed over; a blank `caption` gives
    way to the txt member.

    Raises:
        ValueError: If they are neither text nor list.
    """
    for name in ("captions", "caption"):
        value = record.get(name)
        if value is None or value != value:  # NaN, as tables have it where nothing is
            continue
        if not isinstance(value, list | str):
            raise ValueError(f"{name} must be a list of texts, got {value!r:.60}")
        captions = [text.strip() for text in ([value] if isinstance(value, str) else value) if isinstance(text, str)]
        if name == "captions" or any(captions):
            return [caption for caption in captions if caption]
    return [txt.strip()] if txt and txt.strip() else []


NEEDS: dict[Need, int] = {"captions": 0, "regions": 3, "graphs": 2, "boxed_graphs": 4}
"""Which of the counts of a sample says whether it serves a stream that needs this."""

PARTS = ("captions", "entities", "relations")
"""Parts of a sample, the first of its counts."""


class Counts(NamedTuple):
    """How much a sample holds; the last two are what boxes are known of."""

    captions: int
    entities: int
    relations: int
    boxed_entities: int
    boxed_relations: int


def counts_of(record: Mapping[str, Any], captions: int) -> Counts:
    """Count what a record holds. What is malformed counts as sound, for those to judge who read it.

    Args:
        record: A sample's JSON.
        captions: Number of its captions.
    """
    entities, relations = (_length(record.get(name)) for name in ("entities", "relations"))
    listed = record.get("entities")
    placed = [_placed(entity) for entity in (listed if isinstance(listed, list) else [listed] * entities)]
    if all(placed):
        return Counts(captions, entities, relations, entities, relations)
    ends = record.get("relations")
    boxed = [_pair(relation, placed) for relation in (ends if isinstance(ends, list) else [ends] * relations)]
    return Counts(captions, entities, relations, sum(placed), sum(boxed))


def _length(value: Any) -> int:
    """How many things a list holds; whatever else is there counts as one."""
    if isinstance(value, list):
        return len(value)
    return int(bool(value) and value == value)


def _placed(entity: Any) -> bool:
    """Whether an entity has a box."""
    return not isinstance(entity, dict) or ((box := entity.get("box")) is not None and box == box)


def _pair(relation: Any, placed: Sequence[bool]) -> bool:
    """Whether both entities of a relation have a box."""
    try:
        return bool(placed[relation["subject"]] and placed[relation["object"]])
    except (TypeError, KeyError, IndexError):
        return True


def caption_weights_of(record: Mapping[str, Any], captions: Sequence[str]) -> list[float] | None:
    """Weights of a sample's captions, by which one of them is drawn; None where it has none, so that all are equal.

    Args:
        record: Its `caption_weights` are one number for each of its `captions`.
        captions: What `captions_of` made of these.

    Raises:
        ValueError: If they are not finite numbers from 0, one for each caption, of which one is above 0.
    """
    weights = record.get("caption_weights")
    if weights is None:
        return None
    numbers = [as_number(weight) for weight in weights] if isinstance(weights, list) else []
    listed = record.get("captions")
    if isinstance(listed, list) and len(numbers) == len(listed) != len(captions):  # those that were passed over
        numbers = [n for n, text in zip(numbers, listed, strict=True) if isinstance(text, str) and text.strip()]
    if len(numbers) != len(captions) or not all(n >= 0 and math.isfinite(n) for n in numbers) or not any(numbers):
        raise ValueError(f"caption_weights must be {len(captions)} numbers from 0, one above it, got {weights!r:.60}")
    return numbers


def texts_of(json: bytes | None, txt: bytes | None) -> tuple[dict[str, Any], str]:
    """A sample's record and its txt member, each empty where it is absent.

    Raises:
        BadSample: If one of them cannot be read.
    """
    try:
        record = {} if json is None else parse_json(json)
    except ValueError as error:
        raise BadSample("malformed_json", str(error)) from None
    if not isinstance(record, dict):
        raise BadSample("malformed_json", "a record must be an object")
    try:
        return record, decode(txt or b"", "the text", "replace")
    except ValueError as error:
        raise BadSample("malformed_text", str(error)) from None


def image_id_of(record: Mapping[str, Any], key: str) -> str:
    """Identity of a sample's image: the record's `image_id` or, as img2dataset writes it, `key`; else its own key."""
    return identity(record.get("image_id")) or identity(record.get("key")) or key


def declared_size(record: Mapping[str, Any], width: int, height: int) -> tuple[float, float]:
    """The width and height that a record tells of its image; the image's own where it tells none."""
    told_width, told_height = (record.get(name) for name in ("width", "height"))
    return (
        width if told_width is None or told_width != told_width else as_number(told_width),
        height if told_height is None or told_height != told_height else as_number(told_height),
    )
