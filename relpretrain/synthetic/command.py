"""`relpretrain data synthetic`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from relpretrain.data.build.progress import ProgressLine
from relpretrain.sources.common.files import Meter

SYNTHETIC: dict[str, type] = {
    **dict.fromkeys(("seed", "images_captions", "images_regions", "images_graphs", "images_validation"), int),
    **dict.fromkeys(("items_vsr", "items_valse", "items_svo", "items_retrieval", "items_paragraphs"), int),
    **dict.fromkeys(("image_size", "objects", "noise", "clutter", "alike", "shard_size"), int),
    **dict.fromkeys(("shapes", "colors", "sizes", "textures", "relations"), str),
    **dict.fromkeys(("relational_captions", "counting_captions", "caption_noise", "label_noise"), float),
    **dict.fromkeys(("relational_sentences", "omitted_relations", "mirrored"), float),
    **dict.fromkeys(("hold_out_pairs", "hold_out_combinations", "occlusion"), float),
    **dict.fromkeys(("one_corpus", "mutual", "overwrite"), bool),
}
"""Arguments of `relpretrain.synthetic.generate` and their types; what they mean and their defaults stand there."""
SYNTHETIC_LISTS = ("shapes", "colors", "sizes", "textures", "relations")

_SYNTHETIC_HELP: dict[str, dict[str, str]] = {
    "how much": {
        "seed": "where everything is drawn from (0)",
        "images_captions": "images with captions (6000)",
        "images_regions": "images with boxes (3000)",
        "images_graphs": "images with scene graphs (6000)",
        "images_validation": "held-out images with all of these (600)",
        "one_corpus": "regions and graphs are of the first images with captions",
        "alike": "neighbouring images of a shard that show the same things (1)",
        "mirrored": "share of these that mirror the image before: left and right, top and bottom, or both (0)",
        "shard_size": "samples in a shard: the first k shards are a share of the images (1000)",
        "overwrite": "replace the shards that are in OUT",
    },
    "what is seen": {
        "image_size": "side of the images in pixels (32)",
        "objects": "objects in a scene: a number, or the smallest and the largest (2)",
        "shapes": "of square, circle, triangle, diamond, cross (square)",
        "colors": "of red, green, blue, yellow, purple, orange, cyan, black, white, pink, brown, lime, navy, teal "
        "(the first five and cyan)",
        "sizes": "any, or several of small, medium, large, which labels then name (any)",
        "textures": "of plain, striped, dotted, checked; labels name them where there are several (plain)",
        "noise": "largest deviation of a background pixel, of 255 (6)",
        "clutter": "small marks on the ground (0)",
        "occlusion": "largest share of an object that another one may hide (0)",
    },
    "what is said": {
        "relations": "of 'left of', 'right of', above, below (these four), inside, around, on, carrying, near, "
        "'far from', touching, 'bigger than', 'smaller than'",
        "mutual": "annotate both directions of a relation",
        "relational_captions": "share of the captions that mention a relation (0.1)",
        "relational_sentences": "share of these that are sentences, the others phrases (0.5)",
        "counting_captions": "share of the captions that tell the number of objects (0)",
        "caption_noise": "share of the captions that are another scene's (0)",
        "label_noise": "share of the annotated relations that are false (0)",
        "omitted_relations": "share of the relations that graphs do not tell (0)",
    },
    "what is held out and asked": {
        "hold_out_pairs": "share of the pairs of kinds that training never shows together (0)",
        "hold_out_combinations": "share of the other compositions that training never shows (0)",
        "items_vsr": "VSR items (600)",
        "items_valse": "items in each VALSE file (400)",
        "items_svo": "SVO-Probes items (0)",
        "items_retrieval": "images in each gallery of retrieval by what is there (0)",
        "items_paragraphs": "images in each gallery of retrieval by long texts (0)",
    },
}


def add_parser(commands: Any) -> None:
    """Add `synthetic` to the commands of `relpretrain data`."""
    synthetic = commands.add_parser(
        "synthetic",
        help="render a small world with captions, regions and graphs",
        description="Render a small world: shards with captions, regions and scene graphs, a tokenizer, a vocabulary "
        "of relations, and zero-shot benchmarks. Defaults are in parentheses.",
    )
    synthetic.add_argument("out", type=Path, help="folder to write to")
    for title, helps in _SYNTHETIC_HELP.items():
        group = synthetic.add_argument_group(title)
        for name, text in helps.items():
            option, kind = f"--{name.replace('_', '-')}", SYNTHETIC[name]
            if kind is bool:
                group.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=text)
                continue
            many = {"nargs": "+"} if name in (*SYNTHETIC_LISTS, "objects") else {}
            metavar = {int: "N", float: "SHARE", str: "NAME"}[kind]
            group.add_argument(option, type=kind, default=argparse.SUPPRESS, metavar=metavar, help=text, **many)
    synthetic.set_defaults(run_data=_synthetic)


def _synthetic(args: argparse.Namespace) -> None:
    from relpretrain.synthetic import generate  # draws and encodes images: loaded only where it is used

    options = {name: value for name, value in vars(args).items() if name in SYNTHETIC}
    options |= {name: tuple(value) for name, value in options.items() if name in (*SYNTHETIC_LISTS, "objects")}
    if len(options.get("objects", ())) > 2:
        raise ValueError(f"--objects takes a number, or the smallest and the largest; got {options['objects']}")
    if (args.out / "world.json").exists() and not options.get("overwrite"):
        raise ValueError(f"{args.out} holds such a world already; choose another folder, or add --overwrite")
    meter = Meter()
    with ProgressLine(meter):
        generate(args.out, **options, meter=meter)
    print(f"shards, tokenizer, relations and benchmarks in {args.out}")
