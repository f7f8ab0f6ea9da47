"""`relpretrain data pack`: existing shards, ours or img2dataset's, written anew."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from relpretrain.data.build.name_join import NameJoin
from relpretrain.data.build.output import Job, add_choice, add_output, plain_options, shards_in, write
from relpretrain.data.build.pack_sample import QUALITY, Located, Packing, Resize
from relpretrain.data.build.parts import PartEnd, Piece, merge_parts, write_parts
from relpretrain.data.build.tasks import is_merging, task_of
from relpretrain.data.shards.find import resolve_shards
from relpretrain.data.shards.remote import is_remote, local_copy, name_of
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.errors import natural, positive
from relpretrain.progress import Meter
from relpretrain.reading import parse_json
from relpretrain.sources.common.dropped import Dropped, note
from relpretrain.sources.common.files import json_lines
from relpretrain.sources.common.values import identity

JOIN_BY = ("image_id", "key", "url")


def add_parser(commands: Any) -> None:
    """Add `pack` to what `add_subparsers` returned."""
    pack = commands.add_parser("pack", help="write existing shards anew, for instance those of img2dataset")
    pack.add_argument("shards", nargs="+", help="tar files, folders, globs, brace patterns or addresses")
    pack.add_argument("--max-samples", type=positive, help="stop after so many, in one process (default: all)")
    pack.add_argument(
        "--shuffle", type=natural, metavar="SEED", help="mix all samples, in an order drawn with this seed"
    )
    pack.add_argument("--source", help="name for samples that carry none (default: their shard's)")
    resize = pack.add_argument_group("smaller images")
    resize.add_argument("--shorter-side", type=positive, metavar="PIXELS", help="never up; boxes move along")
    resize.add_argument("--longer-side", type=positive, metavar="PIXELS", help="never up; boxes move along")
    resize.add_argument(
        "--quality", type=quality, default=QUALITY, metavar="1-100", help="of JPEG and WebP (default: %(default)s)"
    )
    join = pack.add_argument_group("annotations from elsewhere")
    join.add_argument("--join", type=Path, metavar="FILE", help="JSON lines in the sample format, or a shard folder")
    add_choice(join, "--join-by", JOIN_BY, "what both name")
    where = "whether joined captions come after a sample's own or take their place"
    add_choice(join, "--join-captions", ("add", "replace"), where)
    add_choice(join, "--unmatched", ("keep", "drop"), "samples without annotation")
    add_output(pack)
    pack.set_defaults(run_data=run)


def run(args: argparse.Namespace) -> None:
    """Carry the command out.

    Raises:
        ValueError: If an argument or what it names cannot be used.
        OSError: If a file cannot be read or written.
    """
    shards = shards_in(args)
    dropped = Dropped()
    meter = Meter()
    resize = (
        Resize(args.shorter_side, args.longer_side, args.quality) if args.shorter_side or args.longer_side else None
    )
    job = Job(
        items=_items(shards, args, dropped, meter),
        work=Packing(resize, args.join_captions),
        dropped=dropped,
        meter=meter,
        source=args.source,
        options=plain_options(args),
        files=[*(Path(s) for s in shards if not is_remote(s)), *([args.join] if args.join else ())],
        max_samples=args.max_samples,
    )
    if is_merging(args):
        merge_parts(job, args, _read_join(args, Counter(), meter))
        return
    if (task := task_of(args)) is None:
        write(job, args)
        return
    if args.shuffle is not None or args.max_samples is not None:
        raise ValueError("--shuffle and --max-samples are about all shards together: they need a run without --task")
    write_parts(job, partial(_pieces, shards, args, dropped, meter), task, args)


def _items(shards: Sequence[str], args: argparse.Namespace, dropped: Counter[str], meter: Meter) -> Iterator[Located]:
    join = _read_join(args, dropped, meter)
    if join is not None:
        join.check((name for _, name in locate(shards, Counter(), Meter(), join_by=args.join_by)))
    yield from _joined(shards, args, join, dropped, meter)
    if join is not None:
        join.note_unmet(dropped)


def _pieces(
    shards: Sequence[str], args: argparse.Namespace, dropped: Counter[str], meter: Meter, takes: Callable[[int], bool]
) -> Iterator[Piece]:
    """The samples of those shards that a task takes: a shard in, a shard out."""
    join = _read_join(args, dropped, meter)
    if join is not None:
        join.check((name for _, name in locate(shards, Counter(), Meter(), join_by=args.join_by)))
        join.met = []
    own = [part for part in range(len(shards)) if takes(part)]
    meter.begin("packing", len(own))
    for part in own:
        left_out = Dropped()
        for located in _joined([shards[part]], args, join, left_out, Meter()):
            yield Piece(part, located)
        yield Piece(part, PartEnd(left_out, [] if join is None else join.take_met()))
        meter.advance()


def _read_join(args: argparse.Namespace, dropped: Counter[str], meter: Meter) -> NameJoin | None:
    if args.join is None:
        return None
    return NameJoin(read_annotations(args.join, args.join_by, dropped, meter), args.join, args.join_by)


def _joined(
    shards: Sequence[str], args: argparse.Namespace, join: NameJoin | None, dropped: Counter[str], meter: Meter
) -> Iterator[Located]:
    join_by = None if join is None else args.join_by
    for located, name in locate(shards, dropped, meter, args.source, args.shuffle, join_by):
        if join is None:
            yield located
            continue
        joined = join.of(located, name)
        if not joined:
            reason = "sample_without_annotation" if args.unmatched == "drop" else "nothing_to_join"
            note(dropped, reason, f"{located.path.name}/{located.key}, which has the {args.join_by} {name!r}")
            if args.unmatched == "drop":
                continue
        yield located._replace(joined=joined)


def locate(
    shards: Sequence[str],
    dropped: Counter[str],
    meter: Meter,
    source: str | None = None,
    shuffle: int | None = None,
    join_by: str | None = None,
) -> Iterator[tuple[Located, str]]:
    """Find the samples of shards, in order or mixed.

    All shards are indexed first where they are mixed; the order then is a permutation of all samples, for which some
    hundred bytes a sample are kept.

    Args:
        shards: Paths or addresses.
        dropped: Counts what was left out, by reason.
        meter: Told how far reading has got.
        source: Name of the source for samples that carry none; by default their shard's name.
        shuffle: Seed of a random order over all samples; None keeps the order.
        join_by: What annotations are found by, see `JOIN_BY`.

    Yields:
        A sample, and the text by which its annotations are found ("" where there is none).

    Raises:
        ValueError: If a file is no tar.
    """
    indexes = (_scanned(shard, dropped) for shard in shards)
    if shuffle is None:
        meter.begin("packing", len(shards))
        for index in indexes:
            for row in range(len(index)):
                yield _located(index, row, source, join_by)
            meter.advance()
        return
    meter.begin("indexing", len(shards))
    listed: list[ShardIndex] = []
    for index in indexes:
        listed.append(index)
        meter.advance()
    starts = np.cumsum([0, *(len(index) for index in listed)])
    order = np.random.default_rng(shuffle).permutation(starts[-1])
    meter.begin("packing", len(order))
    for number in order:
        shard = int(np.searchsorted(starts, number, "right")) - 1
        yield _located(listed[shard], int(number - starts[shard]), source, join_by)
        meter.advance()


def _scanned(shard: str, dropped: Counter[str]) -> ShardIndex:
    index = ShardIndex.scan(local_copy(shard), name_of(shard))  # packing stores nothing beside what it reads
    for problem in index.problems:
        note(dropped, problem.reason, f"{Path(shard).name}/{problem.key}")
    return index


def _located(index: ShardIndex, row: int, source: str | None, join_by: str | None) -> tuple[Located, str]:
    key = index.keys[row]
    offsets, sizes = index.offsets[row].tolist(), index.sizes[row].tolist()
    located = Located(index.path, key, offsets, sizes, source or index.name, [])
    if join_by == "url":
        return located, identity(_record(index.read(row).json).get("url")) or ""
    return located, key if join_by == "key" else index.image_ids[row]


def read_annotations(path: Path, join_by: str, dropped: Counter[str], meter: Meter) -> Iterator[tuple[str, Any]]:
    """Names and records of what is to be joined: JSON lines in the sample format, or a folder of shards.

    Args:
        path: The file or folder.
        join_by: The entry that names the image: "image_id", "key" or "url"; "key" of a folder is the samples' key.
        dropped: Counts annotations that lack it as "annotation_without_name".
        meter: Told how far reading has got.

    Raises:
        ValueError: If there is no such file or folder, or a line is no JSON object.
    """
    for place, name, record in _folder(path, join_by, meter) if path.is_dir() else _lines(path, join_by, meter):
        if name is None:
            note(dropped, "annotation_without_name", place)
        else:
            yield name, record


def _lines(path: Path, join_by: str, meter: Meter) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
    for number, record in json_lines(path, "annotations to join", meter):
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {number} should be an object in the sample format, got {record!r:.60}")
        yield f"{path.name}, line {number}", identity(record.get(join_by)), record


def _folder(path: Path, join_by: str, meter: Meter) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
    shards = resolve_shards(str(path))
    meter.begin(f"reading {path.name}", len(shards))
    for shard in shards:
        index = ShardIndex.scan(Path(shard), Path(shard).stem)
        for row in range(len(index)):
            record, key = _record(index.read(row).json), index.keys[row]
            yield f"{Path(shard).name}/{key}", key if join_by == "key" else identity(record.get(join_by)), record
        meter.advance()


def _record(raw: bytes | None) -> dict[str, Any]:
    record = parse_json(raw or b"{}")
    return record if isinstance(record, dict) else {}


def quality(text: str) -> int:
    """The quality of a JPEG or WebP file, from 1 to 100: an argparse type.

    Raises:
        argparse.ArgumentTypeError: If it is another.
    """
    value = int(text)
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError(f"must be from 1 to 100, got {value}")
    return value
