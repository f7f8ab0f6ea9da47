"""An example for every command: what its help ends with."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from relpretrain.showing.help import example

EXAMPLES: dict[str, tuple[str, ...]] = {
    "recipes": ("relpretrain recipes copy finetune",),
    "recipes list": ("relpretrain recipes list",),
    "recipes show": ("relpretrain recipes show rex_vlm",),
    "recipes copy": ("relpretrain recipes copy finetune recipes",),
    "report": ("relpretrain report runs/quickstart --out runs/quickstart/report",),
    "explain": (
        'relpretrain explain --checkpoint C --image dog.jpg --text "dog on sofa" --foil "dog under sofa" --out a.html',
        "relpretrain explain data/validation --checkpoint C --out page.html",
    ),
    "weights": ("relpretrain weights list",),
    "weights list": ("relpretrain weights list",),
    "weights convert": ("relpretrain weights convert ALBEF.pth albef",),
    "weights export": ("relpretrain weights export runs/rex_vlm/checkpoints/last.ckpt rex-vlm",),
    "completion": (
        "relpretrain completion bash > ~/.local/share/bash-completion/completions/relpretrain",
        "relpretrain completion zsh >> ~/.zshrc",
        "relpretrain completion fish > ~/.config/fish/completions/relpretrain.fish",
    ),
    "data": ("relpretrain data synthetic world",),
    "data synthetic": ("relpretrain data synthetic world --images-graphs 500",),
    "data convert": ("relpretrain data convert own --images PHOTOS --graphs graphs.jsonl --out data/mine",),
    "data convert visual-genome": (
        "relpretrain data convert visual-genome --images VG --image-data VG/image_data.json \\",
        "  --relationships VG/relationships.json --attributes VG/attributes.json --out data/vg",
    ),
    "data convert gqa": (
        "relpretrain data convert gqa --images GQA/images --scene-graphs GQA/train_sceneGraphs.json --out data/gqa",
    ),
    "data convert vrd": (
        "relpretrain data convert vrd --images VRD/sg_train_images --annotations VRD/annotations_train.json \\",
        "  --out data/vrd",
    ),
    "data convert psg": ("relpretrain data convert psg --images COCO --annotations PSG/psg.json --out data/psg",),
    "data convert open-images": (
        "relpretrain data convert open-images --images OI/train --relationships OI/oidv6-train-annotations-vrd.csv \\",
        "  --classes OI/oidv7-class-descriptions-boxable.csv --out data/open-images",
    ),
    "data convert hico-det": (
        "relpretrain data convert hico-det --images HICO/images/train2015 --annotations HICO/trainval_hico.json \\",
        "  --out data/hico",
    ),
    "data convert coco": (
        "relpretrain data convert coco --images COCO/train2017 --captions COCO/annotations/captions_train2017.json \\",
        "  --instances COCO/annotations/instances_train2017.json --out data/coco",
    ),
    "data convert image-text": (
        "relpretrain data convert image-text --images PHOTOS --captions captions.jsonl --out data/captions",
    ),
    "data convert albef-json": (
        "relpretrain data convert albef-json --images COCO --annotations coco.json --out data/coco-captions",
    ),
    "data convert xvlm-jsonl": (
        "relpretrain data convert xvlm-jsonl --images VG --annotations vg.jsonl --out data/vg-regions",
    ),
    "data convert own": ("relpretrain data convert own --images PHOTOS --graphs graphs.jsonl --out data/mine",),
    "data pack": ("relpretrain data pack CC3M/*.tar --out data/cc3m --shuffle 0",),
    "data label": ("relpretrain data label data/cc12m --out data/cc12m-graphs",),
    "data join": ("relpretrain data join data/cc3m --annotations captions.csv --format dreamlip --out data/long",),
    "data index": ("relpretrain data index 's3://bucket/cc12m/{00000..01242}.tar' --out cc12m.json",),
    "data calibrate": ("relpretrain data calibrate runs/tagger/checkpoints/last.ckpt data/held-out",),
    "data fetch": ("relpretrain data fetch vsr sugarcrepe --data benchmarks",),
    "data merge": ("relpretrain data merge data/vg",),
    "data audit": ("relpretrain data audit data/vg data/coco --benchmarks BENCHMARKS --out exclude.json",),
    "data doctor": ("relpretrain data doctor data/vg",),
    "data show": ("relpretrain data show data/mine --out page.html",),
    "data dialogues": ("relpretrain data dialogues data/vg --out dialogues.json --page page.html",),
}
"""By the words after `relpretrain`. Those of training stand in `training.command.cli`, `zeroshot`'s in its options."""


def commands_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """The subcommands that a parser has itself: name, parser and line of help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, inner in action.choices.items():
                yield name, inner, helps.get(name, "")


def add_examples(parser: argparse.ArgumentParser, path: str) -> None:
    """Let the help of a command and of all below it end with its example, above what it ended with before.

    A command below that has no description gets its line of help as one.

    Args:
        parser: The command's, made with `ExampleFormatter`.
        path: Words that call it, such as "data convert".
    """
    if path in EXAMPLES and not (parser.epilog or "").startswith("example:"):
        parser.epilog = "\n\n".join(filter(None, (example(*EXAMPLES[path]), parser.epilog)))
    for name, inner, text in commands_of(parser):
        inner.description = inner.description or f"{text[:1].upper()}{text[1:]}."
        add_examples(inner, f"{path} {name}")
