"""Expressions that refer to things in COCO's images (RefCOCO, RefCOCO+, RefCOCOg), as they are published."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from relpretrain.reading import read_json
from relpretrain.sources.common.values import as_number
from relpretrain.zeroshot.tasks.common.source import require, require_numbers, require_texts

Corners = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels."""

REFS = ("refs(unc).p", "refs(umd).p", "refs(google).p", "refs.json")
INSTANCES, DETECTIONS = "instances.json", "dets.json"


@dataclass(frozen=True)
class Expression:
    """A text that refers to one thing in an image.

    Args:
        id: Its number in the data set ("sent_id").
        ref: Number of what it refers to, which other expressions do as well.
        text: What it says.
        image: File name of the image.
        image_id: Number of the image.
        split: "val", "testA", "testB", "test" or "train".
        target: The box of what is meant.
    """

    id: int
    ref: int
    text: str
    image: str
    image_id: int
    split: str
    target: Corners


def read_expressions(folder: Path) -> tuple[list[Expression], dict[int, list[Corners]]]:
    """The expressions of a data set outside training, and all annotated boxes of each image.

    COCO has some boxes without an inside, which nobody refers to: they are passed over.

    Raises:
        ValueError: If a file is missing or malformed.
    """
    path = next((folder / name for name in REFS if (folder / name).is_file()), None)
    if path is None:
        raise ValueError(f"{folder} holds none of {', '.join(REFS)}.")
    refs = read_json(path, "expressions") if path.suffix == ".json" else _unpickled(path)
    content = read_json(folder / INSTANCES, "annotations")
    require(content, ("images", "annotations"), str(folder / INSTANCES))
    names: dict[int, str] = {}
    for image in _objects(content["images"], folder / INSTANCES):
        require_texts(image, ("file_name",), f"An image of {folder / INSTANCES}")
        require_numbers(image, ("id",), f"An image of {folder / INSTANCES}")
        names[image["id"]] = image["file_name"]
    own: dict[Any, Corners] = {}
    boxes: dict[int, list[Corners]] = {}
    for thing in _objects(content["annotations"], folder / INSTANCES):
        require_numbers(thing, ("id", "image_id"), f"An annotation of {folder / INSTANCES}")
        require(thing, ("bbox",), f"An annotation of {folder / INSTANCES}")
        box = corners(thing["bbox"], f"Annotation {thing['id']} of {folder / INSTANCES}")
        if box is not None:
            own[thing["id"]] = box
            boxes.setdefault(thing["image_id"], []).append(box)
    found = []
    for ref in _objects(refs, path):
        where = f"Reference {ref.get('ref_id')} of {path}"
        require_numbers(ref, ("ref_id", "ann_id", "image_id"), where)
        require(ref, ("split", "sentences"), where)
        if ref["split"] == "train":
            continue
        if ref["ann_id"] not in own or ref["image_id"] not in names:
            lacking = f"which {folder / INSTANCES} lacks, or whose box has no inside"
            raise ValueError(f"{where} is of annotation {ref['ann_id']}, {lacking}.")
        for sentence in _objects(ref["sentences"], path):
            require_numbers(sentence, ("sent_id",), where)
            text = "sent" if "sent" in sentence else "raw"
            require_texts(sentence, (text,), where)
            place = (names[ref["image_id"]], ref["image_id"], str(ref["split"]), own[ref["ann_id"]])
            found.append(Expression(sentence["sent_id"], ref["ref_id"], sentence[text], *place))
    return found, boxes


def read_detections(path: Path) -> dict[int, list[Corners]]:
    """Detected boxes of each image: ALBEF's file (lists by image number) or MAttNet's (objects with "image_id", "box").

    Those without an inside are passed over.

    Raises:
        ValueError: If the file is malformed.
    """
    content = read_json(path, "detections")
    found: dict[int, list[Corners]] = {}
    if isinstance(content, Mapping):
        for image, boxes in content.items():
            if not str(image).isdecimal() or not isinstance(boxes, list):
                raise ValueError(f"{path}: expected a list of boxes for each image number, got {image!r:.40}.")
            own = [corners(box, f"A box of image {image} in {path}") for box in boxes]
            found[int(image)] = [box for box in own if box is not None]
        return found
    for item in _objects(content, path):
        require_numbers(item, ("image_id",), f"A detection of {path}")
        require(item, ("box",), f"A detection of {path}")
        if (box := corners(item["box"], f"A detection of {path}")) is not None:
            found.setdefault(item["image_id"], []).append(box)
    return found


def corners(box: Any, where: str) -> Corners | None:
    """A box as it is published, (left, top, width, height), perhaps with more behind, by its corners.

    None for a box of no width or no height, which has no inside.

    Raises:
        ValueError: If it is none.
    """
    numbers = [as_number(value) for value in box[:4]] if isinstance(box, list | tuple) else []
    if len(numbers) < 4 or not all(abs(number) < 1e6 for number in numbers) or min(numbers[2:]) < 0:
        raise ValueError(f"{where}: a box is (left, top, width, height) in pixels, not {box!r:.80}.")
    left, top, width, height = numbers
    return (left, top, left + width, top + height) if width and height else None


def _objects(content: Any, path: Path) -> Sequence[dict[str, Any]]:
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise ValueError(f"{path}: expected a list of objects.")
    return content


class _Plain(pickle.Unpickler):
    """Reads lists, dictionaries, texts and numbers, and refuses all else: a pickle may name any code."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is not run")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it refers to something outside")


def _unpickled(path: Path) -> Any:
    try:
        return _Plain(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except Exception as error:  # a broken pickle raises anything
        raise ValueError(f"{path} cannot be read as plain lists and texts: {error}") from error
