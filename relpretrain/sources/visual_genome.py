"""Visual Genome (Krishna et al., IJCV 2017), from its JSON files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from relpretrain.progress import Meter
from relpretrain.sources.common.annotation import Annotation, Later, RawEntity, check_folder, corners
from relpretrain.sources.common.dropped import note
from relpretrain.sources.common.files import Join, Pieces, inside, json_items
from relpretrain.sources.common.values import identity, listed, size_of

FOLDERS = ("", "VG_100K", "VG_100K_2")
"""Where images may lie below the folder that is named."""


def read_visual_genome(
    images: Path,
    image_data: Path | None = None,
    relationships: Path | None = None,
    objects: Path | None = None,
    attributes: Path | None = None,
    regions: Path | None = None,
    scene_graphs: Path | None = None,
    *,
    dropped: Counter[str],
    meter: Meter | None = None,
) -> Iterator[Later]:
    """Read images with scene graphs and regions, in the order in which the files first name them.

    Files are put together by image, so they may be in any order. Subject and object of a relation keep the name and box
    that the relation gives them, which often differ from those of the same id in another relation: an entity is an id
    with a name and a box. Of the objects and attributes files come the objects that no relation has, and the attributes
    of all. A region is an entity with its phrase as label.

    Args:
        images: Folder of the images, or the one that holds VG_100K and VG_100K_2.
        image_data: `image_data.json`: sizes, and file names in `url`, which may differ from the id. Without it a
            name is that of objects.json's `image_url`, else `ID.jpg`.
        relationships: `relationships.json`.
        objects: `objects.json`.
        attributes: `attributes.json`.
        regions: `region_descriptions.json` or `region_graphs.json`.
        scene_graphs: `scene_graphs.json`, instead of the relationships.
        dropped: Counts what was left out, by reason.
        meter: Told how far reading has got.

    Raises:
        ValueError: If a file is absent or not a list, or none is named, or both relationships and scene graphs are.
    """
    check_folder(images)
    files = {
        "relationships": relationships,
        "objects": objects,
        "attributes": attributes,
        "regions": regions,
        "scene_graphs": scene_graphs,
    }
    if not any(files.values()):
        raise ValueError("Visual Genome needs relationships, scene graphs, objects, attributes or regions; got none")
    if relationships and scene_graphs:
        raise ValueError("relationships and scene graphs of Visual Genome hold the same relations; name one of them")
    join = Join()
    for part, path in {"image_data": image_data, **files}.items():
        if path is None:
            continue
        for entry in json_items(path, f"{part} of Visual Genome", meter=meter):
            number = _number(entry)
            if number is None:
                note(dropped, "entry_without_image_id", f"{path.name}: {str(entry)[:60]}")
            else:
                join.add(number, part, entry)
    for number, pieces in join.images(meter):
        yield Later(_annotation, images, number, pieces)


def _number(entry: Any) -> str | None:
    if not isinstance(entry, dict):
        return None
    return identity(entry.get("image_id", entry.get("id")))


def _annotation(images: Path, number: str, pieces: Pieces, dropped: Counter[str]) -> Annotation:
    parts = pieces.read()
    data = (parts.get("image_data") or [{}])[0]

    def of(part: str, key: str, reason: str) -> list[Any]:
        return [item for entry in parts.get(part, ()) for item in listed(entry.get(key), dropped, reason)]

    objects = of("objects", "objects", "malformed_object") + of("scene_graphs", "objects", "malformed_object")
    graph = _Graph(dropped)
    for triplet in of("relationships", "relationships", "malformed_relation"):
        graph.add_triplet(triplet)
    for item in objects + of("attributes", "attributes", "malformed_object"):
        graph.add_object(item)
    for triplet in of("scene_graphs", "relationships", "malformed_relation"):
        graph.add_relation_by_id(triplet)
    for region in of("regions", "regions", "malformed_region"):
        graph.add_region(region)

    addresses = [data.get("url"), *(entry.get("image_url") for entry in parts.get("objects", ()))]
    path = next((path for address in addresses if (path := _file_of(address))), Path(f"{number}.jpg"))
    coco = data.get("coco_id")
    size = size_of(data.get("width"), data.get("height"))
    return Annotation(
        _find(images, path),
        number,
        entities=graph.entities,
        relations=graph.relations,
        size=size,
        other_ids=(path.stem, *((f"{coco:012d}",) if isinstance(coco, int) else ())),
    )


def _file_of(address: Any) -> Path | None:
    try:
        path = Path(urlparse(address).path) if isinstance(address, str) else None
    except ValueError:  # such as "http://[": no address
        return None
    return path if path is not None and path.name else None


def _find(images: Path, path: Path) -> Path:
    for folder in dict.fromkeys((path.parent.name, *FOLDERS)):
        if (found := inside(images, f"{folder}/{path.name}")).is_file():
            return found
    return images / path.name


class _Graph:
    """Entities and relations of one image, as they are put together."""

    def __init__(self, dropped: Counter[str]) -> None:
        self.entities: list[RawEntity] = []
        self.relations: list[tuple[int, Any, int]] = []
        self._dropped = dropped
        self._numbers: dict[tuple[Any, ...], int] = {}  # of an id with a name and a box
        self._of_id: dict[str, list[int]] = {}

    def add_triplet(self, triplet: Any) -> None:
        """A relation with its subject and object inside, as in relationships.json."""
        try:
            subject, object_ = (self._entity(triplet[end]) for end in ("subject", "object"))
            self.relations.append((subject, triplet["predicate"], object_))
        except (AttributeError, KeyError, TypeError, ValueError):
            self._dropped["malformed_relation"] += 1

    def add_object(self, item: Any) -> None:
        """An object, unless a relation has it already; its attributes in any case."""
        try:
            numbers = list(dict.fromkeys(n for i in self._ids(item) for n in self._of_id.get(i, ())))
            numbers = numbers or [self._entity(item)]
            attributes = listed(item.get("attributes"), self._dropped, "malformed_attribute")
            for number in numbers:
                self.entities[number].attributes.extend(attributes)
        except (AttributeError, KeyError, TypeError, ValueError):
            self._dropped["malformed_object"] += 1

    def add_relation_by_id(self, triplet: Any) -> None:
        """A relation with ids of objects, as in scene_graphs.json."""
        try:
            ends = [self._of_id.get(identity(triplet[end]) or "") for end in ("subject_id", "object_id")]
            name = triplet["predicate"]
        except (KeyError, TypeError):
            self._dropped["malformed_relation"] += 1
            return
        if ends[0] is None or ends[1] is None:
            self._dropped["relation_without_entity"] += 1
        else:
            self.relations.append((ends[0][0], name, ends[1][0]))

    def add_region(self, region: Any) -> None:
        """A region: its phrase and box, with `width` and `height` spelt out."""
        try:
            box = corners(*(region[side] for side in ("x", "y", "width", "height")))
            self.entities.append(RawEntity(region["phrase"], box))
        except (KeyError, TypeError):
            self._dropped["malformed_region"] += 1

    def _entity(self, item: dict[str, Any]) -> int:
        names = listed(item.get("names"), self._dropped, "malformed_name") or [item["name"]]
        self._dropped["further_name_of_object"] += len(names) - 1
        box = corners(*(item[side] for side in ("x", "y", "w", "h")))
        ids = self._ids(item)
        own = (identity(item.get("object_id")), names[0], box)
        if own not in self._numbers:
            self._numbers[own] = len(self.entities)
            self.entities.append(RawEntity(names[0], box))
            for i in ids:
                self._of_id.setdefault(i, []).append(self._numbers[own])
        return self._numbers[own]

    def _ids(self, item: dict[str, Any]) -> list[str]:
        """An object's id and those that were merged into it."""
        merged = listed(item.get("merged_object_ids"), self._dropped, "malformed_object_id")
        return [i for value in (item.get("object_id"), *merged) if (i := identity(value)) is not None]
