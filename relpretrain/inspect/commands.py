"""`relpretrain data audit` and `doctor`: what shards hold, and whether it may and can be trained on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from relpretrain.data.build.output import add_workers
from relpretrain.data.build.tasks import add_task
from relpretrain.data.shards.find import resolve_shards, tell_copies
from relpretrain.data.shards.writer import write_atomically
from relpretrain.errors import counted, fraction, natural, positive
from relpretrain.recipe_files import check_recipe, find_recipe
from relpretrain.showing import say


def add_subcommands(commands: Any) -> None:
    """Add `audit` and `doctor` to what `add_subparsers` returned."""
    audit = commands.add_parser("audit", help="find training images that are also in zero-shot benchmarks")
    audit.add_argument("shards", nargs="+", metavar="SHARDS", help="tar files, folders, globs, patterns or addresses")
    audit.add_argument(
        "--benchmarks", nargs="+", type=Path, required=True, metavar="DIR",
        help="folders with a folder per benchmark, or JSON files with a list of items per benchmark",
    )  # fmt: skip
    audit.add_argument(
        "--tasks", nargs="+", default=[], metavar="NAME",
        help="vsr, valse, sugarcrepe, whatsup, aro, coco-karpathy (default: all that are there)",
    )  # fmt: skip
    audit.add_argument(
        "--images", nargs="+", type=Path, default=[], metavar="DIR",
        help="folders with the benchmarks' images, at any depth, to compare perceptual hashes, too "
        "(besides DIR/images and DIR/NAME/images)",
    )  # fmt: skip
    audit.add_argument(
        "--origin", nargs="+", type=_origin, default=[], metavar="SOURCE=coco|vg",
        help="whose numbers the ids of a source are, where its name does not say it",
    )  # fmt: skip
    audit.add_argument(
        "--image-data", type=Path, metavar="FILE", help="Visual Genome's image_data.json: which images are COCO's"
    )
    audit.add_argument("--distance", type=natural, help="bits in which the hashes of one image may differ (default: 6)")
    audit.add_argument("--out", type=Path, metavar="FILE", help="write the exclusion list for convert and training")
    audit.add_argument(
        "--hashes", action="store_true", help="also list the hashes of all benchmark images, for other data"
    )
    audit.add_argument("--details", type=Path, metavar="FILE", help="write every sample found, as JSON")
    add_workers(audit)
    add_task(audit)
    audit.set_defaults(run_data=_audit)

    doctor = commands.add_parser("doctor", help="read all samples once, and say what is in them and what is wrong")
    doctor.add_argument(
        "shards",
        nargs="*",
        metavar="SHARDS",
        help="tar files, folders, globs, ... (default: RECIPE's)",
    )
    doctor.add_argument("-c", "--config", type=Path, metavar="RECIPE", help="judge samples as its streams would")
    doctor.add_argument("--out", type=Path, metavar="FILE", help="write all findings as JSON")
    doctor.add_argument(
        "--max-bad", type=fraction, metavar="FRACTION",
        help="end with exit status 1 if more samples are bad (default: the recipe's, else 0.05)",
    )  # fmt: skip
    doctor.add_argument("--ranks", type=positive, default=1, help="processes that would train (default: %(default)s)")
    doctor.add_argument(
        "--num-workers", type=natural, metavar="N", help="of each of them (default: the recipe's, else 0)"
    )
    doctor.add_argument(
        "--vocabulary", metavar="NAME",
        help="relations that MRC knows, a file or a bundled name (default: the recipe's, else gqa)",
    )  # fmt: skip
    doctor.add_argument("--steps", type=natural, help="how long it would train (default: the recipe's max_steps)")
    add_workers(doctor)
    add_task(doctor)
    doctor.set_defaults(run_data=_doctor)


def _origin(text: str) -> tuple[str, str]:
    source, _, origin = text.rpartition("=")
    if not source or origin not in ("coco", "vg"):
        raise argparse.ArgumentTypeError(f"expected SOURCE=coco or SOURCE=vg, got {text!r}")
    return source, origin


def _audit(args: argparse.Namespace) -> None:
    shards = resolve_shards(args.shards)

    from relpretrain.data.sampling.exclusion import DISTANCE
    from relpretrain.inspect.audit.benchmark_images import image_folders, read_benchmarks
    from relpretrain.inspect.audit.compare import audit
    from relpretrain.inspect.common.share import begin_share, end_share, is_task
    from relpretrain.inspect.common.tables import print_table

    tell_copies(shards)
    share = begin_share(args, shards, [args.out, args.details])
    result = audit(
        shards,
        read_benchmarks(args.benchmarks, args.tasks),
        [*args.images, *image_folders(args.benchmarks)],
        origins=dict(args.origin),
        image_data=args.image_data,
        distance=DISTANCE if args.distance is None else args.distance,
        workers=args.workers,
        share=share,
    )
    if is_task(share):
        end_share(share)
        return
    exclusion = result.exclusion(args.hashes)
    if args.details is not None:
        _write_json(args.details, result.to_json())
    if args.out is not None:
        exclusion.save(args.out)
    header = ["benchmark", "split", "images", "found", "by id", "by hash", "items", "touched"]
    print_table("Benchmark images in the training data", header, [list(row.values()) for row in result.rows()], left=2)
    print(f"{len(result.matches):,} of {result.samples:,} samples show an image of a benchmark.")
    if result.hashes:
        print(f"Hashes of {len(result.hashes):,} benchmark images were compared; "
              f"{counted(result.unreadable, 'sample')} could not be decoded for it.")  # fmt: skip
    else:
        print("Only ids were compared: name folders with the benchmarks' images with --images to compare hashes, too.")
    for source, count in result.unplaced.items():
        say(
            f"Source {source!r}: ids of {counted(count, 'sample')} are bare numbers of unknown origin, which match "
            f"nothing: if they are those of COCO or Visual Genome, add --origin {source}=coco or {source}=vg."
        )
    if args.out is not None:
        print(f"{len(exclusion.image_ids):,} ids and {len(exclusion.phashes):,} hashes to leave out in {args.out}")
    end_share(share)


def _doctor(args: argparse.Namespace) -> int:
    if args.shards:
        resolve_shards(args.shards)
    if args.config is not None:
        check_recipe(find_recipe(args.config))

    from relpretrain.inspect.doctor.command import doctor  # loads torch

    return doctor(args)


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())
