"""The options of the zero-shot command."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import NoReturn

from relpretrain.errors import positive
from relpretrain.zeroshot.results.thresholds import DEV, SWEEP
from relpretrain.zeroshot.scorers.build import PRECISIONS, WAYS
from relpretrain.zeroshot.tasks import TASKS

ALL = "all"
"""In place of names of tasks: all that are there; the others are skipped, and told."""


class _Parser(argparse.ArgumentParser):
    """Raises mistakes as a ValueError."""

    def error(self, message: str) -> NoReturn:
        """Raise a ValueError instead of leaving the process."""
        raise ValueError(f"{message} (--help lists the options)")


def make_parser(program: str) -> argparse.ArgumentParser:
    """The parser of the command, whose mistakes are ValueErrors."""
    parser = _Parser(program, description="Zero-shot results of a checkpoint, or of stored scores.", allow_abbrev=False)
    _add_model(parser)
    parser.add_argument("--scores", type=Path, nargs="+", metavar="FILE", help="score files: tables without a model")
    parser.add_argument(
        "--compare", type=Path, nargs=2, metavar=("A", "B"), help="two score files, or two --out folders"
    )
    parser.add_argument(
        "--side-by-side", type=Path, nargs="+", metavar="DIR", help="any number of --out folders on one page, sorted"
    )
    parser.add_argument(
        "--leaderboard",
        type=Path,
        metavar="FILE",
        help="--side-by-side: a CSV file of figures that are shown as well (see --add)",
    )
    parser.add_argument(
        "--add", action="store_true", help="--side-by-side: write these folders' figures into the --leaderboard"
    )
    parser.add_argument("--list", action="store_true", help="the tasks, a line each")
    parser.add_argument("--card", nargs="*", metavar="TASK", help="what to know of a task (of all, if none is named)")
    parser.add_argument(
        "--tasks",
        nargs="+",
        metavar="TASK",
        help=f"among {', '.join(TASKS)} (default: vsr valse); {ALL}: those that are there",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder with a folder per task, or a JSON file of items"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write the report and the score files")
    parser.add_argument(
        "--images", type=Path, nargs="+", action="extend", default=[], metavar="DIR", help="further image folders"
    )
    parser.add_argument(
        "--allow-missing", action="store_true", help="leave out items without image or score; n is shown"
    )
    parser.add_argument(
        "--examples",
        type=positive,
        default=24,
        metavar="N",
        help="disagreements on the page of --compare (default: 24)",
    )
    parser.add_argument("--split", nargs="+", default=[], metavar="SPLIT", help="splits, such as random_v1 or test")
    parser.add_argument(
        "--k-test", type=positive, metavar="K", help="retrieval: candidates to re-rank (COCO 256, Flickr30K 128)"
    )
    parser.add_argument(
        "--threshold",
        type=_threshold,
        metavar="T",
        help=f"VSR: lowest score that means true: a number, {DEV} (chosen there for test) or {SWEEP} (an oracle shown)",
    )
    parser.add_argument(
        "--further",
        action="store_true",
        help="what scores say besides: GroupMatch, half-truths, ties, texts at the limit, calibration",
    )
    parser.add_argument(
        "--beside-blind", type=Path, metavar="DIR", help="--further: an --out folder of --blind on the same items"
    )
    parser.add_argument("--seed", type=int, default=0, help="--compare: of the draws (default: 0)")
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("what is scored (one of the first four)")
    model.add_argument("--checkpoint", type=Path, metavar="FILE", help="a checkpoint of ours, or of ALBEF or X-VLM")
    model.add_argument(
        "--model",
        metavar="KIND:NAME",
        help="another model: hf:FOLDER_OR_NAME (CLIP, SigLIP, SigLIP 2, BLIP, BLIP-2), open_clip:NAME/WEIGHTS, or "
        "vqa:FOLDER_OR_NAME (a generative model asked yes or no)",
    )
    model.add_argument("--question", metavar="TEXT", help="vqa: what is asked, with {} for the text")
    model.add_argument(
        "--blind",
        metavar="LM",
        help="texts alone: folder or hub name of a causal language model, or 'length' (the shorter text wins)",
    )
    model.add_argument("--constant", action="store_true", help="the same score for every pair")
    model.add_argument(
        "--blank-image", action="store_true", help="replace every image by a grey one: what the model knows unseen"
    )
    model.add_argument(
        "--by",
        choices=WAYS,
        help="--checkpoint, BLIP, BLIP-2: matching head (itm, default), embeddings (itc), or both (--checkpoint)",
    )
    model.add_argument(
        "--tokenizer",
        metavar="NAME",
        help="of an official ALBEF or X-VLM checkpoint: a name or folder (default: bert-base-uncased)",
    )
    model.add_argument("--relations", metavar="FILE", help="vocabulary of a relation head in an official checkpoint")
    model.add_argument("--image-size", type=positive, metavar="PIXELS", help="resize an official checkpoint")
    model.add_argument("--clean", action="store_true", help="clean texts as official checkpoints do by themselves")
    model.add_argument(
        "--max-tokens", type=positive, metavar="N", help="cut texts to N tokens (default: the model's own)"
    )
    model.add_argument(
        "--batch-size",
        type=positive,
        default=32,
        metavar="N",
        help="images at once (default: 32); halved, and told, where memory does not suffice",
    )
    model.add_argument("--device", metavar="NAME", help="default: cuda if there is one, else cpu")
    model.add_argument("--precision", choices=PRECISIONS, default="fp32", help="bf16 on CUDA; heads stay fp32")


def _threshold(text: str) -> float | str:
    if text in (DEV, SWEEP):
        return text
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"must be a number, {DEV} or {SWEEP}, not {text!r}")
    return number
