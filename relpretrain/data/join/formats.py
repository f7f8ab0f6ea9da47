"""The formats of `relpretrain data join`: how a row names its image, what it says of it, and under which licence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from relpretrain.data.join.gbc import of_gbc
from relpretrain.data.join.provision import of_provision, pieced
from relpretrain.data.join.records import Choice, Record, of_columns, of_sample, of_weighted
from relpretrain.data.join.rows import Row, rows
from relpretrain.progress import Meter
from relpretrain.sources.common.dropped import note
from relpretrain.sources.common.values import identity

ON = ("url", "key", "image_id")
_ADDRESSES = ("url", "img_url", "Image Path", "image_url", "URL")
_PATHS = ("ImagePath", "Image Path", "img_path", "image_path", "data_path", "image")
_UNKNOWN = "not named: look it up where the file comes from, and tell it by --licence"


@dataclass(frozen=True)
class Format:
    """What the rows of a published file mean.

    Args:
        help: What it is, in a line.
        record: Makes a record of a row's cells; None where they say nothing.
        columns: Columns that the record is made of; all where empty.
        licence: Under which the texts or graphs are published.
        named: Columns that name the image, by what samples share with them, in place of the usual ones.
        ending: What files are read as, whatever their own ending; "" goes by that.
        together: Puts rows about one image together before they are read.
    """

    help: str
    record: Callable[[Mapping[str, Any], Choice, Counter[str], str], Record | None]
    columns: tuple[str, ...] = ()
    licence: str = _UNKNOWN
    named: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ending: str = ""
    together: Callable[[Iterable[Row], Counter[str]], Iterator[Row]] | None = None


_DREAMLIP = (
    *("raw_caption", "shortIB_captions", "longIB_captions", "shortSV_captions", "longSV_captions"),
    *("shortLLA_captions", "longLLA_captions"),
)

FORMATS: dict[str, Format] = {
    "dreamlip": Format(
        "DreamLIP's short and long captions: its CSV by address, or a JSON file for each image",
        of_columns(*_DREAMLIP),
        _DREAMLIP,
        "CC-BY-4.0 (captions; the images belong to their owners)",
    ),
    "gbc": Format(
        "GBC's graphs of captions, as JSON lines or Parquet",
        of_gbc,
        ("vertices", "original_caption"),
        "CC-BY-NC-4.0 (GBC1M, GBC10M: not for commercial use)",
    ),
    "provision": Format(
        "ProVision's scene graphs: the files of objects, attributes and relations together",
        of_provision,
        (),
        "CC-BY-NC-4.0 (ProVision-10M: not for commercial use; graphs of your own run of its models are your own)",
        together=pieced,
    ),
    "pixelprose": Format(
        "PixelProse's dense captions, as Parquet",
        of_columns("vlm_caption"),
        ("vlm_caption", "uid"),
        "CC-BY-4.0 (captions, made by Gemini 1.0 Pro Vision; the images belong to their owners)",
        {"image_id": ("image_id", "uid")},
    ),
    "alip": Format("several texts with weights, as for ALIP: captions and weights", of_weighted),
    "jsonl": Format("the sample format, or img2dataset's, as JSON lines", of_sample, ending=".jsonl"),
    "parquet": Format("the same as columns of Parquet files", of_sample, ending=".parquet"),
    "tar": Format("the same as .json and .txt members of tars", of_sample, ending=".tar"),
}


def annotated(
    files: Iterable[Path], format_name: str, on: str, choice: Choice, dropped: Counter[str], meter: Meter
) -> Iterator[tuple[str, Record]]:
    """Names of images, and what is to be joined to them, in the order of the files.

    Args:
        files: See `annotation_files`.
        format_name: One of `FORMATS`.
        on: What names an image, one of `ON`.
        choice: What is taken of a row.
        dropped: Counts rows without name ("annotation_without_name") or content ("empty_annotation").
        meter: Told how far reading has got.

    Raises:
        ValueError: If a file cannot be read.
    """
    kind = FORMATS[format_name]
    names = kind.named.get(on) or {"url": _ADDRESSES, "key": ("key",), "image_id": ("image_id",)}[on]
    columns = (*kind.columns, *choice.captions, *names, *_PATHS) if kind.columns else ()
    read = (row for path in files for row in _read(path, kind, columns, dropped, meter))
    for row in read if kind.together is None else kind.together(read, dropped):
        name = _name(row, on, names)
        if name is None:
            note(dropped, "annotation_without_name", row.place)
        elif (record := kind.record(row.cells, choice, dropped, row.place)) is None:
            note(dropped, "empty_annotation", row.place)
        else:
            yield name, record


def _read(path: Path, kind: Format, columns: tuple[str, ...], dropped: Counter[str], meter: Meter) -> Iterator[Row]:
    if kind.ending and path.suffix != kind.ending:
        raise ValueError(f"{path} does not end in {kind.ending}: name the --format of its content")
    return rows(path, columns, dropped, meter)


def _name(row: Row, on: str, names: tuple[str, ...]) -> str | None:
    """The name of a row's image: in its columns, else that of the entry, else of the image's file."""
    found = next((name for column in names if (name := identity(row.cells.get(column)))), None)
    if found is not None or on == "url":
        return found
    if row.name:
        return row.name
    path = next((path for column in _PATHS if (path := identity(row.cells.get(column)))), None)
    return None if path is None else PurePosixPath(path).name
