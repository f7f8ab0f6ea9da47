"""`relpretrain weights list`, `convert` and `export`: official checkpoints to ours and back, folders for the hub."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relpretrain.checkpoints.published import table
from relpretrain.errors import CheckpointError, check_checkpoint
from relpretrain.showing import say

if TYPE_CHECKING:
    from relpretrain.checkpoints.checkpoint import Loaded

OFFICIAL = (".pth", ".th")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands to the parser of `relpretrain weights`."""
    commands = parser.add_subparsers(dest="weights_command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="known official checkpoints, their training data and expected zero-shot scores")
    convert = commands.add_parser("convert", help="official checkpoint to a folder of ours, or ours to an official one")
    convert.add_argument("source", type=Path, help="an official checkpoint, a checkpoint of training, or a folder")
    convert.add_argument("target", type=Path, help="a new folder; or FILE.pth, FILE.th for the official layout")
    export = commands.add_parser("export", help="any checkpoint to a folder in the layout of the Hugging Face hub")
    export.add_argument("source", type=Path, help="a checkpoint of training, or an official one")
    export.add_argument("target", type=Path, help="a new folder")
    for command in (convert, export):
        command.add_argument("--tokenizer", help="of an official checkpoint (default: bert-base-uncased)")
        command.add_argument("--image-size", type=int, metavar="PIXELS", help="resize an official checkpoint")
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="NAME=NUMBER",
            help="what leaves no trace in an official checkpoint, such as text_heads (default: heads of 64)",
        )
        command.add_argument(
            "--relations",
            metavar="FILE",
            help="the vocabulary of a relation head (MRC) in an official checkpoint (bundled ones are recognised)",
        )


def run(arguments: argparse.Namespace) -> None:
    """Run a parsed command."""
    if arguments.weights_command == "list":
        print(table())
        return
    source, target = arguments.source, arguments.target
    given = dict(map(_setting, arguments.set))
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise CheckpointError(f"{target} exists already: name a new one")
    official = target.suffix in OFFICIAL
    if official and arguments.weights_command == "export":
        raise CheckpointError(f"export writes a folder, not the file {target}: use `relpretrain weights convert`")
    check_checkpoint(source)

    from relpretrain.checkpoints.checkpoint import load  # loads torch

    loaded = load(
        source,
        tokenizer=arguments.tokenizer,
        image_size=arguments.image_size,
        arguments=given,
        vocabulary=arguments.relations,
    )
    if official:
        write_official(loaded, target)
        if heads := [name for name, objective in loaded.objectives.items() if objective.state_dict()]:
            say(f"left out: the heads of {', '.join(heads)}, for which official files have no place")
    else:
        loaded.name = source.name
        loaded.save_pretrained(target)
    if loaded.report is not None:
        say(str(loaded.report))
    print(f"wrote {target}")


def write_official(loaded: Loaded, path: Path) -> None:
    """Write a model as `{"model": state}` with the weight names of the official code.

    The names are those of the file that the weights came from, else all of a pretraining checkpoint. Heads of
    objectives, such as MRC's, are not written.

    Raises:
        CheckpointError: If the model is neither our `ALBEF` nor our `XVLM`.
    """
    from relpretrain.backbones import ALBEF, XVLM
    from relpretrain.checkpoints.file import write
    from relpretrain.checkpoints.official.back import to_official

    backbone = loaded.backbone
    if not isinstance(backbone, (ALBEF, XVLM)):
        raise CheckpointError(f"a {type(backbone).__name__} has no official layout; only ALBEF and XVLM have")
    state = to_official(backbone.state_dict(), backbone.config, isinstance(backbone, ALBEF), loaded.official_keys)
    write({"model": {key: value.clone() for key, value in state.items()}}, path)


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return name, json.loads(value)
    except ValueError:
        raise CheckpointError(f"--set {text}: expected NAME=NUMBER, as text_heads=4") from None
