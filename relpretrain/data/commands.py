"""`relpretrain data convert`, `pack` and `synthetic`: from annotations, or other shards, to shards."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from relpretrain.data.repack import PackedSample, read_shards
from relpretrain.data.shards import ShardWriter, is_remote, resolve_shards
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.sources import SourceRecord, read_coco, read_image_text, read_vrd

PROGRESS_SECONDS = 5.0
SYNTHETIC: dict[str, type] = {
    **dict.fromkeys(("seed", "images_captions", "images_regions", "images_graphs", "images_validation"), int),
    **dict.fromkeys(("items_vsr", "items_valse", "image_size", "objects", "noise"), int),
    **dict.fromkeys(("shapes", "colors", "relations"), str),
    "relational_captions": float,
}
"""Arguments of `relpretrain.data.synthetic.generate` and their types; what they mean and their defaults stand there."""
SYNTHETIC_LISTS = ("shapes", "colors", "relations")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `convert`, `pack` and `synthetic` to the parser of `relpretrain data`."""
    add_subcommands(parser.add_subparsers(dest="data_command", required=True, metavar="COMMAND"))


def add_subcommands(commands: Any) -> None:
    """Add `convert`, `pack` and `synthetic` to what `add_subparsers` returned, beside other commands."""
    convert = commands.add_parser("convert", help="turn a data set's images and annotations into shards")
    sources = convert.add_subparsers(dest="source_kind", required=True, metavar="SOURCE")

    vrd = sources.add_parser("vrd", help="VRD: images with scene graphs")
    vrd.add_argument("--images", type=Path, required=True, help="folder of the images")
    vrd.add_argument("--annotations", type=Path, required=True, help="annotations_train.json or annotations_test.json")
    vrd.add_argument("--objects", type=Path, help="objects.json (default: beside the annotations)")
    vrd.add_argument("--predicates", type=Path, help="predicates.json (default: beside the annotations)")

    coco = sources.add_parser("coco", help="COCO: images with captions and boxes")
    coco.add_argument("--images", type=Path, required=True, help="folder of the images")
    coco.add_argument("--captions", type=Path, help="captions_*.json")
    coco.add_argument("--instances", type=Path, help="instances_*.json")

    image_text = sources.add_parser("image-text", help="a folder of images with captions")
    image_text.add_argument("--images", type=Path, required=True, help="folder of the images")
    image_text.add_argument(
        "--captions", type=Path, help=".csv, .tsv, .json or .jsonl (default: a .txt file beside each image)"
    )
    for name, source in (("vrd", vrd), ("coco", coco), ("image-text", image_text)):
        source.add_argument("--source", default=name, help="name that the samples carry (default: %(default)s)")
        _add_output(source)
        source.set_defaults(run_data=_convert)

    pack = commands.add_parser("pack", help="write existing shards anew, for instance those of img2dataset")
    pack.add_argument("shards", nargs="+", help="tar files, folders, globs, brace patterns or addresses")
    pack.add_argument("--max-samples", type=_positive, help="stop after so many (default: all)")
    pack.add_argument("--shuffle", type=int, metavar="SEED", help="mix all samples, in an order drawn with this seed")
    pack.add_argument("--source", help="name for samples that carry none (default: their shard's)")
    _add_output(pack)
    pack.set_defaults(run_data=_pack)

    synthetic = commands.add_parser("synthetic", help="render a small world with captions, regions and graphs")
    synthetic.add_argument("out", type=Path, help="folder to write to")
    for name, kind in SYNTHETIC.items():
        many: dict[str, Any] = {"nargs": "+"} if name in SYNTHETIC_LISTS else {}
        synthetic.add_argument(f"--{name.replace('_', '-')}", type=kind, default=argparse.SUPPRESS, **many)
    synthetic.add_argument("--mutual", action="store_true", help="annotate both directions of a relation")
    synthetic.add_argument("--overwrite", action="store_true", help="replace the shards that are in OUT")
    synthetic.set_defaults(run_data=_synthetic)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards")
    parser.add_argument("--samples-per-shard", type=_positive, default=1000, help="(default: %(default)s)")
    parser.add_argument(
        "--top-relations", type=_positive, metavar="V", help="keep the V most frequent in relations.json"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the shards that are in --out")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def run(args: argparse.Namespace) -> None:
    """Carry out a command of `add_arguments`.

    Raises:
        ValueError: If an argument or what it names cannot be used.
        OSError: If a file cannot be read or written.
    """
    args.run_data(args)


def _convert(args: argparse.Namespace) -> None:
    dropped: Counter[str] = Counter()
    records: Iterator[SourceRecord]
    if args.source_kind == "vrd":
        records = read_vrd(
            args.images, args.annotations, args.objects, args.predicates, dropped=dropped, source=args.source
        )
    elif args.source_kind == "coco":
        records = read_coco(args.images, args.captions, args.instances, dropped=dropped, source=args.source)
    else:
        records = read_image_text(args.images, args.captions, dropped=dropped, source=args.source)
    samples = (
        PackedSample(record.record["image_id"], record.image_path.read_bytes(), record.extension, record.record)
        for record in records
    )
    _write(samples, dropped, args)


def _pack(args: argparse.Namespace) -> None:
    shards = resolve_shards(args.shards)
    out = args.out.resolve()
    if any(not is_remote(shard) and Path(shard).resolve().parent == out for shard in shards):
        raise ValueError(f"--out {args.out} holds shards that are to be read; choose another folder")
    dropped: Counter[str] = Counter()
    samples = read_shards(shards, dropped, source=args.source, shuffle=args.shuffle, max_samples=args.max_samples)
    _write(samples, dropped, args)


def _synthetic(args: argparse.Namespace) -> None:
    from relpretrain.data.synthetic import generate  # draws and encodes images: loaded only where it is used

    options = {name: value for name, value in vars(args).items() if name in SYNTHETIC}
    options |= {name: tuple(value) for name, value in options.items() if name in SYNTHETIC_LISTS}
    if (args.out / "world.json").exists() and not args.overwrite:
        raise ValueError(f"{args.out} holds such a world already; choose another folder, or add --overwrite")
    generate(args.out, mutual=args.mutual, overwrite=args.overwrite, **options)
    print(f"shards, tokenizer, relations and benchmarks in {args.out}")


def _write(samples: Iterator[PackedSample], dropped: Counter[str], args: argparse.Namespace) -> None:
    if (args.out / "index.json").exists() and not args.overwrite:
        raise ValueError(f"--out {args.out} holds shards already; choose another folder, or add --overwrite")
    first = next(samples, None)
    if first is None:
        raise ValueError(f"no sample could be read, so nothing is written{_listed(dropped)}")
    totals = Counter({"samples": 0, "captions": 0, "entities": 0, "relations": 0})
    keys: set[str] = set()
    progress = _Progress()
    with ShardWriter(args.out, args.samples_per_shard, overwrite=args.overwrite) as writer:
        for sample in chain([first], samples):
            key = _free_key(sample.key, keys)
            keys.add(key)
            writer.write(key, sample.image, sample.extension, sample.record)
            totals["samples"] += 1
            totals.update({part: len(sample.record.get(part, ())) for part in ("captions", "entities", "relations")})
            progress.step(totals["samples"])

    print(", ".join(f"{count:,} {name}" for name, count in totals.items()))
    print(f"dropped: {_listed(dropped).removeprefix(': ') or 'nothing'}")
    vocabulary = args.out / "relations.json"
    vocabulary.unlink(missing_ok=True)
    if writer.relations:
        relations = RelationVocabulary.from_counts(writer.relations, args.top_relations, source=args.out.name)
        relations.save(vocabulary)
        print(f"{len(relations)} of {len(writer.relations)} kinds of relations in {vocabulary}")
    print(f"{len(writer.shards)} shard{'s' * (len(writer.shards) > 1)} and index.json in {args.out}")


def _listed(dropped: Counter[str]) -> str:
    counts = [f"{count:,} {reason}" for reason, count in dropped.most_common() if count]
    return ": " + ", ".join(counts) if counts else ""


def _free_key(name: str, taken: set[str]) -> str:
    """A key without the dots that a shard's file names forbid, and with a number if it is taken."""
    key = base = re.sub(r"[^\w/-]+", "_", name).strip("/") or "sample"
    number = 2
    while key in taken:
        key, number = f"{base}_{number}", number + 1
    return key


@dataclass
class _Progress:
    """A line on stderr now and then."""

    start: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)

    def step(self, count: int) -> None:
        now = time.monotonic()
        if now - self.last >= PROGRESS_SECONDS:
            self.last = now
            print(f"{count:,} samples, {count / (now - self.start):,.0f} per second", file=sys.stderr)
