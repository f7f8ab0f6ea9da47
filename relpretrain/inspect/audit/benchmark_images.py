"""Which images the zero-shot benchmarks use, as their tasks read them, in one way of naming them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from relpretrain.errors import suggest
from relpretrain.reading import read_json
from relpretrain.zeroshot.tasks import TASKS, Source
from relpretrain.zeroshot.tasks.common.base import PairTask

COCO, VG = "coco", "vg"
ORIGINS = (COCO, VG)
"""Data sets whose images have numbers."""

_NAMES = [  # of the whole name without its ending
    (re.compile(r"(?:.*[/_])?COCO_(?:train|val|test)201[45]_0*(\d+)"), COCO),
    (re.compile(r"(?:.*/)?(?:train|val|test|unlabeled)201[457]/0*(\d+)"), COCO),
    (re.compile(r"(?:.*/)?(?=\d{12}$)0*(\d+)"), COCO),
    (re.compile(r"(?:.*/)?v7w_0*(\d+)"), VG),  # Visual7W uses the images of Visual Genome
    (re.compile(r"(?:.*/)?(?:VG_100K(?:_2)?|vg_images|vg|gqa(?:/images)?)/0*(\d+)", re.IGNORECASE), VG),
]


def identity(name: str, origin: str | None = None) -> str:
    """Normalise an image's file name, address or number to one identity, such as "coco:462576".

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
    """The data set whose image numbers a source uses, by the source's name: "coco", "vg" or None."""
    words = set(re.split(r"[^a-z]+", source.lower()))
    if words & {"coco", "mscoco"}:
        return COCO
    return VG if words & {"vg", "gqa", "genome", "visualgenome", "vgr"} else None


class Use(NamedTuple):
    """An image of a benchmark split, and the number of items that show it."""

    task: str
    split: str
    image: str  # as the benchmark's annotations name it
    identity: str
    items: int


class Benchmark(NamedTuple):
    """A benchmark that training data is compared with.

    Args:
        task: Name of its zero-shot task, which reads it.
        folders: Names of folders that may hold its annotations.
        splits: The splits to compare with; empty for all.
        origins: Whose numbers the names of a split's images are, where they are bare numbers.
    """

    task: str
    folders: tuple[str, ...]
    splits: tuple[str, ...] = ()
    origins: Mapping[str, str] = {}


BENCHMARKS = {
    "vsr": Benchmark("vsr", ("vsr",)),
    "valse": Benchmark("valse", ("valse",)),
    "sugarcrepe": Benchmark("sugarcrepe", ("sugarcrepe", "sugar-crepe")),
    "whatsup": Benchmark("whatsup", ("whatsup", "whatsup_vlms")),
    "aro": Benchmark("aro", ("aro",), ("relation", "attribution", "coco_order"), {"relation": VG, "attribution": VG}),
    "coco-karpathy": Benchmark("coco_retrieval", ("coco-karpathy", "coco_karpathy", "karpathy"), ("test",)),
}
"""The benchmarks by the name that `--tasks` knows them by."""


def read_benchmarks(places: Sequence[Path], tasks: Sequence[str] = ()) -> list[Use]:
    """Read which images benchmarks use.

    Args:
        places: Folders with a folder per task, or JSON files with a list of items per task.
        tasks: Names out of `BENCHMARKS`; empty for all that are there.

    Raises:
        ValueError: If a place or a task that was asked for is not there, or a file is not what it should be.
    """
    for name in tasks:
        if name not in BENCHMARKS:
            raise ValueError(f"unknown benchmark {name!r}{suggest(name, BENCHMARKS)}")
    uses: list[Use] = []
    for place in places:
        if not place.exists():
            raise ValueError(f"--benchmarks {place} is neither a folder nor a file")
        listed = read_json(place, "a list of items per benchmark") if place.is_file() else {}
        for name in tasks or BENCHMARKS:
            if BENCHMARKS[name].task in listed:
                uses += _uses(name, Source(place))
            for folder in _folders(place, name):
                uses += _uses(name, Source(place, allow_missing=True, at=folder))
    there = {use.task for use in uses}
    shown = ", ".join(map(str, places))
    if missing := [name for name in tasks if name not in there]:
        looked = ", ".join(sorted({folder for name in missing for folder in BENCHMARKS[name].folders}))
        raise ValueError(f"no annotations of {', '.join(missing)} in {shown}: looked for the folders {looked}")
    if not uses:
        raise ValueError(f"no benchmark in {shown}: expected folders such as {', '.join(BENCHMARKS)}")
    return uses


def image_folders(places: Sequence[Path]) -> list[Path]:
    """Folders where a benchmark's images usually are: "images" in a place or in the folder of a task."""
    roots = [f for place in places for f in (place, *(f for name in BENCHMARKS for f in _folders(place, name)))]
    return [folder for root in roots if (folder := root / "images").is_dir()]


def _folders(place: Path, name: str) -> list[Path]:
    roots = (place, place / "benchmarks")
    return [root / folder for root in roots for folder in BENCHMARKS[name].folders if (root / folder).is_dir()]


def _uses(name: str, source: Source) -> list[Use]:
    benchmark = BENCHMARKS[name]
    task = TASKS[benchmark.task]
    assert isinstance(task, PairTask)
    return [
        Use(name, split, image, identity(image, benchmark.origins.get(split)), number)
        for split, images in task.images(source).items()
        if split in (benchmark.splits or (split,))
        for image, number in Counter(images).items()
    ]
