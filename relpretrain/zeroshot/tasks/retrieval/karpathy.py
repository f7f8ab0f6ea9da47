"""Annotations of retrieval: lists as of ALBEF and BLIP, Karpathy's files, COCO's captions with lists of ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relpretrain.reading import read_json, read_lines
from relpretrain.zeroshot.tasks.common.source import list_of_texts, require, require_texts

Captions = dict[str, list[str]]
"""The captions of each image, by its file name."""

SPLITS = ("test", "val")


def read_captions(folder: Path) -> dict[str, Captions]:
    """Read the splits of a folder, in the first of these forms that it holds.

    - `*_test.json` and `*_val.json` (ALBEF, BLIP): a list of `{"image": path, "caption": [texts]}`.
    - `dataset_*.json` (Karpathy): images with their split and sentences.
    - `captions_*.json` (COCO), and `*_test_images.txt` and `*_val_images.txt` with lines "path id"; without such lists
      all images are one split, named after the file.

    Raises:
        ValueError: If there is none of them, or a file is malformed.
    """
    lists = {split: sorted(folder.glob(f"*_{split}.json")) for split in SPLITS}
    if any(lists.values()):
        return {
            split: read_listed(read_json(_only(found), "captions"), str(found[0]))
            for split, found in lists.items()
            if found
        }
    if found := sorted(folder.glob("dataset_*.json")):
        return _karpathy(read_json(_only(found), "captions"), str(found[0]))
    if found := sorted(folder.glob("captions_*.json")):
        return _coco(found, image_lists(folder))
    raise ValueError(f"{folder} holds no captions (*_test.json, dataset_*.json or captions_*.json).")


def image_lists(folder: Path) -> dict[str, dict[int, str]]:
    """The images by id that the lists `*_test_images.txt` and `*_val_images.txt` of a folder name, by split."""
    lists = {split: sorted(folder.glob(f"*_{split}_images.txt")) for split in SPLITS}
    return {split: _ids(_only(found)) for split, found in lists.items() if found}


def read_listed(records: Any, where: str) -> Captions:
    """Read a list of `{"image": path, "caption": [texts]}`, where one text may stand by itself.

    Raises:
        ValueError: If a record lacks one of these, has no caption, or repeats an image.
    """
    if not isinstance(records, list) or not records:
        raise ValueError(f"{where} holds no list of images with captions.")
    captions: Captions = {}
    for number, record in enumerate(records):
        require(record, ("image", "caption"), f"Image {number} of {where}")
        require_texts(record, ("image",), f"Image {number} of {where}")
        one = isinstance(record["caption"], str)
        texts = (
            [record["caption"]] if one else list_of_texts(record["caption"], f"Image {number} of {where}: 'caption'")
        )
        _add(captions, record["image"], texts, where)
    return captions


def _karpathy(state: Any, where: str) -> dict[str, Captions]:
    _require_lists(state, ("images",), where)
    splits: dict[str, Captions] = {}
    for number, record in enumerate(state["images"]):
        require(record, ("filename", "split", "sentences"), f"Image {number} of {where}")
        if record["split"] in SPLITS:
            paths = ("filename", *(("filepath",) if record.get("filepath") else ()))
            require_texts(record, paths, f"Image {number} of {where}")
            path = "/".join(filter(None, (record.get("filepath"), record["filename"])))
            texts = []
            for sentence in _list(record["sentences"], f"Image {number} of {where}: 'sentences'"):
                require_texts(sentence, ("raw",), f"A sentence of image {number} of {where}")
                texts.append(sentence["raw"])
            _add(splits.setdefault(record["split"], {}), path, texts, where)
    if not splits:
        raise ValueError(f"{where} holds no image of the splits {' and '.join(SPLITS)}.")
    return dict(sorted(splits.items()))


def _coco(files: Sequence[Path], wanted: dict[str, dict[int, str]]) -> dict[str, Captions]:
    names: dict[int, str] = {}
    texts: dict[int, list[str]] = {}
    for file in files:
        state = read_json(file, "captions")
        _require_lists(state, ("images", "annotations"), str(file))
        for number, image in enumerate(state["images"]):
            require(image, ("id",), f"Image {number} of {file}")
            require_texts(image, ("file_name",), f"Image {number} of {file}")
            _check_id(image["id"], f"Image {number} of {file}")
            names[image["id"]] = image["file_name"]
        for number, record in enumerate(state["annotations"]):
            require(record, ("image_id",), f"Annotation {number} of {file}")
            require_texts(record, ("caption",), f"Annotation {number} of {file}")
            _check_id(record["image_id"], f"Annotation {number} of {file}")
            texts.setdefault(record["image_id"], []).append(record["caption"])
    where = ", ".join(str(file) for file in files)
    if not wanted:
        wanted = {
            files[0].stem if len(files) == 1 else "captions": {i: name for i, name in names.items() if i in texts}
        }
    splits: dict[str, Captions] = {}
    for split, images in wanted.items():
        lost = [str(i) for i in images if i not in texts]
        if lost:
            raise ValueError(f"{len(lost)} of the {len(images)} images of {split} have no caption in {where}: "
                             f"{', '.join(lost[:3])}{', ...' if len(lost) > 3 else ''}.")  # fmt: skip
        splits[split] = {}
        for i, name in images.items():
            _add(splits[split], name, texts[i], where)
    return splits


def _check_id(value: Any, where: str) -> None:
    if not isinstance(value, int | str):
        raise ValueError(f"{where}: the id of an image is a number or a text, not {value!r:.80}.")


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{where} must be a list, not {value!r:.80}.")
    return value


def _require_lists(state: Any, keys: Sequence[str], where: str) -> None:
    require(state, keys, where)
    for key in keys:
        _list(state[key], f"{where}: {key!r}")


def _ids(path: Path) -> dict[int, str]:
    """Images by id, of lines "path id"."""
    images: dict[int, str] = {}
    for number, line in enumerate(read_lines(path), start=1):
        name, _, text = line.strip().rpartition(" ")
        if line.strip():
            if not name or not text.isdecimal():
                raise ValueError(f'Line {number} of {path} is not of the form "path id": {line.strip()!r}.')
            images[int(text)] = name
    return images


def _add(captions: Captions, image: str, texts: list[str], where: str) -> None:
    if image in captions:
        raise ValueError(f"{where} has the image {image} twice.")
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"{where}: the image {image} has no caption, or an empty one.")
    captions[image] = texts


def _only(files: Sequence[Path]) -> Path:
    if len(files) > 1:
        raise ValueError(f"{files[0]} and {files[1]} both could be the annotations; keep one of them.")
    return files[0]
