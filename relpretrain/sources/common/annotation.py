"""What all annotation sources share: what they yield, and the checks that make a record of it."""

from __future__ import annotations

import io
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from PIL import Image

from relpretrain.pixels import BROKEN, open_image
from relpretrain.reading import REPLACEMENT, read_lines
from relpretrain.scene_graph import Box, Entity, GraphError, Relation, SceneGraph, fit_box
from relpretrain.scene_graph.geometry import normalise
from relpretrain.scene_graph.vocabulary import evident_inverses
from relpretrain.sources.common.values import as_number

EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
"""Image formats that shards may hold, as Pillow names them, and the ending that each gets."""

_ORIENTATION = 0x0112  # number of the EXIF tag


@dataclass
class RawEntity:
    """An entity as its source has it, not yet checked.

    Args:
        label: Its name.
        box: x_min, y_min, x_max, y_max; None where its place is not known.
        attributes: What it is like.
    """

    label: Any
    box: Sequence[Any] | None
    attributes: list[Any] = field(default_factory=list)


@dataclass
class Annotation:
    """An image and what its source says of it, not yet checked: nothing here has looked at the image.

    Args:
        image: The image's file, or its encoded bytes.
        image_id: The name by which its source knows it.
        captions: Texts about the whole image.
        entities: What is annotated in it.
        relations: Subject, name, object; subjects and objects as numbers of `entities`.
        size: Width and height of the image that was annotated, where the source tells.
        fractions: Whether boxes are fractions of width and height instead of pixels.
        other_ids: Other names of the same photo, by which a list may exclude it.
        confidences: How sure the source is of a relation, in [0, 1], by its number; of others it is certain.
    """

    image: Path | bytes
    image_id: str
    captions: Sequence[Any] = ()
    entities: Sequence[RawEntity] = ()
    relations: Sequence[tuple[int, Any, int]] = ()
    size: tuple[Any, Any] | None = None
    fractions: bool = False
    other_ids: tuple[str, ...] = ()
    confidences: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Later:
    """An annotation that is put together where it is needed, so that the process that reads need not.

    Args:
        build: Makes the annotation of the arguments and a counter of what is left out; can be pickled.
        arguments: What it is made of.
    """

    build: Callable[..., Annotation]
    arguments: tuple[Any, ...]

    def __init__(self, build: Callable[..., Annotation], *arguments: Any) -> None:
        object.__setattr__(self, "build", build)
        object.__setattr__(self, "arguments", arguments)

    def now(self, dropped: Counter[str]) -> Annotation:
        """Put it together."""
        return self.build(*self.arguments, dropped)


@dataclass(frozen=True)
class Rules:
    """What is done to names and triplets on the way from a source to a record.

    Args:
        object_aliases: Other spellings of labels, each with the name that it becomes.
        relation_aliases: Likewise for relations.
        duplicates: Whether a triplet that equals an earlier one of its image, in names and boxes, is dropped.
        inverses: Whether a triplet that says an earlier one of its image the other way round is dropped: "b to the
            right of a" after "a to the left of b".
    """

    object_aliases: Mapping[str, str] = field(default_factory=dict)
    relation_aliases: Mapping[str, str] = field(default_factory=dict)
    duplicates: Literal["keep", "drop"] = "drop"
    inverses: Literal["keep", "drop"] = "keep"


class ImageFile(NamedTuple):
    """What the head of an image file says: its size as stored, its ending, and whether viewers turn it (EXIF)."""

    width: int
    height: int
    extension: str
    turned: bool = False


class Checked(NamedTuple):
    """A record in the sample format (docs/reference/sample_format.md), and the ending of its image by its content."""

    extension: str
    record: dict[str, Any]


def check(annotation: Annotation, source: str, rules: Rules, dropped: Counter[str]) -> Checked | None:
    """Make a record of an annotation: look at the image, fit boxes, normalise names.

    Labels, attributes and relations get lower case and single blanks before aliases apply. Boxes may reach over the
    image by a pixel and are clipped. They count in the pixels that are stored: of an image that viewers turn, whose
    annotated size is not told, this is uncertain, and counted as "image_turned_by_exif".

    Args:
        annotation: What a source yielded.
        source: Name that the record carries.
        rules: What is done to names and triplets.
        dropped: Counts what was left out, by reason.

    Returns:
        None if the image cannot be used or nothing is said of it.
    """
    if not (annotation.captions or annotation.entities):
        dropped["image_without_annotation"] += 1
        return None
    image = annotation.image
    file = probe_image(io.BytesIO(image) if isinstance(image, bytes) else image, dropped)
    if file is None:
        return None
    captions = clean_captions(annotation.captions, dropped)
    graph = SceneGraph()
    if annotation.size is None or annotation.size == (file.width, file.height):
        graph = _graph(annotation, file, rules, dropped)
    elif annotation.entities:
        dropped["image_of_another_size"] += 1  # its boxes would be wrong; what is said of the whole image holds
        if not captions:
            return None
    if not (captions or graph.entities):
        dropped["image_without_annotation"] += 1
        return None
    record = make_record(annotation.image_id, source, file, captions=captions, **graph.to_json())
    dropped["replaced_character"] += broken_texts(record)
    placed = any(entity.box is not None for entity in graph.entities)
    dropped["image_turned_by_exif"] += file.turned and annotation.size is None and placed
    return Checked(file.extension, record)


def _graph(annotation: Annotation, file: ImageFile, rules: Rules, dropped: Counter[str]) -> SceneGraph:
    scale = (file.width, file.height) if annotation.fractions else (1, 1)
    entities: list[Entity] = []
    numbers: dict[int, int] = {}  # of the annotation's entity: of the record's
    for number, raw in enumerate(annotation.entities):
        try:
            label = _name(raw.label, rules.object_aliases)
            entity = Entity(label, _box(raw.box, scale, file), _attributes(raw.attributes, dropped))
        except GraphError as error:
            dropped[error.reason] += 1
            continue
        numbers[number] = len(entities)
        entities.append(entity)

    relations: list[Relation] = []
    for number, (subject, name, object_) in enumerate(annotation.relations):
        if not (subject in numbers and object_ in numbers):
            dropped["relation_without_entity"] += 1
            continue
        name, sure = _name(name, rules.relation_aliases), annotation.confidences.get(number, 1.0)
        try:
            relations.append(Relation(numbers[subject], name, numbers[object_], confidence=sure))
        except GraphError as error:
            dropped[error.reason] += 1
    return SceneGraph(tuple(entities), tuple(_chosen(entities, relations, rules, dropped)))


def _box(raw: Sequence[Any] | None, scale: tuple[int, int], file: ImageFile) -> Box | None:
    if raw is None:
        return None
    values = [as_number(value) for value in raw] if isinstance(raw, list | tuple) else []
    if len(values) != 4 or not all(map(math.isfinite, values)):
        raise GraphError("malformed_box", f"expected [x_min, y_min, x_max, y_max] of finite numbers, got {raw!r}")
    return fit_box(Box(*values).scale(*scale), file.width, file.height)


def _chosen(
    entities: Sequence[Entity], relations: Sequence[Relation], rules: Rules, dropped: Counter[str]
) -> Iterable[Relation]:
    """Relations without the copies that the rules drop; the first of equal ones stays."""
    inverses = evident_inverses(sorted({r.relation for r in relations})) if rules.inverses == "drop" else {}
    seen: set[tuple[Entity, str, Entity]] = set()
    for relation in relations:
        subject, name, object_ = entities[relation.subject], relation.relation, entities[relation.object]
        if rules.duplicates == "drop" and (subject, name, object_) in seen:
            dropped["repeated_relation"] += 1
            continue
        inverse = inverses.get(name)
        if inverse is not None and subject != object_ and (object_, inverse, subject) in seen:
            dropped["inverse_relation"] += 1
            continue
        seen.add((subject, name, object_))
        yield relation


def _name(text: Any, aliases: Mapping[str, str]) -> Any:
    if not isinstance(text, str):
        return text  # refused, with its reason, by the graph
    name = normalise(text)
    return aliases.get(name, name)


def _attributes(raw: Sequence[Any], dropped: Counter[str]) -> tuple[str, ...]:
    names = [normalise(attribute) if isinstance(attribute, str) else "" for attribute in raw]
    dropped["malformed_attribute"] += names.count("")
    return tuple(dict.fromkeys(name for name in names if name))


def corners(x: Any, y: Any, width: Any, height: Any) -> tuple[float, ...]:
    """Box of a corner and sizes; one that no check accepts where these are no numbers."""
    x, y = as_number(x), as_number(y)
    return (x, y, x + as_number(width), y + as_number(height))


def probe_image(image: Path | IO[bytes], dropped: Counter[str]) -> ImageFile | None:
    """Read the head of an image.

    Args:
        image: A file's path, or its open bytes.
        dropped: Counts why there is no result: "missing_image", "unreadable_image", "unsupported_image",
            "decompression_bomb" (more pixels than Pillow takes for sound).

    Returns:
        Its size and ending, or None if it cannot be used.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with open_image(image) as opened:
                extension = EXTENSIONS.get(opened.format or "")
                width, height = opened.size
                turned = _is_turned(opened)
    except FileNotFoundError:
        dropped["missing_image"] += 1
        return None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        dropped["decompression_bomb"] += 1
        return None
    except BROKEN:
        dropped["unreadable_image"] += 1
        return None
    if extension is None:
        dropped["unsupported_image"] += 1
        return None
    return ImageFile(width, height, extension, turned)


def _is_turned(image: Image.Image) -> bool:
    """Whether the EXIF data of an opened image asks viewers to turn or mirror it."""
    try:
        return "exif" in image.info and image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    except BROKEN:
        return False


def make_record(image_id: str | None, source: str, image: ImageFile, **parts: Any) -> dict[str, Any]:
    """Return a sample's record; parts (captions, entities, relations) that are empty are left out, and so is no id."""
    record = {"image_id": image_id, "source": source, "width": image.width, "height": image.height}
    if image_id is None:
        del record["image_id"]
    return record | {name: part for name, part in parts.items() if part}


def broken_texts(record: Mapping[str, Any]) -> int:
    """How many texts of a record hold a character that was broken where they were read."""
    entities = record.get("entities", ())
    texts = [
        record.get("image_id", ""),
        *record.get("captions", ()),
        *(text for entity in entities for text in (entity["label"], *entity["attributes"])),
        *(relation["relation"] for relation in record.get("relations", ())),
    ]
    return sum(REPLACEMENT in text for text in texts)


def clean_captions(captions: Sequence[Any], dropped: Counter[str]) -> list[str]:
    """Reduce white space to single blanks; captions that are empty or no text are counted as "empty_caption"."""
    clean = [" ".join(caption.split()) if isinstance(caption, str) else "" for caption in captions]
    dropped["empty_caption"] += clean.count("")
    return [caption for caption in clean if caption]


def check_folder(path: Path) -> None:
    """Refuse a folder of images that does not exist.

    Raises:
        ValueError: If it does not.
    """
    if not path.is_dir():
        raise ValueError(f"{path} is not a folder of images")


def load_aliases(path: Path) -> dict[str, str]:
    """Read other spellings of names: a line for each, the name first and its spellings after it, with commas between.

    The form of `object_alias.txt` and `predicate_alias.txt` of VG150. The first line that names a spelling wins, and
    chains are followed; of names that stand for each other in a circle, the first by the alphabet is taken.

    Raises:
        ValueError: If the file cannot be read or a line has no spelling.
    """
    try:
        lines = read_lines(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read aliases from {path}: {error}") from error
    aliases: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        names = [normalise(name) for name in line.split(",")]
        names = [name for name in names if name]
        if line.strip() and len(names) < 2:
            raise ValueError(f"{path}, line {number}: expected a name and its other spellings, got {line!r}")
        for spelling in names[1:]:
            if spelling != names[0]:
                aliases.setdefault(spelling, names[0])
    return {spelling: _last(spelling, aliases) for spelling in aliases}


def _last(name: str, aliases: Mapping[str, str]) -> str:
    seen = [name]
    while (name := aliases.get(name, "")) and name not in seen:
        seen.append(name)
    return seen[-1] if not name else min(seen[seen.index(name) :])  # one name for all in a circle
