"""ProVision (arXiv 2412.07012): an image's scene graph in several files, one of each model that annotates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from relpretrain.data.join.records import Choice, Record
from relpretrain.data.join.rows import Row
from relpretrain.sources.common.dropped import note
from relpretrain.sources.common.files import Join
from relpretrain.sources.common.values import as_number

_PARTS = ("labels", "bboxes", "det_scores", "attributes", "relations", "width", "height", "caption")


def pieced(rows: Iterable[Row], dropped: Counter[str]) -> Iterator[Row]:
    """Put the rows of all files together by image: objects, attributes and relations count the same objects.

    They wait in a temporary database on disk. Of equal parts the last counts, as in ProVision's `BaseDataset`.
    """
    join = Join()
    for place, name, cells in rows:
        annotation = cells.get("annotation")
        if not name or not isinstance(annotation, dict):
            note(dropped, "malformed_row", place)
            continue
        kept = {part: annotation[part] for part in _PARTS if annotation.get(part) is not None}
        join.add(name, "annotation", kept | {"data_path": cells.get("data_path")})
    for name, pieces in join.images():
        whole: dict[str, Any] = {}
        for piece in pieces.read()["annotation"]:
            whole |= piece
        yield Row(name, name, whole)


def of_provision(row: Mapping[str, Any], choice: Choice, dropped: Counter[str], place: str) -> Record | None:
    """The graph of an image whose pieces are together; boxes in pixels of its width and height."""
    labels, boxes = _list(row.get("labels")), _list(row.get("bboxes"))
    scores, attributes = _list(row.get("det_scores")), _list(row.get("attributes"))
    if len(labels) != len(boxes):
        note(dropped, "labels_without_boxes", place)
        return None
    numbers: dict[int, int] = {}
    entities: list[dict[str, Any]] = []
    for number, (label, box) in enumerate(zip(labels, boxes, strict=True)):
        if number < len(scores) and as_number(scores[number]) < choice.min_score:
            continue
        own = _list(attributes[number]) if number < len(attributes) else []
        numbers[number] = len(entities)
        entities.append({"label": label, "box": box, "attributes": list(own)})
    relations = []
    for triplet in _list(row.get("relations")):
        if not isinstance(triplet, list) or len(triplet) != 3:
            note(dropped, "malformed_relation", place)
        elif not all(isinstance(end, int) and end in numbers for end in (triplet[0], triplet[2])):
            note(dropped, "relation_without_entity", place)
        else:
            subject, object_ = numbers[triplet[0]], numbers[triplet[2]]
            relations.append({"subject": subject, "relation": triplet[1], "object": object_})
    record: Record = {"entities": entities, "relations": relations} if entities else {}
    if isinstance(caption := row.get("caption"), str) and caption.strip():
        record["captions"] = [caption]
    sides = {side: row[side] for side in ("width", "height") if row.get(side) is not None}
    return record | sides if record else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
