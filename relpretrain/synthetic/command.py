"""`relpretrain data synthetic`: an option for each field of `WorldOptions`, explained by its docstring."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from docstring_parser import parse

from relpretrain.errors import natural
from relpretrain.progress import Meter, StageProgress
from relpretrain.synthetic.options import WorldOptions

GROUPS = {
    "seed": "how much",
    "image_size": "what is seen",
    "relations": "what is said",
    "hold_out_pairs": "what is held out",
}
"""Titles of the help, by the field that begins them."""


def add_parser(commands: Any) -> None:
    """Add `synthetic` to the commands of `relpretrain data`."""
    synthetic = commands.add_parser(
        "synthetic",
        help="render a small world with captions, regions and graphs",
        description="Render a small world: shards with captions, regions and scene graphs, a tokenizer, a vocabulary "
        "of relations, and zero-shot benchmarks. Defaults are in parentheses.",
    )
    synthetic.add_argument("out", type=Path, help="folder to write to")
    synthetic.add_argument("--overwrite", action="store_true", help="replace the shards that are in OUT")
    texts = {
        part.arg_name: " ".join((part.description or "").split()) for part in parse(WorldOptions.__doc__ or "").params
    }
    types, group = get_type_hints(WorldOptions), synthetic
    for field in fields(WorldOptions):
        if field.name in GROUPS:
            group = synthetic.add_argument_group(GROUPS[field.name])
        option, default = f"--{field.name.replace('_', '-')}", field.default
        text = texts[field.name].replace("%", "%%")
        if types[field.name] is bool:
            group.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=text)
            continue
        shown = ", ".join(default) if isinstance(default, tuple) else default
        kind = type(default[0] if isinstance(default, tuple) else default)
        many = {"nargs": "+"} if isinstance(default, tuple) or field.name == "objects" else {}
        metavar = {int: "N", float: "FRACTION", str: "NAME"}[kind]
        group.add_argument(
            option,
            type=natural if kind is int else kind,
            default=argparse.SUPPRESS,
            metavar=metavar,
            help=f"{text.rstrip('.')} ({shown})",
            **many,  # type: ignore[arg-type]
        )
    synthetic.set_defaults(run_data=_synthetic)


def _synthetic(args: argparse.Namespace) -> None:
    from relpretrain.synthetic import generate  # draws and encodes images: loaded only where it is used

    given = {f.name: vars(args)[f.name] for f in fields(WorldOptions) if f.name in vars(args)}
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    options = WorldOptions(**values)
    if isinstance(options.objects, tuple) and len(options.objects) > 2:
        raise ValueError(f"--objects takes a number, or the smallest and the largest; got {options.objects}")
    if (args.out / "world.json").exists() and not args.overwrite:
        raise ValueError(f"{args.out} holds such a world already; choose another folder, or add --overwrite")
    meter = Meter()
    with StageProgress(meter):
        generate(args.out, options, overwrite=args.overwrite, meter=meter)
    print(f"shards, tokenizer, relations and benchmarks in {args.out}")
