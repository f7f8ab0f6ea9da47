"""Graph-based captioning (GBC, arXiv 2407.06723): vertices with boxes and descriptions, edges with words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from relpretrain.data.join.records import Choice, Record, texts
from relpretrain.sources.common.dropped import note
from relpretrain.sources.common.values import as_number

CAPTIONS = ("original", "short", "detail")
"""Labels of the descriptions of a whole image; those of other vertices are "relation", "composition", "hardcode"."""

_ENTITIES = ("entity", "composition")
_NUMBER = re.compile(r"[ _]\d+$")  # "tree 1", "trees_0": which of several
_BEING = re.compile(r"^(?:is|are|was|were|being|be)\b\s*")
_ARTICLE = re.compile(r"\s*\b(?:a|an|the|some|its|his|her|their)$")
_LONGEST = 4  # words of a relation


def of_gbc(row: Mapping[str, Any], choice: Choice, dropped: Counter[str], place: str) -> Record | None:
    """Captions, entities and relations of one graph.

    A vertex labelled "entity" or "composition" is an entity, called by the words of the first edge that leads to it
    ("tree 1" is a tree), or by its first description. A vertex labelled "relation" says in a sentence how others
    relate: where it joins two, and the sentence names both once, the words between the names are the relation. What
    names three, or has more than four words between, gives no triplet ("relation_without_name").
    """
    vertices = _dicts(row.get("vertices"))
    found = texts(_captions(row, vertices, choice.captions or CAPTIONS), choice.sentences)
    numbers: dict[str, int] = {}
    entities: list[dict[str, Any]] = []
    for vertex in vertices:
        box = _box(vertex.get("bbox"), choice.min_score)
        if vertex.get("label") in _ENTITIES and box is not None:
            numbers[str(vertex.get("vertex_id"))] = len(entities)
            entities.append({"label": _name(vertex, choice), "box": box, "attributes": []})
    relations = []
    for vertex in vertices:
        if vertex.get("label") == "relation":
            triplets = [triplet for text in _descriptions(vertex) if (triplet := _triplet(vertex, text, numbers))]
            relations += triplets
            if not triplets:
                note(dropped, "relation_without_name", f"{place}, {vertex.get('vertex_id')!r:.60}")
    record: Record = {"fractions": True, "entities": entities, "relations": relations} if entities else {}
    return record | ({"captions": found} if found else {}) or None


def _captions(row: Mapping[str, Any], vertices: list[dict[str, Any]], labels: tuple[str, ...]) -> list[Any]:
    """Descriptions by label: those of the image, and of groups and relations in it; never those of single things."""
    found = [row.get("original_caption")] if "original" in labels else []
    for vertex in vertices:
        if vertex.get("label") != "entity":
            found += [desc.get("text") for desc in _dicts(vertex.get("descs")) if _plain(vertex, desc) in labels]
    return found


def _plain(vertex: Mapping[str, Any], desc: Mapping[str, Any]) -> Any:
    """The label of a description; the "short" ones of a group are about the group."""
    label = desc.get("label")
    return label if vertex.get("label") == "image" or label not in CAPTIONS else f"{label}-{vertex.get('label')}"


def _descriptions(vertex: Mapping[str, Any]) -> list[str]:
    found = (desc.get("text") for desc in _dicts(vertex.get("descs")))
    return [" ".join(text.split()) for text in found if isinstance(text, str) and text.strip()]


def _name(vertex: Mapping[str, Any], choice: Choice) -> str:
    if choice.regions == "description" and (described := _descriptions(vertex)):
        return described[0]
    words = (edge.get("text") for edge in _dicts(vertex.get("in_edges")))
    text = next((text for text in words if isinstance(text, str) and text.strip()), str(vertex.get("vertex_id")))
    return _NUMBER.sub("", " ".join(text.lower().split()))


def _box(bbox: Any, min_score: float) -> list[float] | None:
    """Corners as fractions of the image; None where there are none, or the detector's score is too small."""
    if not isinstance(bbox, dict):
        return None
    score = bbox.get("confidence")
    if score is not None and as_number(score) < min_score:
        return None
    left, top, right, bottom = (as_number(bbox.get(side)) for side in ("left", "top", "right", "bottom"))
    return [left, top, right, bottom] if left < right and top < bottom else None


def _triplet(vertex: Mapping[str, Any], sentence: str, numbers: Mapping[str, int]) -> dict[str, Any] | None:
    edges = [(str(edge.get("target")), str(edge.get("text"))) for edge in _dicts(vertex.get("out_edges"))]
    if len({target for target, _ in edges}) != 2 or len(edges) != 2 or not all(t in numbers for t, _ in edges):
        return None
    places = []
    for target, words in edges:
        met = list(re.finditer(rf"(?<!\w){re.escape(words)}(?!\w)", sentence, re.IGNORECASE))
        if len(met) != 1:
            return None
        places.append((met[0].start(), met[0].end(), target))
    (_, end, subject), (start, _, object_) = sorted(places)
    if end > start:
        return None
    between = _ARTICLE.sub("", _BEING.sub("", sentence[end:start].strip().lower())).strip()
    if not re.fullmatch(r"[a-z'-]+(?: [a-z'-]+)*", between) or len(between.split()) > _LONGEST:
        return None
    return {"subject": numbers[subject], "relation": between, "object": numbers[object_]}


def _dicts(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; what is none is passed over."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
