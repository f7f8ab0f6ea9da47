"""What `relpretrain data doctor` counts of one sample after another."""

from __future__ import annotations

import math
from array import array
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from relpretrain.data.pipeline.text import text_identity
from relpretrain.identity import number_of, number_of_bytes
from relpretrain.reading import REPLACEMENT
from relpretrain.scene_graph import GraphError, SceneGraph
from relpretrain.scene_graph.entity import ROUNDING

TINY = 0.0005
"""Share of the image below which a box is tiny: less than a tenth of a patch, of 14 x 14."""

LONG_CAPTION = 40
"""Words beyond which a caption is long where no recipe says how many tokens a text may have."""

BROKEN = "with a broken character"
"""What is said of texts with U+FFFD: half an emoji, or bytes that are no UTF-8."""

PEOPLE = "annotated"
"""What stands for the source of relations that name none."""

_EXAMPLES = 5
_FIELDS = {
    **dict.fromkeys(("malformed_json", "missing_annotation"), "json"),
    "malformed_text": "txt",
    **dict.fromkeys(("not_an_image", "truncated_image", "decompression_bomb", "missing_image"), "image"),
    **{"size_differs": "width, height", "repeated_key": "key", "truncated_shard": "shard"},
    **{"excluded_id": "image_id", "excluded_phash": "image"},
    **{"no_caption": "captions", "no_entity": "entities", "no_relation": "relations", "no_triplet_fits": "relations"},
}
_PARTS = {
    **dict.fromkeys(("malformed_box", "empty_box", "box_outside_image"), ".box"),
    **{"empty_label": ".label", "empty_relation": ".relation", "malformed_confidence": ".confidence"},
}


def field_of(reason: str, record: Mapping[str, Any], width: float = math.inf, height: float = math.inf) -> str:
    """Which part of a sample a reason is about, such as "entities[3].box".

    Args:
        reason: Why the sample is bad.
        record: Its JSON.
        width: Of its image.
        height: Of its image.
    """
    if reason in _FIELDS:
        return _FIELDS[reason]
    entities = record.get("entities")
    lists = {"entities": entities, "relations": record.get("relations")}
    for name, items in lists.items():
        for number, item in enumerate(items if isinstance(items, list) else ()):
            part = {"entities": [item]} if name == "entities" else {"entities": entities, "relations": [item]}
            try:
                SceneGraph.from_json(part, width, height)
            except GraphError as error:
                if error.reason == reason:
                    return f"{name}[{number}]{_PARTS.get(reason, '')}"
    return next((name for name in lists if name in reason), "json")


def _numbers() -> array[int]:
    return array("q")


_COUNTERS = ("sources", "labels", "relations", "formats", "boxes", "captions", "triplets", "names", "origins")
_ARRAYS = ("widths", "heights", "image_ids", "image_bytes", "source_ids", "caption_ids", "caption_numbers")


@dataclass
class Counts:
    """Sums over samples, and numbers for each sample, in order: those of several parts can be added up."""

    sources: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    relations: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    boxes: Counter[str] = field(default_factory=Counter)
    captions: Counter[str] = field(default_factory=Counter)
    triplets: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    origins: Counter[str] = field(default_factory=Counter)  # relations by who says so
    examples: dict[str, list[str]] = field(default_factory=dict)
    widths: array[int] = field(default_factory=_numbers)  # 0 where the image cannot be read
    heights: array[int] = field(default_factory=_numbers)
    image_ids: array[int] = field(default_factory=_numbers)
    image_bytes: array[int] = field(default_factory=_numbers)
    source_ids: array[int] = field(default_factory=_numbers)
    caption_ids: array[int] = field(default_factory=_numbers)  # of one sample after another
    caption_numbers: array[int] = field(default_factory=_numbers)  # how many each sample has

    def add(self, other: Counts) -> None:
        """Append what was counted of further samples."""
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))
        for name in _ARRAYS:
            getattr(self, name).extend(getattr(other, name))
        for what, places in other.examples.items():
            mine = self.examples.setdefault(what, [])
            mine += places[: _EXAMPLES - len(mine)]

    def to_json(self) -> dict[str, Any]:
        """Plain types; arrays as Base64 of their bytes."""
        arrays = {name: b64encode(getattr(self, name).tobytes()).decode() for name in _ARRAYS}
        return {name: getattr(self, name) for name in (*_COUNTERS, "examples")} | arrays

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Counts:
        """What `to_json` made plain types of."""
        counts = cls(examples=dict(content["examples"]))
        for name in _COUNTERS:
            getattr(counts, name).update(content[name])
        for name in _ARRAYS:
            getattr(counts, name).frombytes(b64decode(content[name]))
        return counts

    def count(
        self,
        place: str,
        image: bytes,
        image_id: str,
        source: str,
        record: Mapping[str, Any],
        captions: list[str],
        size: tuple[int, int],
        long_caption: Callable[[str], bool],
    ) -> None:
        """Count a sample.

        Args:
            place: Where it is, as "shard/key".
            image: The encoded image.
            image_id: Identity of its image.
            source: Name of its source.
            record: Its JSON.
            captions: Its captions, as the stream reads them.
            size: Width and height of the stored image, (0, 0) if it cannot be read.
            long_caption: Says of a caption whether it is too long.
        """
        self.sources[source] += 1
        self.widths.append(size[0])
        self.heights.append(size[1])
        self.image_ids.append(number_of(source, image_id))
        self.image_bytes.append(number_of_bytes(image))
        self.source_ids.append(number_of(source))
        identities = [text_identity(caption) for caption in captions]
        self.caption_ids.extend(identities)
        self.caption_numbers.append(len(identities))
        self._count_captions(place, record, captions, len(set(identities)), long_caption)
        self._count_graph(place, record, *size)

    def _count_captions(
        self,
        place: str,
        record: Mapping[str, Any],
        captions: list[str],
        different: int,
        long_caption: Callable[[str], bool],
    ) -> None:
        listed = record.get("captions")
        listed = listed if isinstance(listed, list) else []
        blank = sum(isinstance(c, str) and not c.strip() for c in listed)
        found = {
            "captions": len(captions),
            "empty": blank,
            "too long": sum(map(long_caption, captions)),
            "repeated in a sample": len(captions) - different,
            "no text": sum(not isinstance(c, str) for c in listed),
            BROKEN: sum(REPLACEMENT in caption for caption in captions),
        }
        self.captions.update(found)
        for name in list(found)[1:]:
            if found[name]:
                self._note(f"caption {name}", place)

    def _count_graph(self, place: str, record: Mapping[str, Any], width: int, height: int) -> None:
        seen: set[tuple[Any, ...]] = set()
        entities, relations = record.get("entities"), record.get("relations")
        for number, entity in enumerate(entities if isinstance(entities, list) else ()):
            if not isinstance(entity, dict):
                continue  # the sample is bad, and told so
            self.labels[str(entity.get("label"))] += 1
            attributes = entity.get("attributes")
            self._count_name(f"{place} entities[{number}]", entity.get("label"), attributes)
            if entity.get("box") is None:
                continue  # without a place, as what a caption says
            self.boxes["boxes"] += 1
            for what in _box_findings(entity, seen, width, height):
                self.boxes[what] += 1
                self._note(f"box {what}", f"{place} entities[{number}].box")
        told: set[str] = set()
        for number, relation in enumerate(relations if isinstance(relations, list) else ()):
            if not isinstance(relation, dict):
                continue
            self.relations[str(relation.get("relation"))] += 1
            self.origins[str(relation.get("source") or PEOPLE)] += 1
            self._count_name(f"{place} relations[{number}]", relation.get("relation"))
            triplet = repr([relation.get(part) for part in ("subject", "relation", "object")])
            found = ["repeated"] * (triplet in told)
            found += ["of an entity with itself"] * (relation.get("subject") == relation.get("object"))
            told.add(triplet)
            for what in found:
                self.triplets[what] += 1
                self._note(f"triplet {what}", f"{place} relations[{number}]")

    def _count_name(self, place: str, *names: Any) -> None:
        if REPLACEMENT in str(names):
            self.names[BROKEN] += 1
            self._note(f"name {BROKEN}", place)

    def _note(self, what: str, place: str) -> None:
        places = self.examples.setdefault(what, [])
        if len(places) < _EXAMPLES:
            places.append(place)


TRIPLET_FINDINGS = {
    "repeated": "an earlier one of the sample, drawn once",
    "of an entity with itself": "never drawn for MRC",
}
"""What a triplet can be found to be, and what that means."""

BOX_FINDINGS = {
    "degenerate": "no four finite numbers, or no inside",
    "outside": f"over the border by more than {ROUNDING:g} pixel",
    "over the border": f"by at most {ROUNDING:g} pixel, clipped",
    "tiny": f"under {TINY:.2%} of the image",
    "duplicated": "label and box of another entity of the sample",
}
"""What a box can be found to be, and what that means."""


def _box_findings(entity: Mapping[str, Any], seen: set[tuple[Any, ...]], width: int, height: int) -> list[str]:
    box = entity.get("box")
    good = isinstance(box, list) and len(box) == 4 and all(type(v) in (int, float) and abs(v) < math.inf for v in box)
    if not good or not isinstance(box, list) or box[0] >= box[2] or box[1] >= box[3]:
        return ["degenerate"]
    found = []
    if width and height:
        over = max(-box[0], -box[1], box[2] - width, box[3] - height)
        if over > 0:
            found.append("outside" if over > ROUNDING else "over the border")
        if (box[2] - box[0]) * (box[3] - box[1]) < TINY * width * height:
            found.append("tiny")
    own = (str(entity.get("label")), *box)
    if own in seen:
        found.append("duplicated")
    seen.add(own)
    return found
