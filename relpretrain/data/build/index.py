"""`relpretrain data index`: a manifest of shards that others wrote, here or far away."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from relpretrain.data.build.output import add_workers
from relpretrain.data.build.tasks import Parts, add_task, is_merging, parts_of, stamp, task_of
from relpretrain.data.shards.find import resolve_shards, tell_copies
from relpretrain.data.shards.indexing import for_each
from relpretrain.data.shards.manifest import (
    NAME,
    ForeignFileError,
    cached_manifest,
    entries_of,
    examine,
    folder_of,
    load_manifest,
)
from relpretrain.data.shards.record import PARTS
from relpretrain.data.shards.remote import is_remote
from relpretrain.data.shards.writer import write_manifest
from relpretrain.errors import ConfigError, counted, singular
from relpretrain.identity import fingerprint
from relpretrain.reading import read_json
from relpretrain.showing import say


def add_parser(commands: Any) -> None:
    """Add `index` to what `add_subparsers` returned."""
    index = commands.add_parser(
        "index",
        help="write a manifest of shards of others, so that training starts without reading them",
        description="Read shards once, and write what each holds: samples, bytes, SHA-256, samples for each kind of "
        "batch, relations. Training then starts without reading them.",
    )
    index.add_argument("shards", nargs="+", help="tar files, folders, globs, brace patterns or addresses")
    index.add_argument(
        "--out", type=Path, metavar="FILE_OR_FOLDER",
        help="a .json file, which recipes then name instead of the shards, or a folder for index.json (default: beside "
        "the shards; of remote ones, in the cache)",
    )  # fmt: skip
    add_workers(index)
    add_task(index)
    index.set_defaults(run_data=run)


def run(args: argparse.Namespace) -> None:
    """Carry the command out.

    Raises:
        ConfigError: If shards cannot be read; names all of them.
        ValueError: If an argument cannot be used.
        OSError: If the manifest cannot be written.
    """
    shards = resolve_shards(args.shards)
    if command := next((shard for shard in shards if shard.startswith("pipe:")), None):
        raise ValueError(f"a manifest holds paths and addresses, but {command!r} is a command")
    tell_copies(shards)
    place = _place(args.out, shards)
    if place.exists():
        try:
            load_manifest(str(place.absolute()))
        except ForeignFileError as error:
            raise ValueError(f"{error}; it is not overwritten: name --out") from None
    parts = parts_of(place, is_file=True)
    names = {shard: f"shard-{fingerprint(json.dumps(stamp(shard)))}" for shard in shards}
    task = task_of(args)
    if task is None and not is_merging(args):
        _read(parts, names, args.workers)
    elif task is None:
        parts.check_finished()
        if lacking := [shard for shard in shards if not parts.place(names[shard]).exists()]:
            raise ValueError(f"Shard {lacking[0]} is new or has changed since the tasks began: run them again")
    else:
        if parts.begin(task, args.words, {"shards": list(names.values())}):
            own = {shard: names[shard] for number, shard in enumerate(shards) if task.takes(number)}
            _read(parts, own, args.workers)
            parts.mark(task)
        print(f"task {task.number} of {task.total} is done; when all are: relpretrain data merge {args.out or place}")
        return
    _write(parts, list(names.values()), place, keep=args.out is None)


def _read(parts: Parts, names: Mapping[str, str], workers: int) -> None:
    """Describe shards, each in a file of its own, by its name; those that are there are done."""
    parts.folder.mkdir(parents=True, exist_ok=True)
    problems = []
    missing = [shard for shard, name in names.items() if not parts.place(name).exists()]
    for shard, found in for_each(examine, missing, workers):
        if isinstance(found, Exception):
            problems.append(f"Shard {shard}: {found}")
        else:
            parts.store(names[shard], found | {"name": shard})
    if problems:
        told = f"The other shards are done: repair or leave out {counted(len(problems), 'shard')}, and go on."
        raise ConfigError([*problems, told])


def _write(parts: Parts, names: Sequence[str], place: Path, keep: bool) -> None:
    """Write what was found, and report; `keep`: beside what is known of other shards in the same folder."""
    described = [parts.read(name) for name in names]
    for shard in described:
        if folder_of(shard["name"]) == str(place.absolute().parent):
            shard["name"] = Path(shard["name"]).name
    old = read_json(place, "a manifest of shards") if place.exists() else {}
    known = {"shards", "samples", *PARTS, "relation_counts"}
    others = _others(old, {shard["name"] for shard in described}, place) if keep else []
    write_manifest(place, [*others, *described], {name: value for name, value in old.items() if name not in known})
    parts.clear()
    digests = {shard["name"]: shard["sha256"] for shard in described}
    totals = {name: sum(shard[name] for shard in described) for name in ("samples", *PARTS)}
    told = ", ".join(counted(count, singular(name), name) for name, count in totals.items())
    print(f"{counted(len(described), 'shard')}: {told}")
    problems = [(shard["name"], reason, count) for shard in described for reason, count in shard["problems"].items()]
    for name, reason, count in problems[:10]:
        say(f"  {name}: {count:,} {reason}")
    if len(problems) > 10:
        print(f"  and so on, in {len({name for name, _, _ in problems}):,} shards")
    for shard in described:
        if not shard["samples"]:
            say(f"  {shard['name']} holds no samples: leave it out of a recipe's pattern")
    print(f"manifest in {place}")
    for line in _overruled(digests, place):
        say(line)


def _others(old: Mapping[str, Any], new: Collection[str], place: Path) -> list[dict[str, Any]]:
    """What a manifest says of shards that are not read anew; of files those that are still there."""
    names, kept = list(old.get("relation_counts") or {}), []
    for shard in old.get("shards", ()):
        gone = not is_remote(shard["name"]) and not (place.parent / shard["name"]).exists()
        if shard["name"] in new or gone or "eligible" not in shard:
            continue
        numbers = iter(map(int, shard.get("relation_numbers", "").split()))
        counts = {names[number]: count for number, count in zip(numbers, numbers, strict=True)}
        plain = {name: value for name, value in shard.items() if name != "relation_numbers"}
        kept.append(plain | {part: shard.get(part, 0) for part in PARTS} | {"relation_counts": counts})
    return kept


def _overruled(digests: Mapping[str, str], place: Path) -> list[str]:
    """A line for each folder with a manifest of its own that counts more than this one, and says something else."""
    lines = []
    for folder in dict.fromkeys(map(folder_of, digests)):
        if place != cached_manifest(folder):
            continue
        try:
            entries = entries_of(folder)
        except (OSError, ValueError):
            continue  # told when it is needed
        other = sum(name in entries and entries[name].sha256 != digest for name, digest in digests.items())
        if other:
            lines.append(
                f"{folder}/{NAME} counts more, and says something else of {counted(other, 'shard')}: put this manifest "
                "in its place, or write one with --out FILE.json and name it in recipes"
            )
    return lines


def _place(out: Path | None, shards: list[str]) -> Path:
    if out is not None:
        return out if out.suffix == ".json" else out / NAME
    folders = {folder_of(shard) for shard in shards}
    if len(folders) > 1:
        raise ValueError(f"the shards lie in {len(folders)} folders: name --out, or index them one by one")
    (folder,) = folders
    return cached_manifest(folder) if is_remote(shards[0]) or not os.access(folder, os.W_OK) else Path(folder) / NAME
