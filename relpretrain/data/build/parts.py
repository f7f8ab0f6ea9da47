"""Shards made by tasks: each part of the input becomes one shard, whoever does it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from relpretrain.data.build.jobs import ordered_map
from relpretrain.data.build.name_join import NameJoin
from relpretrain.data.build.output import Job, Outcome, PackedSample, free_key, named, publish_shards, stamps
from relpretrain.data.build.tasks import Parts, Task, parts_of
from relpretrain.data.shards.writer import ShardFile, check_names
from relpretrain.errors import counted
from relpretrain.identity import number_of
from relpretrain.progress import StageProgress
from relpretrain.sources.common.dropped import Dropped, note

REPEATED = "repeated_image_id"
"""What is counted where shards give one id to two images; nothing is left out for it."""


class Piece(NamedTuple):
    """An item of a part.

    Args:
        part: Number of the part.
        item: What is worked on, to one outcome or to a list of them; a `PartEnd` after the last one.
        key: The key of its sample; None for the first that is free in the part.
    """

    part: int
    item: Any
    key: str | None = None


class PartEnd(NamedTuple):
    """What reading a part has found besides its items.

    Args:
        dropped: What was left out.
        met: Names by which annotations were joined, and a number of the image that each was met with.
    """

    dropped: Dropped
    met: list[tuple[str, int]]


def blocks(items: Iterable[Any], size: int, takes: Callable[[int], bool]) -> Iterator[Piece]:
    """Cut items into parts of equal size.

    Every task reads all items, so that a key that comes again gets the same number whoever does it.

    Args:
        items: Annotations.
        size: Items in every part but the last.
        takes: Whether a part is wanted.

    Yields:
        The items of the wanted parts, each part with its end.
    """
    taken: set[str] = set()
    part = -1
    for number, item in enumerate(items):
        if number % size == 0 and part >= 0 and takes(part):
            yield Piece(part, PartEnd(Dropped(), []))
        part = number // size
        key = None
        if (name := getattr(item, "image_id", None)) is not None:
            taken.add(key := free_key(name, taken))
        if takes(part):
            yield Piece(part, item, key)
    if part >= 0 and takes(part):
        yield Piece(part, PartEnd(Dropped(), []))


def write_parts(
    job: Job,
    pieces: Callable[[Callable[[int], bool]], Iterator[Piece]],
    task: Task,
    args: argparse.Namespace,
    alone: bool = False,
) -> None:
    """Write the shards of a task.

    Args:
        job: Where they come from; its items are not read.
        pieces: Reads the parts that are wanted.
        task: Which task this is.
        args: The options of the command.
        alone: Whether this is all of the work, which the caller merges.

    Raises:
        ValueError: If the folder holds shards, or other work.
        OSError: If something cannot be read or written.
    """
    share_parts(job, lambda parts, wants: _write(job, pieces(wants), parts, args), task, args, alone)


def share_parts(
    job: Job,
    make: Callable[[Parts, Callable[[int], bool]], None],
    task: Task,
    args: argparse.Namespace,
    alone: bool = False,
) -> None:
    """Do what a task still has to do, and mark it as done; see `write_parts`.

    Args:
        job: Where the shards come from; its items are not read.
        make: Given where parts are kept and which are wanted, makes these.
        task: Which task this is.
        args: The options of the command.
        alone: Whether this is all of the work, which the caller merges.
    """
    if (args.out / "index.json").exists() and not args.overwrite:
        raise ValueError(f"--out {args.out} holds shards already; choose another folder, or add --overwrite")
    parts = parts_of(args.out, is_file=False)
    if parts.begin(task, args.words, stamps(job), args.overwrite if alone else None):
        make(parts, partial(parts.wants, task))
        parts.store("reading", {"dropped": job.dropped, "examples": getattr(job.dropped, "examples", {})})
        parts.mark(task)
    if not alone:
        print(f"task {task.number} of {task.total} is done; when all are: relpretrain data merge {args.out}")


def _write(job: Job, pieces: Iterable[Piece], parts: Parts, args: argparse.Namespace) -> None:
    with StageProgress(job.meter) as progress:
        for count in make_parts(parts, job.work, pieces, args.workers):
            progress.count(count)


def make_parts(
    parts: Parts, work: Callable[[Any], Any], pieces: Iterable[Piece], workers: int = 1
) -> Generator[int, None, None]:
    """Make the shards of parts, and store what they gave.

    Args:
        parts: Where.
        work: What makes an outcome of an item, or a list of them.
        pieces: The items of the parts, each part with its end.
        workers: Number of processes.

    Yields:
        How many items are done.
    """
    part: _Part | None = None
    count = 0
    try:
        for number, found, key in ordered_map(_Work(work), pieces, workers):
            part = part or _Part(parts, number)
            if isinstance(found, PartEnd):
                part.finish(found)
                part = None
                continue
            for outcome in found if isinstance(found, list) else [found]:
                part.add(key, *outcome)
                count += 1
            yield count
    finally:
        if part is not None:
            part.discard()


def merge_parts(job: Job, args: argparse.Namespace, join: NameJoin | None = None) -> dict[str, Counter[str]]:
    """Give the shards of all tasks their names, in order, and write `index.json` and `relations.json`.

    What the outcomes have counted is summed up by table, for the index and the caller.

    Args:
        job: Where they come from; its items are not read.
        args: The options of the command.
        join: What was joined, to be told which of it was met.

    Raises:
        ValueError: If a task has not finished, there is no sample, or a name was met with two images.
    """
    parts = parts_of(args.out, is_file=False)
    dropped = Dropped()
    shards: list[dict[str, Any]] = []
    tables: dict[str, Counter[str]] = {}
    for stored in parts.stored():
        if join is not None:
            for name, image in stored["met"]:
                join.recall(name, image)
        dropped.include(Dropped(stored["dropped"], stored["examples"]))
        add_tables(tables, stored.get("tables", {}))
        if stored["shard"] is not None:
            check_names(parts.folder, [stored["shard"]])
            final = f"shard-{len(shards):06d}.tar"
            if (own := parts.folder / stored["shard"]["name"]).exists():
                own.replace(parts.folder / final)
            shards.append(stored["shard"] | {"name": final})
    reading = parts.read("reading")
    dropped.include(Dropped(reading["dropped"], reading["examples"]))
    if join is not None:
        join.note_unmet(dropped)
    for name in _repeated_ids(parts):
        note(dropped, REPEATED, repr(name))
    publish_shards(parts.folder, shards, dropped, job, args, tables)
    parts.clear()
    if count := dropped[REPEATED]:
        print(
            f"{counted(count, 'image id')} made of a key: an earlier shard has the same, as of two downloads. "
            "`relpretrain data pack` without --task numbers such keys"
        )
    return tables


def _repeated_ids(parts: Parts) -> Iterator[str]:
    """Ids made of keys that an earlier part has made, too.

    Keys are unique in a shard, and nobody who makes one knows the others.
    """
    made = [np.array([number_of(name) for name in stored.get("ids", ())], np.int64) for stored in parts.stored()]
    numbers, counts = np.unique(np.concatenate(made), return_counts=True) if made else ((), ())
    again = {int(number) for number, count in zip(numbers, counts, strict=True) if count > 1}
    met: set[str] = set()
    for stored in parts.stored() if again else ():
        for name in stored.get("ids", ()):
            if number_of(name) in again:
                if name in met:
                    yield name
                met.add(name)


def add_tables(total: dict[str, Counter[str]], tables: Mapping[str, Mapping[str, int]]) -> None:
    """Add up what was counted, table by table."""
    for name, counts in tables.items():
        total.setdefault(name, Counter()).update(counts)


@dataclass
class _Work:
    """Does the work of items, and passes the ends of parts on."""

    work: Callable[[Any], Outcome]

    def __call__(self, piece: Piece) -> tuple[int, Any, str | None]:
        found = piece.item if isinstance(piece.item, PartEnd) else self.work(piece.item)
        return piece.part, found, piece.key


class _Part:
    """The shard of a part on its way."""

    def __init__(self, parts: Parts, number: int) -> None:
        self.parts = parts
        self.number = number
        self.dropped = Dropped()
        self.tables: dict[str, Counter[str]] = {}
        self.ids: list[str] = []  # that were made of keys
        self.shard: ShardFile | None = None

    def add(
        self,
        key: str | None,
        sample: PackedSample | None,
        dropped: Counter[str],
        tables: Mapping[str, Counter[str]] | None = None,
    ) -> None:
        self.dropped.include(dropped)
        add_tables(self.tables, tables or {})
        if sample is None:
            return
        if self.shard is None:
            self.shard = ShardFile(self.parts.place(self.number, ".tar"))
        written = named(sample, key or free_key(sample.key, self.shard.keys))
        self.shard.write(*written)
        if "image_id" not in sample.record:
            self.ids.append(written.record["image_id"])

    def finish(self, end: PartEnd) -> None:
        self.dropped.include(end.dropped)
        shard = None if self.shard is None else self.shard.finish()
        content: dict[str, Any] = {
            "shard": shard,
            "dropped": self.dropped,
            "examples": self.dropped.examples,
            "met": end.met,
        }
        content |= {"tables": self.tables} if self.tables else {}
        content |= {"ids": self.ids} if self.ids else {}
        self.parts.store(self.number, content)

    def discard(self) -> None:
        if self.shard is not None:
            self.shard.discard()
