"""`relpretrain data`: its commands, each in a file of its own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from relpretrain.data import convert, repack

SYNTHETIC: dict[str, type] = {
    **dict.fromkeys(("seed", "images_captions", "images_regions", "images_graphs", "images_validation"), int),
    **dict.fromkeys(("items_vsr", "items_valse", "items_svo", "items_retrieval", "items_paragraphs"), int),
    **dict.fromkeys(("image_size", "objects", "noise", "shard_size"), int),
    **dict.fromkeys(("shapes", "colors", "relations"), str),
    **dict.fromkeys(("relational_captions", "counting_captions", "hold_out_pairs", "hold_out_combinations"), float),
    **dict.fromkeys(("one_corpus", "mutual", "overwrite"), bool),
}
"""Arguments of `relpretrain.data.synthetic.generate` and their types; what they mean and their defaults stand there."""
SYNTHETIC_LISTS = ("shapes", "colors", "relations")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add all commands to the parser of `relpretrain data`."""
    add_subcommands(parser.add_subparsers(dest="data_command", required=True, metavar="COMMAND"))


def add_subcommands(commands: Any) -> None:
    """Add all commands to what `add_subparsers` returned, beside others."""
    convert.add_parser(commands)
    repack.add_parser(commands)
    _add_synthetic(commands)


def run(args: argparse.Namespace) -> None:
    """Carry out a command of `add_arguments`.

    Raises:
        ValueError: If an argument or what it names cannot be used.
        OSError: If a file cannot be read or written.
    """
    args.run_data(args)


def _add_synthetic(commands: Any) -> None:
    synthetic = commands.add_parser("synthetic", help="render a small world with captions, regions and graphs")
    synthetic.add_argument("out", type=Path, help="folder to write to")
    for name, kind in SYNTHETIC.items():
        option = f"--{name.replace('_', '-')}"
        if kind is bool:
            synthetic.add_argument(option, action="store_true", default=argparse.SUPPRESS)
        else:
            many: dict[str, Any] = {"nargs": "+"} if name in (*SYNTHETIC_LISTS, "objects") else {}
            synthetic.add_argument(option, type=kind, default=argparse.SUPPRESS, **many)
    synthetic.set_defaults(run_data=_synthetic)


def _synthetic(args: argparse.Namespace) -> None:
    from relpretrain.data.synthetic import generate  # draws and encodes images: loaded only where it is used

    options = {name: value for name, value in vars(args).items() if name in SYNTHETIC}
    options |= {name: tuple(value) for name, value in options.items() if name in (*SYNTHETIC_LISTS, "objects")}
    if (args.out / "world.json").exists() and not options.get("overwrite"):
        raise ValueError(f"{args.out} holds such a world already; choose another folder, or add --overwrite")
    generate(args.out, **options)
    print(f"shards, tokenizer, relations and benchmarks in {args.out}")
