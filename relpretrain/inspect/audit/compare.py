"""Which training images are also in the zero-shot benchmarks: by id, and by perceptual hash."""

from __future__ import annotations

import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relpretrain.data.build.jobs import ordered_map
from relpretrain.data.sampling.exclusion import DISTANCE, Exclusion, distances, phash
from relpretrain.data.shards.record import image_id_of
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.inspect.audit.benchmark_images import COCO, VG, Use, identity, origin_of
from relpretrain.inspect.common.share import Share, surveyed
from relpretrain.inspect.common.survey import shard_name
from relpretrain.pixels import BROKEN, open_image
from relpretrain.progress import track
from relpretrain.reading import parse_json, read_json
from relpretrain.sources.common.folders import files_below

NAME_FIELDS = ("image_id", "url", "coco_url", "file_name", "image", "image_path", "path")
"""Keys of a sample's record that may name its image."""

_IMAGES = (".jpg", ".jpeg", ".png", ".webp")
_HASHED = 128  # pixels of the shorter side that a JPEG is decoded to for its hash


class Match(NamedTuple):
    """A training sample whose image a benchmark uses."""

    shard: str
    key: str
    image_id: str
    by_id: tuple[str, ...]  # identities of the benchmarks' images
    by_hash: tuple[str, ...]


@dataclass
class Audit:
    """The training samples that show images of benchmarks.

    Args:
        uses: How the benchmarks use images.
        samples: Training samples looked at.
        matches: Those whose image a benchmark uses.
        hashes: Perceptual hash of each benchmark image at hand, by identity.
        unreadable: Training images that could not be decoded, so that only their ids were compared.
        unplaced: Samples whose id is a bare number of unknown origin, by source.
    """

    uses: list[Use]
    samples: int = 0
    matches: list[Match] = field(default_factory=list)
    hashes: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    unplaced: Counter[str] = field(default_factory=Counter)

    def exclusion(self, hashes: bool = False) -> Exclusion:
        """The exclusion list for converting and training.

        Args:
            hashes: Whether the hashes of all benchmark images at hand are listed, too.
        """
        ids = frozenset(match.image_id for match in self.matches)
        return Exclusion(ids, tuple(self.hashes.values()) if hashes else ())

    def rows(self) -> list[dict[str, Any]]:
        """For each benchmark and split: its images and items, and how many of them training touches."""
        by_id = {name for match in self.matches for name in match.by_id}
        by_hash = {name for match in self.matches for name in match.by_hash}
        splits: dict[tuple[str, str], list[Use]] = defaultdict(list)
        for use in self.uses:
            splits[use.task, use.split].append(use)
        rows = []
        for (task, split), uses in splits.items():
            touched = [use for use in uses if use.identity in by_id | by_hash]
            rows.append(
                {
                    "benchmark": task,
                    "split": split,
                    "images": len({use.identity for use in uses}),
                    "images_found": len({use.identity for use in touched}),
                    "by_id": len({use.identity for use in touched} & by_id),
                    "by_hash": len({use.identity for use in touched} & by_hash),
                    "items": sum(use.items for use in uses),
                    "items_touched": sum(use.items for use in touched),
                }
            )
        return rows

    def to_json(self) -> dict[str, Any]:
        """Everything as plain types: the table, and each sample with what it is in."""
        where: dict[str, set[str]] = defaultdict(set)
        for use in self.uses:
            where[use.identity].add(f"{use.task} {use.split}".strip())
        found = [
            match._asdict() | {"in": sorted({place for name in match.by_id + match.by_hash for place in where[name]})}
            for match in self.matches
        ]
        counts = {"samples": self.samples, "unreadable": self.unreadable, "benchmark_images_hashed": len(self.hashes)}
        return counts | {
            "ids_of_unknown_origin": dict(self.unplaced),
            "benchmarks": self.rows(),
            "samples_found": found,
        }


def audit(
    shards: Sequence[str],
    uses: Sequence[Use],
    images: Sequence[Path] = (),
    *,
    origins: Mapping[str, str] | None = None,
    image_data: Path | None = None,
    distance: int = DISTANCE,
    workers: int = 1,
    share: Share | None = None,
) -> Audit:
    """Look for the benchmarks' images among the samples of shards.

    Args:
        shards: Paths or addresses.
        uses: How benchmarks use images (`read_benchmarks`).
        images: Folders with the benchmarks' images, for perceptual hashes; without any only ids are compared.
        origins: Whose numbers the ids of a source are, "coco" or "vg", by the source's name; others are told by
            their name.
        image_data: Visual Genome's image_data.json, which says which of its images are COCO's.
        distance: Bits in which the hashes of one image may differ.
        workers: Processes; 1 works in this one.
        share: What tasks do of it; a task keeps what it finds, and nothing of it is returned. None does everything.

    Raises:
        ValueError: If a shard or a file cannot be used.
    """
    twins = {} if image_data is None else read_twins(image_data)
    wanted = {use.identity for use in uses}
    known: dict[str, set[str]] = defaultdict(set)  # what a sample may be called: the benchmarks' names
    for name in wanted:
        for twin in (name, *twins.get(name, ())):
            known[twin].add(name)
    result = Audit(list(uses), hashes=hash_images(find_images(images, wanted), workers))
    look = _Look(dict(known), result.hashes, dict(origins or {}), distance)
    total = _Found()
    for found in surveyed(share, shards, look, _Found, workers):
        total.add(found)
    result.samples, result.unreadable = total.samples, total.unreadable
    result.matches, result.unplaced = total.matches, total.unplaced
    return result


def read_twins(path: Path) -> dict[str, set[str]]:
    """Map identities of the same image in COCO and Visual Genome to each other, from image_data.json.

    Its file names are not always its image ids; both name the image.

    Raises:
        ValueError: If the file is not what it should be.
    """
    content = read_json(path, "Visual Genome's image data")
    if not isinstance(content, list) or not all(isinstance(item, dict) and "image_id" in item for item in content):
        raise ValueError(f"{path} should hold a list of images with image_id, as Visual Genome's image_data.json")
    twins: dict[str, set[str]] = defaultdict(set)
    for item in content:
        names = {f"{VG}:{item['image_id']}"}
        if item.get("url"):
            names.add(identity(str(item["url"])))
        if item.get("coco_id") is not None:
            names.add(f"{COCO}:{item['coco_id']}")
        for name in names:
            twins[name] |= names - {name}
    return dict(twins)


def find_images(folders: Sequence[Path], wanted: set[str]) -> dict[str, Path]:
    """Find image files by identity in folders, at any depth; the first match of each counts.

    Names that are bare numbers count as Visual Genome's where no COCO image is meant, as in GQA's folder.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder of images")
        for path in files_below(folder):
            if path.suffix.lower() in _IMAGES:
                for name in (identity(path.name), identity(path.name, VG)):
                    if name in wanted:
                        found.setdefault(name, path)
    return found


def hash_images(paths: Mapping[str, Path], workers: int = 1) -> dict[str, int]:
    """Perceptual hashes of image files, by what `paths` calls them; files that cannot be decoded are left out."""
    hashed = track(ordered_map(_hash, paths.values(), workers), len(paths), "benchmark images")
    return {name: value for name, value in zip(paths, hashed, strict=True) if value is not None}


@dataclass
class _Found:
    samples: int = 0
    unreadable: int = 0
    unplaced: Counter[str] = field(default_factory=Counter)
    matches: list[Match] = field(default_factory=list)

    def add(self, other: _Found) -> None:
        self.samples += other.samples
        self.unreadable += other.unreadable
        self.unplaced.update(other.unplaced)
        self.matches += other.matches

    def to_json(self) -> dict[str, Any]:
        return vars(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> _Found:
        matches = [Match(shard, key, name, tuple(a), tuple(b)) for shard, key, name, a, b in content["matches"]]
        return cls(content["samples"], content["unreadable"], Counter(content["unplaced"]), matches)


@dataclass
class _Look:
    """Compares samples with the benchmarks' images."""

    known: dict[str, set[str]]
    hashes: dict[str, int]
    origins: dict[str, str]
    distance: int

    def __post_init__(self) -> None:
        self._names = list(self.hashes)
        self._table: NDArray[np.uint64] = np.array(list(self.hashes.values()), dtype=np.uint64)

    def __call__(self, index: ShardIndex, rows: Sequence[int]) -> _Found:
        found = _Found(samples=len(rows))
        for row in rows:
            raw = index.read(row)
            record = _record(raw.json)
            image_id = image_id_of(record, raw.key)
            source = str(record.get("source") or index.name)
            origin = self.origins.get(source) or origin_of(source)
            if origin is None and re.fullmatch(r"\d{1,11}", str(record.get("image_id"))):
                found.unplaced[source] += 1
            names = {identity(name, origin) for name in _names(record, raw.key)}
            by_id = {image for name in names for image in self.known.get(name, ())}
            by_hash = set()
            if self._names:
                value = _hash(io.BytesIO(raw.image))
                if value is None:
                    found.unreadable += 1
                else:
                    near = np.flatnonzero(distances(value, self._table) <= self.distance)
                    by_hash = {self._names[i] for i in near.tolist()}
            if by_id or by_hash:
                match = Match(shard_name(index), raw.key, image_id, tuple(sorted(by_id)), tuple(sorted(by_hash)))
                found.matches.append(match)
        return found


def _record(text: bytes | None) -> dict[str, Any]:
    try:
        record = parse_json(text or b"{}")
    except ValueError:
        return {}  # a bad sample, which trains nothing; `data doctor` names it
    return record if isinstance(record, dict) else {}


def _names(record: Mapping[str, Any], key: str) -> Iterator[str]:
    """What a record calls its image; the sample's key only where it looks like a file of a data set."""
    for name in NAME_FIELDS:
        if isinstance(record.get(name), str | int):
            yield str(record[name])
    if not key.rpartition("/")[2].isdecimal() or len(key) == 12:
        yield key


def _hash(image: Path | io.BytesIO) -> int | None:
    try:
        with open_image(image) as opened:
            opened.draft("L", (_HASHED, _HASHED))
            return phash(opened)
    except BROKEN:
        return None
