"""The options of the zero-shot command."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import NoReturn

from relpretrain.errors import natural, positive
from relpretrain.showing.help import ExampleFormatter, example
from relpretrain.zeroshot.results.thresholds import DEV, SWEEP
from relpretrain.zeroshot.tasks import TASKS

ALL = "all"
"""In place of names of tasks: all that are there; the others are skipped, and told."""

WAYS = ("itm", "itc", "both")
"""What a checkpoint can score by."""

PRECISIONS = ("fp32", "bf16")

KINDS = ("hf:", "open_clip:", "vqa:")
"""What `--model` can name."""

_MODES = ("checkpoint", "model", "blind", "constant")
_OF_A_CHECKPOINT = ("by", "tokenizer", "image_size", "clean", "relations")


_OF_A_MODEL = (*_OF_A_CHECKPOINT, "max_tokens", "device", "question", "blank_image", "k_test")
_OF_SCORES = ("data", "images", "allow_missing", "split", "threshold", "further", "beside_blind")


class _Parser(argparse.ArgumentParser):
    """Raises mistakes as a ValueError."""

    def error(self, message: str) -> NoReturn:
        """Raise a ValueError instead of leaving the process."""
        raise ValueError(f"{message} (--help lists the options)")


def make_parser(program: str) -> argparse.ArgumentParser:
    """The parser of the command, whose mistakes are ValueErrors."""
    parser = _Parser(
        program,
        description="Zero-shot results of a checkpoint, or of stored scores.",
        epilog=example("%(prog)s --checkpoint last.ckpt --tasks vsr valse --data BENCHMARKS --out scores"),
        formatter_class=ExampleFormatter,
        allow_abbrev=False,
    )
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
    parser.add_argument("--seed", type=natural, default=0, help="--compare: of the draws (default: 0)")
    return parser


def chosen_model(args: argparse.Namespace) -> str:
    """Which option names the model; "" if none does.

    Raises:
        ValueError: If several do, if the model cannot be there, or if options do not go together.
    """
    chosen = [mode for mode in _MODES if getattr(args, mode)]
    if len(chosen) > 1:
        raise ValueError(f"Give one of {' and '.join(f'--{mode}' for mode in chosen)}, not both.")
    mode = chosen[0] if chosen else ""
    if mode == "checkpoint" and not args.checkpoint.exists():
        raise ValueError(f"There is no checkpoint {args.checkpoint}.")
    if mode == "model" and not args.model.startswith(KINDS):
        raise ValueError(
            f"--model is hf:FOLDER_OR_NAME, open_clip:NAME/WEIGHTS or vqa:FOLDER_OR_NAME, not {args.model!r}."
        )
    if mode == "model" and args.by == "both":
        raise ValueError("--by both is for --checkpoint; BLIP and BLIP-2 of Hugging Face have itm and itc.")
    if args.question and not (args.model or "").startswith("vqa:"):
        raise ValueError("--question is for --model vqa:FOLDER_OR_NAME.")
    own = _OF_A_CHECKPOINT[mode == "model" :]
    foreign = [option for option in own if mode not in ("", "checkpoint") and getattr(args, option)]
    if foreign:
        raise ValueError(f"--{foreign[0].replace('_', '-')} is for --checkpoint, not for --{mode}.")
    foreign = [name for name in ("max_tokens", "precision") if getattr(args, name) not in (None, PRECISIONS[0])]
    if foreign and mode in ("blind", "constant"):
        raise ValueError(f"--{foreign[0].replace('_', '-')} is for --checkpoint and --model, not for --{mode}.")
    if args.blank_image and mode not in ("checkpoint", "model"):
        raise ValueError("--blank-image needs a model that looks at images: --checkpoint or --model.")
    return mode


def refuse_unused(args: argparse.Namespace) -> None:
    """Refuse options that would do nothing beside --scores or --compare, or without --data.

    Raises:
        ValueError: Naming the first one, and what it goes with.
    """
    stored = "--compare" if args.compare else "--scores" if args.scores else ""
    if args.side_by_side or args.leaderboard:
        if given := [name for name in (*_OF_A_MODEL, *_OF_SCORES) if getattr(args, name)]:
            raise ValueError(f"--{given[0].replace('_', '-')} does nothing beside --side-by-side and --leaderboard, "
                             "which show what was scored before.")  # fmt: skip
        return
    if stored and (given := [name for name in _OF_A_MODEL if getattr(args, name)]):
        raise ValueError(f"--{given[0].replace('_', '-')} is for scoring a model; {stored} reads what was scored.")
    if stored and args.data is None and args.split:
        raise ValueError(f"--split needs --data beside {stored}: the annotations tell the splits apart.")
    if args.compare and (args.further or args.beside_blind):
        raise ValueError("--further and --beside-blind go with --scores or a model, not with --compare.")
    if args.add:
        raise ValueError("--add goes with --side-by-side DIR ... --leaderboard FILE.csv.")


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
    model.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="bf16 on CUDA, or a CPU with AVX-512 BF16 or AMX; heads stay fp32",
    )


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
