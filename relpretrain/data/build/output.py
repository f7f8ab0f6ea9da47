"""What `convert` and `pack` share: their options, and the way from items to shards."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from relpretrain.data.build.jobs import ordered_map
from relpretrain.data.build.tasks import add_task, stamp
from relpretrain.data.shards.find import resolve_shards, tell_copies
from relpretrain.data.shards.record import PARTS
from relpretrain.data.shards.remote import is_remote
from relpretrain.data.shards.resumable import ResumableWriter
from relpretrain.data.shards.writer import check_writable, publish
from relpretrain.errors import counted, positive, singular
from relpretrain.progress import Meter, StageProgress
from relpretrain.scene_graph import RelationVocabulary, coverage, coverage_lines
from relpretrain.showing import say
from relpretrain.sources.common.dropped import NOTED, Dropped
from relpretrain.version import __version__

T = TypeVar("T")


class PackedSample(NamedTuple):
    """A sample as a shard holds it."""

    key: str
    image: bytes
    extension: str
    record: dict[str, Any]


Outcome = tuple[PackedSample | None, Counter[str]]
"""What became of an item, and what was left out of it, by reason."""


@dataclass
class Job:
    """Samples on their way to shards.

    Args:
        items: What is worked on, read one at a time.
        work: What makes an outcome of an item, in any process; where parts are written, perhaps a list of them.
        dropped: Counts what reading the items left out; complete when they are at an end.
        meter: How far reading the items is.
        source: Name of the source, for `index.json`.
        options: Settings that the content depends on, of plain types, for `index.json`.
        files: Files that the content depends on.
        max_samples: Stop after so many samples.
        about: Further entries of `index.json`, such as the licences of what is joined; read at the end.
    """

    items: Iterator[Any]
    work: Callable[[Any], Any]
    dropped: Counter[str]
    meter: Meter
    source: str | None
    options: Mapping[str, Any]
    files: list[Path] = field(default_factory=list)
    max_samples: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


def add_output(parser: argparse.ArgumentParser, sized: bool = True) -> None:
    """Add the options of what writes shards, with the number of samples in each unless one comes of another."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards")
    if sized:
        parser.add_argument("--samples-per-shard", type=positive, default=1000, help="(default: %(default)s)")
    add_workers(parser)
    parser.add_argument(
        "--top-relations", type=positive, metavar="V", help="keep the V most frequent in relations.json"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the shards that are in --out, and begin unfinished work of other arguments anew",
    )
    add_task(parser)


def shards_in(args: argparse.Namespace) -> list[str]:
    """The shards that a command reads, none of which it may write over.

    Raises:
        ValueError: If there are none, or `--out` is a folder of theirs.
    """
    shards = resolve_shards(args.shards)
    out = args.out.resolve()
    if any(not is_remote(shard) and Path(shard).resolve().parent == out for shard in shards):
        raise ValueError(f"--out {args.out} holds shards that are to be read; choose another folder")
    tell_copies(shards)
    return shards


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the number of processes that work."""
    help_text = f"processes (default: {cores()}, the cores)"
    parser.add_argument("--workers", type=positive, default=cores(), metavar="N", help=help_text)


def add_choice(parser: argparse._ActionsContainer, flag: str, choices: tuple[str, ...], help_text: str) -> None:
    """Add an option of several words, of which the first is the default."""
    parser.add_argument(flag, choices=choices, default=choices[0], help=f"{help_text} (default: %(default)s)")


def plain_options(args: argparse.Namespace, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """The options that the shards depend on, as plain types; those that are not set are left out."""
    of_the_run = (
        "out",
        "workers",
        "ray",
        "actors",
        "gpus_per_actor",
        "overwrite",
        "top_relations",
        "task",
        "words",
        "merging",
        "run_data",
        "data_command",
    )
    others = (*of_the_run, *leave_out)
    options = {name: value for name, value in sorted(vars(args).items()) if name not in others and value is not None}
    return {
        name: [str(v) for v in value] if isinstance(value, list) else str(value) if isinstance(value, Path) else value
        for name, value in options.items()
    }


def write(job: Job, args: argparse.Namespace) -> None:
    """Carry a job out: shards, `index.json` and `relations.json` in a folder, and a report on the terminal.

    Shards are the same to the byte for any number of processes, and whether or not the work was interrupted.

    Raises:
        ValueError: If there is no sample, or the folder is in use.
        OSError: If something cannot be read or written.
    """
    check_writable(args.out)
    with (
        ResumableWriter(args.out, stamps(job), args.samples_per_shard, args.overwrite) as writer,
        StageProgress(job.meter) as progress,
    ):
        if writer.shards:
            print(
                f"going on after {counted(len(writer.shards), 'finished shard')}, {counted(writer.samples, 'sample')}",
                file=sys.stderr,
            )
        items = islice(job.items, writer.position, None)
        # With a limit nothing may be read ahead, lest what that drops is counted.
        outcomes = ordered_map(job.work, items, args.workers if job.max_samples is None else 1)
        progress.count(writer.position)
        while job.max_samples is None or writer.samples < job.max_samples:
            outcome = next(outcomes, None)
            if outcome is None:
                break
            sample, dropped = outcome
            if sample is not None:
                sample = named(sample, free_key(sample.key, writer.keys))
            writer.add(sample, dropped)
            progress.count(writer.position)
        outcomes.close()
        dropped = Dropped()
        dropped.include(job.dropped)
        dropped.include(writer.dropped)
        writer.publish(_entries(writer.samples, dropped, job))
    _report(writer.shards, dropped, args)


def stamps(job: Job) -> dict[str, Any]:
    """What the shards of a job depend on, of plain types."""
    return {"version": __version__, "options": dict(job.options), "files": [stamp(path) for path in job.files]}


def publish_shards(
    work: Path,
    shards: Sequence[Mapping[str, Any]],
    dropped: Dropped,
    job: Job,
    args: argparse.Namespace,
    tables: Mapping[str, Mapping[str, int]] | None = None,
) -> None:
    """Move shards that are finished to their folder, with `index.json` and `relations.json`, and report.

    Args:
        work: Where the shards are.
        shards: What `ShardFile.finish` said of each.
        dropped: What was left out.
        job: Where they come from.
        args: The options of the command.
        tables: What was counted besides, for the index.

    Raises:
        ValueError: If there is no sample.
    """
    entries = _entries(sum(shard["samples"] for shard in shards), dropped, job)
    entries |= {name: dict(sorted(of.items(), key=_most_first)) for name, of in sorted((tables or {}).items())}
    publish(work, args.out, shards, entries)
    _report(shards, dropped, args)


def _entries(samples: int, dropped: Dropped, job: Job) -> dict[str, Any]:
    """The entries of an index.json besides its shards."""
    if not samples:
        places = "".join(f"; {line}" for line in _places(dropped))
        if not dropped.total():
            files = ", ".join(map(str, job.files[:3])) + (", ..." if len(job.files) > 3 else "")
            places = f": there is none in {files}" if files else ""
        raise ValueError(f"no sample could be read, so nothing is written{_listed(dropped)}{places}")
    counts = {reason: count for reason, count in sorted(dropped.items()) if count}
    noted = {reason: counts.pop(reason) for reason in list(counts) if reason in NOTED}
    entries: dict[str, Any] = {"dropped": counts, **({"noted": noted} if noted else {})}
    return entries | {"source": job.source, "options": dict(job.options), **job.about}


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _report(shards: Sequence[Mapping[str, Any]], dropped: Dropped, args: argparse.Namespace) -> None:
    totals = {name: sum(shard[name] for shard in shards) for name in ("samples", *PARTS)}
    found: Counter[str] = Counter()
    for shard in shards:
        found.update(shard["relation_counts"])
    print(", ".join(counted(count, singular(name), name) for name, count in totals.items()))
    noted = {reason: count for reason, count in dropped.items() if reason in NOTED}
    left_out = {reason: count for reason, count in dropped.items() if reason not in NOTED}
    print(f"dropped{_listed(left_out) or ': nothing'}")
    if told := _listed(noted):
        print(f"noted, but not left out{told}")
    for line in _places(dropped):
        say(f"  {line}")
    vocabulary = args.out / "relations.json"
    vocabulary.unlink(missing_ok=True)
    if found:
        relations = RelationVocabulary.from_counts(found, args.top_relations, source=args.out.name)
        relations.save(vocabulary)
        print(f"{len(relations)} of {len(found)} kinds of relations in {vocabulary}")
        lacking = {args.out.name: coverage(found, relations)}
        for line in coverage_lines(lacking, vocabulary=vocabulary.name, remedy=""):
            say(line)
    print(f"{counted(len(shards), 'shard')} and index.json in {args.out}")


def _listed(dropped: Mapping[str, int]) -> str:
    counts = sorted((item for item in dropped.items() if item[1]), key=lambda item: (-item[1], item[0]))
    return ": " + ", ".join(f"{count:,} {reason}" for reason, count in counts) if counts else ""


def _places(dropped: Dropped) -> list[str]:
    """A line for each reason, with the first places where it was met."""
    return [
        f"{reason}{', such as' if dropped[reason] > len(places) else ':'} {', '.join(places)}"
        for reason, places in sorted(dropped.examples.items())
        if dropped[reason]
    ]


def named(sample: PackedSample, key: str) -> PackedSample:
    """A sample with another key, by which its image is known, too, where its record has no other name for it."""
    if "image_id" in sample.record:
        return sample._replace(key=key)
    number = key.removeprefix(_plain_key(sample.key))  # such as "_2", of a name that another download has given
    return sample._replace(key=key, record={"image_id": sample.key + number, **sample.record})


def free_key(name: str, taken: set[str]) -> str:
    """A key without the dots that a shard's file names forbid, and with a number if it is taken."""
    key = base = _plain_key(name)
    number = 2
    while key in taken:
        key, number = f"{base}_{number}", number + 1
    return key


def _plain_key(name: str) -> str:
    return re.sub(r"[^\w/-]+", "_", name).strip("/") or "sample"


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
