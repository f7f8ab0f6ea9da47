"""What each shard holds, known without opening it: samples, bytes, digest, eligible rows, relations.

A manifest is an `index.json`: beside the shards, as `convert`, `pack` and `relpretrain data index` write it, in the
cache folder, or anywhere else where a recipe names it in the place of its shards.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from relpretrain.data.shards.indexing import for_each, index_shards
from relpretrain.data.shards.record import NEEDS, PARTS
from relpretrain.data.shards.remote import cache_folder, fetch, is_absent, is_remote, name_of, place_of
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.data.shards.writer import pack_counts, write_manifest
from relpretrain.errors import counted
from relpretrain.identity import file_digest, fingerprint
from relpretrain.kinds import Need
from relpretrain.reading import read_json

NAME = "index.json"
_logger = logging.getLogger(__name__)


class ForeignFileError(ValueError):
    """A JSON file that is no manifest of ours, whatever its name."""


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """What one shard holds.

    Args:
        shard: Its path or address, as `resolve_shards` gives it.
        samples: Samples that its row index lists.
        bytes: Its size; None where the manifest does not say it.
        sha256: Its digest; None where the manifest does not say it.
        eligible: Samples that have what a stream needs: a caption, an entity with a box, a relation, one between two
            boxes.
        problems: What was left out, by reason.
        relation_names: Names of relations, shared by the shards of a manifest.
        relation_numbers: Pairs of the place of a name and how often it occurs, with blanks between: `"0 12 7 1"`.
    """

    shard: str
    samples: int
    bytes: int | None
    sha256: str | None
    eligible: Mapping[Need, int]
    problems: Mapping[str, int]
    relation_names: Sequence[str]
    relation_numbers: str

    @property
    def relation_counts(self) -> Counter[str]:
        """How often each relation occurs in the samples, as they spell it."""
        return relation_total([self])

    @classmethod
    def of(cls, shard: str, index: ShardIndex, sha256: str | None = None) -> ShardEntry:
        """The entry of a shard that has been indexed."""
        relations = index.relation_counts
        return cls(
            shard,
            len(index),
            index.path.stat().st_size,
            sha256,
            {need: len(index.eligible(need)) for need in NEEDS},
            Counter(problem.reason for problem in index.problems),
            list(relations),
            pack_counts(relations, {name: number for number, name in enumerate(relations)}),
        )


def relation_total(entries: Iterable[ShardEntry]) -> Counter[str]:
    """How often each relation occurs in several shards."""
    by_names: dict[int, tuple[Sequence[str], list[str]]] = {}
    for entry in entries:
        if entry.relation_numbers:
            by_names.setdefault(id(entry.relation_names), (entry.relation_names, []))[1].append(entry.relation_numbers)
    total: Counter[str] = Counter()
    for names, packed in by_names.values():
        pairs = np.fromstring(" ".join(packed), dtype=np.int64, sep=" ").reshape(-1, 2)
        sums = np.zeros(len(names), np.int64)
        np.add.at(sums, pairs[:, 0], pairs[:, 1])
        total.update({names[i]: int(sums[i]) for i in np.flatnonzero(sums).tolist()})
    return total


def manifests(shards: Sequence[str], workers: int = 0, named: Sequence[str] = ()) -> dict[str, ShardEntry | Exception]:
    """What each shard holds, from manifests; a shard that none lists is read once.

    A local shard is then known by its row index, which is stored beside it. A remote one is fetched, and its entry kept
    in the cache folder; a notice says how to write a manifest.

    Args:
        shards: Paths and addresses, as `resolve_shards` gives them.
        workers: Processes that read shards without manifest; 0 or 1 does it in this one.
        named: Paths or addresses of manifests that lie elsewhere (`named_manifests`).

    Returns:
        The entry of each shard, or the OSError or ValueError that says why there is none: it cannot be read, is no tar,
        holds no sample, or is not the file that its manifest tells of.
    """
    found: dict[str, ShardEntry | Exception] = {}
    elsewhere: dict[str, ShardEntry] = {}
    for place in named:
        elsewhere |= {entry.shard: entry for entry in load_manifest(place)}
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for shard in dict.fromkeys(shards):
        if shard in elsewhere:
            found[shard] = elsewhere[shard]
        else:
            folders[folder_of(shard)].append(shard)
    missing: list[str] = []
    for folder, inside in folders.items():
        try:
            listed = entries_of(folder)
        except (OSError, ValueError) as error:
            found |= dict.fromkeys(inside, error)
            continue
        of_path = {_path_of(name): entry for name, entry in listed.items()}
        for shard in inside:
            entry = listed.get(shard) or of_path.get(_path_of(shard))
            if entry is None:
                missing.append(shard)
            else:
                found[shard] = replace(entry, shard=shard)
    remote = [shard for shard in missing if is_remote(shard)]
    if remote:
        _logger.warning(
            "No manifest lists %s, such as %s: reading each once. Write one with `relpretrain data index PATTERN`",
            counted(len(remote), "remote shard"), remote[0],
        )  # fmt: skip
    found |= for_each(_known_or_fetched, remote, workers)
    for shard, index in index_shards([shard for shard in missing if not is_remote(shard)], workers).items():
        found[shard] = ShardEntry.of(shard, index) if isinstance(index, ShardIndex) else index
    return {shard: _checked(found[shard]) for shard in found}


def examine(shard: str) -> dict[str, Any]:
    """Read a shard once, and describe it as a manifest does, but with `relation_counts` by name.

    A remote shard is fetched and not kept: what another command has left in the cache may be an earlier version.

    Raises:
        ValueError: If it is no tar.
        OSError: If it cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="relpretrain-") as folder:
        path = place_of(shard)
        if is_remote(shard):
            path = Path(folder) / "shard.tar"
            fetch(shard, path)
        return describe(ShardIndex.scan(path, name_of(shard)), file_digest(path))


def describe(index: ShardIndex, sha256: str) -> dict[str, Any]:
    """What a manifest says of a shard, but with `relation_counts` by name."""
    return {
        "name": index.path.name,
        "samples": len(index),
        **{part: int(number) for part, number in zip(PARTS, index.counts.sum(axis=0).tolist(), strict=False)},
        "bytes": index.path.stat().st_size,
        "sha256": sha256,
        "eligible": {need: len(index.eligible(need)) for need in NEEDS},
        "problems": dict(sorted(Counter(problem.reason for problem in index.problems).items())),
        "relation_counts": dict(index.relation_counts),
    }


def load_manifest(place: str) -> list[ShardEntry]:
    """The entries of a manifest; what it says too little of is left out, as in folders of earlier versions.

    Args:
        place: Path or address of an `index.json`, or of a file like it. A name in it that is neither a full path nor an
            address is that of a file beside it; none is a command.

    Raises:
        OSError: If it cannot be read.
        ForeignFileError: If it is no manifest.
        ValueError: If it is a damaged one.
    """
    if not is_remote(place):
        return _entries(read_json(Path(place), "a manifest of shards"), place)
    with tempfile.TemporaryDirectory(prefix="relpretrain-") as folder:
        path = Path(folder) / NAME
        fetch(place, path)
        try:
            content = read_json(path, "a manifest of shards")
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), place)) from None
        return _entries(content, place)


def check_against(entry: ShardEntry, index: ShardIndex) -> None:
    """Compare what a manifest says of a shard with its row index.

    Raises:
        ValueError: If they differ; names the shard and both numbers.
    """
    said = {"samples": entry.samples, **{f"eligible for {need}": entry.eligible[need] for need in NEEDS}}
    have = {"samples": len(index), **{f"eligible for {need}": len(index.eligible(need)) for need in NEEDS}}
    for what, number in said.items():
        if have[what] != number:
            raise ValueError(
                f"Shard {entry.shard} holds {have[what]:,} {what}, but its manifest says {number:,}: one of them has "
                "changed. Write the manifest anew with `relpretrain data index`."
            )


def folder_of(shard: str) -> str:
    """The folder or address that a shard lies in; "pipe:" of a command."""
    if shard.startswith("pipe:"):
        return "pipe:"
    return _without_query(shard).rpartition("/")[0] if is_remote(shard) else str(Path(shard).absolute().parent)


def _without_query(shard: str) -> str:
    """An address without what follows its path, such as a signature."""
    return shard.split("?")[0] if is_remote(shard) and not shard.startswith("pipe:") else shard


def _path_of(shard: str) -> str:
    """An address without its signature; whole where the part before "?" names no shard."""
    path = _without_query(shard)
    return path if path.endswith(".tar") else shard


def cached_manifest(folder: str) -> Path:
    """Where the manifest of a folder or address is kept that cannot be written to."""
    return cache_folder() / "manifests" / f"{fingerprint(folder, 24)}.json"


def _known_or_fetched(shard: str) -> ShardEntry:
    """A remote shard's entry, which the cache keeps as a manifest of this shard alone."""
    kept = cached_manifest(shard)
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(kept, [examine(shard)])
    (entry,) = load_manifest(str(kept))
    return replace(entry, shard=shard)


def entries_of(folder: str) -> dict[str, ShardEntry]:
    """Entries by shard of the manifests of a folder: that in the cache, and that beside the shards, which counts more.

    Raises:
        OSError: If one cannot be read.
        ValueError: If one is damaged.
    """
    listed: list[ShardEntry] = []
    kept = cached_manifest(folder)
    if kept.exists():
        listed += load_manifest(str(kept))
    beside = f"{folder}/{NAME}"
    if is_remote(beside) and not folder.startswith("pipe:"):
        try:
            listed += load_manifest(beside)
        except ForeignFileError:
            pass
        except OSError as error:
            if not is_absent(error):
                raise
    elif os.path.isfile(beside):
        with suppress(ForeignFileError):
            listed += load_manifest(beside)
    return {entry.shard: entry for entry in listed}


def _entries(content: Any, place: str) -> list[ShardEntry]:
    listed_shards = content.get("shards") if isinstance(content, dict) else None
    if not isinstance(listed_shards, list) or not all(isinstance(s, dict) and "name" in s for s in listed_shards):
        raise ForeignFileError(f"{place} is no manifest of shards: expected an object with a list of `shards`")
    names = list(content.get("relation_counts") or {})
    folder = folder_of(place)
    nothing: dict[str, int] = {}
    entries = []
    for listed in listed_shards:
        try:
            if "eligible" not in listed:
                continue
            entry = ShardEntry(
                _resolved(str(listed["name"]), folder),
                int(listed["samples"]),
                None if listed.get("bytes") is None else int(listed["bytes"]),
                listed.get("sha256"),
                _eligible(listed["eligible"]),
                listed.get("problems") or nothing,
                names,
                listed.get("relation_numbers", ""),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{place} is a damaged manifest of shards: {error!r} in {listed!r:.80}") from None
        entries.append(entry)
    return entries


def _eligible(listed: Mapping[str, Any]) -> dict[Need, int]:
    """What a manifest says of eligible samples; where all entities had boxes, it said nothing of boxed graphs."""
    return {need: int(listed.get(need, listed["graphs"]) if need == "boxed_graphs" else listed[need]) for need in NEEDS}


def _resolved(name: str, folder: str) -> str:
    is_address = "://" in name and not name.startswith("pipe:")  # in a command an address may stand, too
    return name if is_address or name.startswith("/") else f"{folder}/{name}"


def place_of_problem(entry: ShardEntry, reason: str) -> str:
    """Where the first sample is that a shard lost for a reason: "shard/key", or the shard where that is not known here.

    Args:
        entry: What is known of the shard.
        reason: One of its `problems`.
    """
    name = name_of(entry.shard)
    try:
        index = ShardIndex.stored(entry.shard)
    except OSError:
        index = None
    keys = [problem.key for problem in index.problems if problem.reason == reason] if index is not None else []
    return f"{name}/{keys[0]}" if keys else f"shard {name}"


def _checked(entry: ShardEntry | Exception) -> ShardEntry | Exception:
    if isinstance(entry, Exception):
        return entry
    if not is_remote(entry.shard):
        try:
            size = os.path.getsize(entry.shard)
        except OSError as error:
            return error
        if entry.bytes is not None and entry.bytes != size:
            return ValueError(
                f"Shard {entry.shard} has {size:,} bytes, but its manifest says {entry.bytes:,}: it was changed or cut "
                "off. Put the file back, or write the manifest anew with `relpretrain data index`."
            )
    if not entry.samples and not entry.problems:
        return ValueError(f"Shard {entry.shard} holds no samples: leave it out of the pattern.")
    return entry
