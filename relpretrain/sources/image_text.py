"""A folder of images with captions in one table, or in a text file beside each image."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from relpretrain.sources.common import (
    SourceRecord,
    check_folder,
    clean_captions,
    load_json,
    make_record,
    probe_image,
)

IMAGE_NAMES = ("image", "file_name", "filename", "image_path", "file", "path")
CAPTION_NAMES = ("caption", "captions", "text", "sentence", "sentences")
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def read_image_text(
    images: Path, captions: Path | None = None, *, dropped: Counter[str], source: str = "image-text"
) -> Iterator[SourceRecord]:
    """Read images with captions.

    Args:
        images: Folder of the images; names in a table count from here.
        captions: A table of images and captions: `.csv` or `.tsv` with a header, `.jsonl`, or `.json` (a list of
            objects, or an object that gives each image its caption or captions). The column of the images is called
            image, file_name, filename, image_path, file or path; that of the captions caption, captions, text,
            sentence or sentences. Rows of one image are put together. None reads `a.txt` beside each `a.jpg`, one
            caption in each line.
        dropped: Counts what was left out, by reason.
        source: Name that the records carry.

    Raises:
        ValueError: If the table is absent, of another kind, or lacks a column.
    """
    check_folder(images)
    table = _beside(images, dropped) if captions is None else _grouped(_rows(captions)).items()
    for name, texts in table:
        path = images / name
        file = probe_image(path, dropped)
        if file is None:
            continue
        clean = clean_captions(texts, dropped)
        if not clean:
            dropped["image_without_annotation"] += 1
            continue
        yield SourceRecord(path, file.extension, make_record(name, source, file, captions=clean))


def _beside(images: Path, dropped: Counter[str]) -> Iterator[tuple[str, list[str]]]:
    for path in sorted(images.rglob("*")):
        if path.suffix.lower() not in SUFFIXES:
            continue
        text = path.with_suffix(".txt")
        if not text.is_file():
            dropped["missing_caption_file"] += 1
            continue
        try:
            lines = text.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            dropped["unreadable_caption_file"] += 1
            continue
        yield path.relative_to(images).as_posix(), [line for line in lines if line.strip()]


def _grouped(rows: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for name, texts in rows:
        grouped.setdefault(name, []).extend(texts if isinstance(texts, list) else [texts])
    return grouped


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    suffix = path.suffix.lower()
    if suffix in {".csv", ".tsv"}:
        with _open(path) as file:
            reader = csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ",")
            for line, row in enumerate(reader, 2):
                yield _row(row, f"{path}, line {line}")
    elif suffix == ".jsonl":
        with _open(path) as file:
            for line, text in enumerate(file, 1):
                if text.strip():
                    yield _row(_parse(text, f"{path}, line {line}"), f"{path}, line {line}")
    elif suffix == ".json":
        content = load_json(path, "images and captions")
        if isinstance(content, dict):
            yield from content.items()
        elif isinstance(content, list):
            for number, row in enumerate(content):
                yield _row(row, f"{path}, item {number}")
        else:
            raise ValueError(f"{path} should hold a list or an object, got {type(content).__name__}")
    else:
        raise ValueError(f"captions of {path} cannot be read: expected .csv, .tsv, .json or .jsonl")


def _open(path: Path) -> Any:
    try:
        return path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise ValueError(f"cannot read captions from {path}: {error.strerror}") from error


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where} is no JSON: {error}") from error


def _row(row: Any, where: str) -> tuple[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"{where} should be an object with an image and a caption, got {row!r}")
    image = next((row[name] for name in IMAGE_NAMES if isinstance(row.get(name), str)), None)
    column = next((name for name in CAPTION_NAMES if name in row), None)
    if image is None or column is None:
        missing, names = ("image", IMAGE_NAMES) if image is None else ("caption", CAPTION_NAMES)
        raise ValueError(
            f"{where} has no {missing}: expected one of {', '.join(names)}, got {', '.join(map(str, row))}"
        )
    return image, row[column]
