"""The sources of `relpretrain data convert`: for each the function that reads it and the options that it takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from relpretrain import sources
from relpretrain.sources import Annotation, Later
from relpretrain.sources.hico import SHOTS, UNSEEN


class Option(NamedTuple):
    """An option of a source; named like the argument of its function."""

    name: str
    help: str
    required: bool = False
    many: bool = False
    choices: tuple[str, ...] | None = None


class Source(NamedTuple):
    """A source of annotations."""

    read: Callable[..., Iterator[Annotation | Later]]
    help: str
    options: tuple[Option, ...]


_IMAGES = Option("images", "folder of the images", required=True)

SOURCES: dict[str, Source] = {
    "visual-genome": Source(
        sources.read_visual_genome,
        "Visual Genome: images with scene graphs and regions",
        (
            Option("images", "folder of the images, or of VG_100K and VG_100K_2", required=True),
            Option("image_data", "image_data.json: sizes and file names"),
            Option("relationships", "relationships.json"),
            Option("objects", "objects.json"),
            Option("attributes", "attributes.json"),
            Option("regions", "region_descriptions.json or region_graphs.json"),
            Option("scene_graphs", "scene_graphs.json, instead of relationships"),
        ),
    ),
    "gqa": Source(
        sources.read_gqa,
        "GQA: images with scene graphs",
        (_IMAGES, Option("scene_graphs", "train_sceneGraphs.json or val_sceneGraphs.json", required=True)),
    ),
    "vrd": Source(
        sources.read_vrd,
        "VRD: images with scene graphs",
        (
            _IMAGES,
            Option("annotations", "annotations_train.json or annotations_test.json", required=True),
            Option("objects", "objects.json (default: beside the annotations)"),
            Option("predicates", "predicates.json (default: beside the annotations)"),
        ),
    ),
    "psg": Source(
        sources.read_psg,
        "PSG: COCO's images with panoptic scene graphs",
        (
            Option("images", "folder of train2017 and val2017", required=True),
            Option("annotations", "psg.json", required=True),
            Option("split", "which images (default: train)", choices=("train", "test", "all")),
        ),
    ),
    "open-images": Source(
        sources.read_open_images,
        "Open Images V6: images with visual relationships",
        (
            _IMAGES,
            Option("relationships", "oidv6-train-annotations-vrd.csv, or validation's, or test's", required=True),
            Option("classes", "tables of names, such as oidv6-class-descriptions.csv", required=True, many=True),
        ),
    ),
    "hico-det": Source(
        sources.read_hico,
        "HICO-DET: images with what people do with objects",
        (
            _IMAGES,
            Option("annotations", "trainval_hico.json or test_hico.json", required=True),
            Option("shots", "share of the images, with all verbs and objects (default: all)", choices=tuple(SHOTS)),
            Option(
                "unseen",
                "leave out a fifth of the pairs of verb and object, by frequency (default: none)",
                choices=UNSEEN,
            ),
        ),
    ),
    "coco": Source(
        sources.read_coco,
        "COCO: images with captions and boxes",
        (_IMAGES, Option("captions", "captions_*.json"), Option("instances", "instances_*.json")),
    ),
    "albef-json": Source(
        sources.read_albef,
        "ALBEF's JSON: images with captions",
        (_IMAGES, Option("annotations", "a list of image and caption", required=True)),
    ),
    "xvlm-jsonl": Source(
        sources.read_xvlm,
        "X-VLM's JSON lines: images with captions, regions, or both",
        (
            Option("annotations", "a pair or an image with regions in each line", required=True),
            Option("images", "folder of the images, where they are not in the lines"),
        ),
    ),
    "own": Source(
        sources.read_own,
        "own images with own graphs, captions, or both",
        (
            _IMAGES,
            Option("graphs", "JSON lines of image, boxes by name and [subject, relation, object]", required=True),
        ),
    ),
    "image-text": Source(
        sources.read_image_text,
        "a folder of images with captions",
        (_IMAGES, Option("captions", ".csv, .tsv, .json or .jsonl (default: a .txt file beside each image)")),
    ),
}


def add_source_options(parser: argparse.ArgumentParser, source: Source) -> None:
    """Add a source's own options to its parser."""
    for option in source.options:
        kind: dict[str, Any] = {"choices": option.choices} if option.choices else {"type": Path}
        if option.many:
            kind["nargs"] = "+"
        flag = f"--{option.name.replace('_', '-')}"
        parser.add_argument(flag, required=option.required, help=option.help, **kind)


def source_arguments(source: Source, args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of a source's function, without those that are not given."""
    values = {option.name: getattr(args, option.name) for option in source.options}
    return {name: value for name, value in values.items() if value is not None}
