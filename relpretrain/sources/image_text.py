"""Images with captions: in a text file beside each image, in one table, or in a JSON file of ALBEF."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from relpretrain.progress import Meter
from relpretrain.reading import mend, read_lines
from relpretrain.sources.common.annotation import Annotation, check_folder
from relpretrain.sources.common.dropped import note
from relpretrain.sources.common.files import Join, inside, json_items, json_lines, json_pairs, opening
from relpretrain.sources.common.folders import files_below
from relpretrain.sources.common.tables import table_rows

IMAGE_NAMES = ("image", "file_name", "filename", "image_path", "file", "path")
CAPTION_NAMES = ("caption", "captions", "text", "sentence", "sentences")
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
WHAT = "images and captions"


def read_image_text(
    images: Path, captions: Path | None = None, *, dropped: Counter[str], meter: Meter | None = None
) -> Iterator[Annotation]:
    """Read images with captions.

    Args:
        images: Folder of the images; names in a table count from here.
        captions: A table of images and captions: `.csv` or `.tsv` with a header, `.jsonl`, or `.json` (a list of
            objects, or an object that gives each image its caption or captions). The column of the images is called
            image, file_name, filename, image_path, file or path; that of the captions caption, captions, text,
            sentence or sentences. Rows of one image are put together. None reads `a.txt` beside each `a.jpg`, one
            caption in each line.
        dropped: Counts what was left out, by reason.
        meter: Told how far reading has got.

    Raises:
        ValueError: If the table is absent, of another kind, or lacks a column.
    """
    check_folder(images)
    table = (
        _beside(images, dropped, meter)
        if captions is None
        else _grouped(_rows(captions, dropped, meter), dropped, meter)
    )
    for name, texts in table:
        yield Annotation(inside(images, name), mend(name), texts, other_ids=(Path(name).stem,))


def read_albef(
    images: Path, annotations: Path, *, dropped: Counter[str], meter: Meter | None = None
) -> Iterator[Annotation]:
    """Read a JSON file of ALBEF: a list of {"image": path, "caption": text or texts}.

    Args:
        images: Folder from which paths count; of one that leads out of it, the file of that name in it is meant.
        annotations: The file.
        dropped: Counts what was left out, by reason.
        meter: Told how far reading has got.

    Raises:
        ValueError: If the file is absent, not a list, or an item lacks image or caption.
    """
    check_folder(images)
    items = enumerate(json_items(annotations, "ALBEF's list of images and captions", meter=meter))
    rows = (_row(item, f"{annotations}, item {number}") for number, item in items)
    for name, texts in _grouped(rows, dropped, meter):
        yield Annotation(inside(images, name), name, texts, other_ids=(Path(name).stem,))


def _beside(images: Path, dropped: Counter[str], meter: Meter | None) -> Iterator[tuple[str, list[str]]]:
    paths = sorted(path for path in files_below(images) if path.suffix.lower() in SUFFIXES)
    meter = meter or Meter()
    meter.begin("converting", len(paths))
    for path in paths:
        meter.advance()
        text = path.with_suffix(".txt")
        if not text.is_file():
            note(dropped, "missing_caption_file", str(text))
            continue
        try:
            lines = read_lines(text)
        except ValueError as error:
            note(dropped, "unreadable_caption_file", str(error))
            continue
        yield path.relative_to(images).as_posix(), [line for line in lines if line.strip()]


def _grouped(
    rows: Iterable[tuple[str, Any]], dropped: Counter[str], meter: Meter | None
) -> Iterator[tuple[str, list[Any]]]:
    join = Join()
    for name, texts in rows:
        if name.strip():
            join.add(name, "captions", texts if isinstance(texts, list) else [texts])
        else:
            note(dropped, "entry_without_file_name", f"{texts!r:.60}")
    for name, pieces in join.images(meter):
        yield name, [text for texts in pieces.read()["captions"] for text in texts]


def _rows(path: Path, dropped: Counter[str], meter: Meter | None) -> Iterator[tuple[str, Any]]:
    suffix = path.suffix.lower()
    if suffix in {".csv", ".tsv"}:
        delimiter = "\t" if suffix == ".tsv" else ","
        for line, cells in table_rows(path, WHAT, dropped, delimiter=delimiter, meter=meter):
            yield _row(cells, f"{path}, line {line}")
    elif suffix == ".jsonl":
        for line, row in json_lines(path, WHAT, meter):
            yield _row(row, f"{path}, line {line}")
    elif suffix == ".json":
        if opening(path, WHAT) == "[":
            for number, row in enumerate(json_items(path, WHAT, meter=meter)):
                yield _row(row, f"{path}, item {number}")
        else:
            yield from json_pairs(path, WHAT, meter)
    else:
        raise ValueError(f"captions of {path} cannot be read: expected .csv, .tsv, .json or .jsonl")


def _row(row: Any, where: str) -> tuple[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"{where} should be an object with an image and a caption, got {row!r:.60}")
    image = next((row[name] for name in IMAGE_NAMES if isinstance(row.get(name), str)), None)
    column = next((name for name in CAPTION_NAMES if name in row), None)
    if image is None or column is None:
        missing, names = ("image", IMAGE_NAMES) if image is None else ("caption", CAPTION_NAMES)
        raise ValueError(
            f"{where} has no {missing}: expected one of {', '.join(names)}, got {', '.join(map(str, row))}"
        )
    return image, row[column]
