"""Which images the zero-shot benchmarks use: by their annotation files, in one way of naming them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from relpretrain import reading
from relpretrain.errors import suggest

COCO, VG = "coco", "vg"
ORIGINS = (COCO, VG)
"""Data sets whose images have numbers."""

MIN_VOTES = 2
"""Of three annotators who took the caption for the right one: others are no part of VALSE (its README)."""

_NAMES = [  # of the whole name without its ending
    (re.compile(r"(?:.*[/_])?COCO_(?:train|val|test)201[45]_0*(\d+)"), COCO),
    (re.compile(r"(?:.*/)?(?:train|val|test|unlabeled)201[457]/0*(\d+)"), COCO),
    (re.compile(r"(?:.*/)?(?=\d{12}$)0*(\d+)"), COCO),
    (re.compile(r"(?:.*/)?v7w_0*(\d+)"), VG),  # Visual7W uses the images of Visual Genome
    (re.compile(r"(?:.*/)?(?:VG_100K(?:_2)?|vg_images|vg|gqa(?:/images)?)/0*(\d+)", re.IGNORECASE), VG),
]


def identity(name: str, origin: str | None = None) -> str:
    """One name for an image, however a data set or benchmark writes it.

    Args:
        name: A file name, path, address or number: "000000462576.jpg", "val2014/COCO_val2014_000000462576.jpg",
            "http://images.cocodataset.org/val2017/000000462576.jpg", "v7w_2356347.jpg", "VG_100K_2/2356347.jpg".
        origin: "coco" or "vg" where a bare number is one of those; None where that is not known. A number of twelve
            digits is COCO's.

    Returns:
        "coco:462576", "vg:2356347", or "file:" and the file's name without ending.
    """
    path = re.sub(r"[?#].*", "", name.strip())
    stem = re.sub(r"\.(?:jpe?g|png|webp|gif|bmp)$", "", path, flags=re.IGNORECASE)
    for form, of in _NAMES:
        if found := form.fullmatch(stem):
            return f"{of}:{found[1]}"
    last = stem.rpartition("/")[2]
    if origin is not None and last.isdecimal():
        return f"{origin}:{int(last)}"
    return f"file:{last}"


def origin_of(source: str) -> str | None:
    """What a data set's name says of where its images' numbers come from: "coco", "vg" or None."""
    words = set(re.split(r"[^a-z]+", source.lower()))
    if words & {"coco", "mscoco"}:
        return COCO
    return VG if words & {"vg", "gqa", "genome", "visualgenome", "vgr"} else None


class Use(NamedTuple):
    """An image's use in a benchmark."""

    task: str
    split: str
    image: str  # as the benchmark's annotations name it
    identity: str
    items: int


def read_benchmarks(places: Sequence[Path], tasks: Sequence[str] = ()) -> list[Use]:
    """Read which images benchmarks use.

    Args:
        places: Folders with a folder per task, or JSON files with a list of items per task.
        tasks: Names out of `TASKS`; empty for all that are there.

    Raises:
        ValueError: If a place or a task that was asked for is not there, or a file is not what it should be.
    """
    for task in tasks:
        if task not in TASKS:
            raise ValueError(f"unknown benchmark {task!r}{suggest(task, TASKS)}")
    uses: list[Use] = []
    for place in places:
        if place.is_file():
            uses += _read_item_file(place, tasks or tuple(TASKS))
        elif place.is_dir():
            for task in tasks or TASKS:
                for folder in _folders(place, task):
                    uses += _counted(task, TASKS[task].read(folder))
        else:
            raise ValueError(f"--benchmarks {place} is neither a folder nor a file")
    there = {use.task for use in uses}
    shown = ", ".join(map(str, places))
    if missing := [task for task in tasks if task not in there]:
        looked = ", ".join(sorted({name for task in missing for name in TASKS[task].folders}))
        raise ValueError(f"no annotations of {', '.join(missing)} in {shown}: looked for the folders {looked}")
    if not uses:
        raise ValueError(f"no benchmark in {shown}: expected folders such as {', '.join(TASKS)}")
    return uses


def read_json(path: Path) -> Any:
    """Read a file of annotations.

    Raises:
        ValueError: If it is absent or no JSON.
    """
    return reading.read_json(path, "annotations")


def image_folders(places: Sequence[Path]) -> list[Path]:
    """Folders where a benchmark's images usually are: "images" in a place or in the folder of a task."""
    roots = [folder for place in places for folder in (place, *(f for task in TASKS for f in _folders(place, task)))]
    return [folder for root in roots if (folder := root / "images").is_dir()]


_Image = tuple[str, str, str | None]  # split, name, origin of bare numbers


def _folders(place: Path, task: str) -> list[Path]:
    roots = (place, place / "benchmarks")
    return [root / name for root in roots for name in TASKS[task].folders if (root / name).is_dir()]


def _counted(task: str, images: Iterable[_Image]) -> list[Use]:
    counts = Counter(images)
    return [Use(task, split, name, identity(name, origin), n) for (split, name, origin), n in counts.items()]


def _read_item_file(path: Path, tasks: Iterable[str]) -> list[Use]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} should hold an object with a list of items per benchmark")
    uses = []
    for task in tasks:
        images = [
            (str(item.get("split") or item.get("instrument") or item.get("subset") or ""), item["image"], None)
            for item in _records(content.get(task, []), "image", path)
        ]
        uses += _counted(task, images)
    return uses


def _vsr(folder: Path) -> Iterator[_Image]:
    for path in sorted(folder.rglob("*.jsonl")):
        split = path.relative_to(folder).with_suffix("").as_posix()
        lines = [line for _, line in reading.read_json_lines(path)]
        yield from ((split, item["image"], COCO) for item in _records(lines, "image", path))


def _valse(folder: Path) -> Iterator[_Image]:
    for path in sorted(folder.glob("*.json")):
        for item in _records(_values(read_json(path)), "image_file", path):
            if item.get("mturk", {}).get("caption", MIN_VOTES) >= MIN_VOTES:
                yield path.stem, item["image_file"], None


def _sugarcrepe(folder: Path) -> Iterator[_Image]:
    for path in sorted(folder.glob("*.json")):
        yield from ((path.stem, i["filename"], COCO) for i in _records(_values(read_json(path)), "filename", path))


def _whatsup(folder: Path) -> Iterator[_Image]:
    for path in sorted(folder.glob("controlled_*.json")):
        yield from ((path.stem, i["image_path"], None) for i in _records(read_json(path), "image_path", path))
    for origin in ORIGINS:
        for path in sorted(folder.glob(f"{origin}_qa_*.json")):
            yield from ((path.stem, str(item[0]), origin) for item in read_json(path))


def _aro(folder: Path) -> Iterator[_Image]:
    for path in sorted(folder.glob("visual_genome_*.json")):
        yield from ((path.stem, i["image_path"], VG) for i in _records(read_json(path), "image_path", path))
    yield from (("coco_order", name, origin) for _, name, origin in _karpathy(folder))


def _karpathy(folder: Path) -> Iterator[_Image]:
    """The test split, in the first form that is there: of lines, ALBEF's, or Karpathy's own file."""
    for path in sorted(folder.glob("*test_images.txt")):
        for line in reading.read_lines(path):
            if line.strip():
                yield "test", line.split()[0], COCO
        return
    for name in ("coco_karpathy_test.json", "coco_test.json"):
        if (path := folder / name).is_file():
            yield from (("test", i["image"], COCO) for i in _records(read_json(path), "image", path))
            return
    if (path := folder / "dataset_coco.json").is_file():
        for item in _records(read_json(path)["images"], "filename", path):
            if item.get("split") == "test":
                yield "test", item["filename"], COCO


class _Task(NamedTuple):
    folders: tuple[str, ...]
    read: Callable[[Path], Iterator[_Image]]


TASKS: dict[str, _Task] = {
    "vsr": _Task(("vsr",), _vsr),
    "valse": _Task(("valse",), _valse),
    "sugarcrepe": _Task(("sugarcrepe", "sugar-crepe"), _sugarcrepe),
    "whatsup": _Task(("whatsup", "whatsup_vlms"), _whatsup),
    "aro": _Task(("aro",), _aro),
    "coco-karpathy": _Task(("coco-karpathy", "coco_karpathy", "karpathy"), _karpathy),
}
"""The benchmarks by name: folders that may hold their annotations, and how these are read."""


def _values(content: Any) -> Any:
    return list(content.values()) if isinstance(content, dict) else content


def _records(items: Any, key: str, path: Path) -> Iterator[Mapping[str, Any]]:
    if not isinstance(items, list):
        raise ValueError(f"{path} should hold a list of items")
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get(key), str):
            raise ValueError(f"{path} holds an item without {key!r}: {str(item)[:80]}")
        yield item
