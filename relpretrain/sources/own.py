"""Own photos with own graphs: a file of JSON lines, written by hand or by a script."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relpretrain.errors import MISTAKES, ConfigError, counted, suggest
from relpretrain.progress import Meter
from relpretrain.reading import no_lines, tried_lines
from relpretrain.sources.common.annotation import Annotation, RawEntity, check_folder
from relpretrain.sources.common.files import inside, json_items, opened, opening
from relpretrain.sources.common.values import as_number, identity, size_of

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
KEYS = {
    *("image", "image_id", "captions", "caption", "boxes", "attributes", "entities", "relations"),
    *("width", "height", "source"),
}


def read_own(images: Path, graphs: Path, *, dropped: Counter[str], meter: Meter | None = None) -> Iterator[Annotation]:
    """Read images with graphs, captions, or both, in the order of the file.

    A line is an object about one image, whose file `image` names, with or without its ending. Entities are `boxes`, a
    name and [x_min, y_min, x_max, y_max] each, or the `entities` of the sample format, with or without a box. Relations
    are [subject, relation, object], or the objects of the sample format, of which `confidence` is kept; subject and
    object are names, or numbers of entities from 0. `attributes` gives names theirs. Captions may be absent, and so may
    graphs.

    The whole file is looked at before the first image, so that all mistakes are told at once, unless it begins with
    many lines of which none is an object.

    Args:
        images: Folder of the images.
        graphs: The file: JSON lines, or a JSON list.
        dropped: Counts what was left out, by reason.
        meter: Told how far reading has got.

    Raises:
        ConfigError: If there are mistakes in the file, lines that are no JSON among them; names line and remedy of
            each.
        ValueError: If the file is absent.
    """
    check_folder(images)
    mistakes: list[str] = []  # the first ones
    more = 0
    lines: dict[Path, str] = {}
    read = 0
    for where, item, why in _items(graphs, None):
        # an object over many lines has lines of a text or a number alone; items of a list are whole
        read += not why and (isinstance(item, dict) or where.startswith("item"))
        why = why or _mistake(images, graphs, where, item, lines)
        if not why:
            continue
        if len(mistakes) == MISTAKES:
            more += 1
            continue
        mistakes.append(why)
        if len(mistakes) == MISTAKES and not read:
            raise ConfigError(no_lines(mistakes, MISTAKES))
    if mistakes and not read:
        raise ConfigError(no_lines(mistakes))
    if mistakes:
        raise ConfigError(mistakes + ([f"and {counted(more, 'more mistake')}"] if more else []))
    for _, item, _ in _items(graphs, meter):
        yield _annotation(images, item)


def _mistake(images: Path, graphs: Path, where: str, item: Any, lines: dict[Path, str]) -> str:
    """What is wrong with an item, "" where nothing is; `lines` is told where its image was."""
    try:
        found = _annotation(images, item)
        assert isinstance(found.image, Path)
        if found.image in lines:
            raise ValueError(f"{found.image} was on {lines[found.image]} already: put all of it on one line")
        lines[found.image] = where
    except ValueError as error:
        return f"{graphs}, {where}: {error}"
    return ""


def _items(graphs: Path, meter: Meter | None) -> Iterator[tuple[str, Any, str]]:
    """Place and content of each line or item, and why a line is no JSON, "" where it is."""
    what = "images with graphs"
    if opening(graphs, what) == "[":
        try:
            for number, item in enumerate(json_items(graphs, what, meter=meter)):
                yield f"item {number}", item, ""
        except ValueError as error:  # from here on; what was wrong before is told, too
            yield "", None, str(error)
        return
    with opened(graphs, what, meter) as file:
        for number, item, why in tried_lines(file, graphs):
            yield f"line {number}", item, why


def _annotation(images: Path, item: Any) -> Annotation:
    if not isinstance(item, dict):
        raise ValueError(f"expected an object with 'image' and 'relations', got {item!r:.60}")
    if unknown := sorted(item.keys() - KEYS):
        raise ValueError(f"unknown key {unknown[0]!r}{suggest(unknown[0], sorted(KEYS))}")
    file = _file(images, item)
    entities, names = _entities(item)
    triplets = _list(item, "relations")
    relations = [_relation(triplet, names, len(entities)) for triplet in triplets]
    captions = [*_list(item, "captions"), *_list(item, "caption")]
    if not all(isinstance(caption, str) for caption in captions):
        raise ValueError(f"expected captions that are texts, got {captions!r:.60}")
    if not (captions or entities):
        raise ValueError("expected captions, or boxes and relations, got neither")
    image_id = identity(item.get("image_id")) or file.relative_to(images).as_posix()
    return Annotation(
        file,
        image_id,
        captions,
        entities,
        relations,
        size=size_of(item.get("width"), item.get("height")),
        other_ids=(file.stem,),
        confidences={number: _confidence(triplet) for number, triplet in enumerate(triplets)},
    )


def _file(images: Path, item: dict[str, Any]) -> Path:
    name = identity(item.get("image")) or identity(item.get("image_id"))
    if name is None:
        raise ValueError("expected the name of a file in 'image'")
    if inside(images, name) != images / name:
        raise ValueError(f"the image {name!r} is not in {images}: name it from there")
    endings = ("", *SUFFIXES, *(suffix.upper() for suffix in SUFFIXES))
    # not Path.is_file, which raises where a name is too long
    found = next((path for ending in endings if os.path.isfile(path := images / f"{name}{ending}")), None)
    if found is None:
        there = [path.name for path in (images / name).parent.glob("*") if path.suffix.lower() in SUFFIXES]
        hint = suggest(Path(name).name, sorted(there)) if len(there) <= 10_000 else ""
        raise ValueError(f"there is no image {name!r} in {images}{hint if 'mean' in hint else ''}")
    return found


def _entities(item: dict[str, Any]) -> tuple[list[RawEntity], dict[str, list[int]]]:
    """The entities, and their numbers by name."""
    entities: list[RawEntity] = []
    for number, entity in enumerate(_list(item, "entities")):
        placed = isinstance(entity, dict) and ("box" in entity or entity.keys() <= {"label", "attributes"})
        if not placed or "label" not in entity:
            raise ValueError(f"expected an entity with 'label' and 'box', got {entity!r:.60} as entity {number}")
        entities.append(_entity(entity["label"], entity.get("box"), _list(entity, "attributes")))
    boxes = item.get("boxes") or {}
    if not isinstance(boxes, dict):
        raise ValueError(f'expected boxes by name, such as {{"man": [x_min, y_min, x_max, y_max]}}, got {boxes!r:.60}')
    entities += [_entity(name, box, []) for name, box in boxes.items()]
    names: dict[str, list[int]] = {}
    for number, raw in enumerate(entities):
        names.setdefault(raw.label, []).append(number)
    attributes = item.get("attributes") or {}
    if not isinstance(attributes, dict):
        raise ValueError(f'expected attributes by name, such as {{"man": ["tall"]}}, got {attributes!r:.60}')
    for name in attributes:
        entities[_number(name, names, len(entities))].attributes.extend(_list(attributes, name))
    return entities, names


def _entity(label: Any, box: Any, attributes: list[Any]) -> RawEntity:
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"expected a name for an entity, got {label!r:.60}")
    if box is None:
        return RawEntity(label, None, attributes)
    sides = [as_number(side) for side in box] if isinstance(box, list) and len(box) == 4 else [math.nan]
    if not all(map(math.isfinite, sides)) or sides[0] >= sides[2] or sides[1] >= sides[3]:
        raise ValueError(
            f"the box of {label!r} is {box!r:.60}, expected [x_min, y_min, x_max, y_max] in pixels, with x_min < x_max "
            "and y_min < y_max"
        )
    if max(map(abs, sides)) <= 1:
        raise ValueError(
            f"the box of {label!r} is {box!r:.60}, less than a pixel: expected pixels, not fractions of the image; "
            "multiply x by its width and y by its height"
        )
    return RawEntity(label, sides, attributes)


def _relation(triplet: Any, names: dict[str, list[int]], count: int) -> tuple[int, Any, int]:
    if isinstance(triplet, dict) and {"subject", "relation", "object"} <= triplet.keys():
        triplet = [triplet["subject"], triplet["relation"], triplet["object"]]
    if not isinstance(triplet, list) or len(triplet) != 3:
        raise ValueError(f"expected a relation [subject, relation, object], got {triplet!r:.60}")
    subject, name, object_ = triplet
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"expected the name of a relation in the middle of {triplet!r:.60}")
    return _number(subject, names, count), name, _number(object_, names, count)


def _confidence(triplet: Any) -> float:
    """How sure a relation of the sample format is; those of people are certain."""
    told = triplet.get("confidence") if isinstance(triplet, dict) else None
    sure = 1.0 if told is None or told != told else as_number(told)
    if not 0 <= sure <= 1:
        raise ValueError(f"the confidence of {triplet!r:.80} is {told!r:.60}, expected a number from 0 to 1")
    return sure


def _number(end: Any, names: dict[str, list[int]], count: int) -> int:
    """The number of an entity that is called by its name or its number."""
    if isinstance(end, int) and not isinstance(end, bool):
        if not 0 <= end < count:
            raise ValueError(f"a relation names entity {end}, of {count} that are counted from 0")
        return end
    if not isinstance(end, str) or end not in names:
        hint = suggest(end, names) if isinstance(end, str) and names else ""
        raise ValueError(
            f'{end!r} has no box: give one in "boxes": {{{_quoted(end)}: [x_min, y_min, x_max, y_max]}}{hint}'
        )
    if len(names[end]) > 1:
        raise ValueError(f"{end!r} is the name of entities {names[end]}: use their numbers")
    return names[end][0]


def _quoted(end: Any) -> str:
    return f'"{end}"' if isinstance(end, str) else '"NAME"'


def _list(item: dict[str, Any], key: str) -> list[Any]:
    """A list; one thing alone is a list of one."""
    value = item.get(key)
    if value is None or isinstance(value, list):
        return value or []
    if isinstance(value, str | dict):
        return [value]
    raise ValueError(f"expected a list as {key!r}, got {value!r:.60}")
