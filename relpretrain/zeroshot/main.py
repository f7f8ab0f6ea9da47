"""The zero-shot command: scores a checkpoint on benchmarks, or reports and compares stored scores."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch

from relpretrain.zeroshot.comparison import Comparison, compare
from relpretrain.zeroshot.evaluate import evaluate, prepare, summarise
from relpretrain.zeroshot.images import ImageFinder
from relpretrain.zeroshot.items import ITEMS_NAME, ItemResult, Scored, disagreements, item_results, read_items
from relpretrain.zeroshot.page import PAGE_NAME, write_page
from relpretrain.zeroshot.report import Report, describe, hash_files
from relpretrain.zeroshot.scorer import MatchScorer
from relpretrain.zeroshot.scores import (
    find_split,
    read_scores,
    shared_files,
    split_of,
    task_of,
    tell_apart,
)
from relpretrain.zeroshot.tasks import TASKS, Source
from relpretrain.zeroshot.tasks.base import suggest
from relpretrain.zeroshot.tasks.card import overview
from relpretrain.zeroshot.thresholds import DEV, SWEEP, with_threshold
from relpretrain.zeroshot.versions import refuse_other_version, version_of_items


def main(argv: Sequence[str] | None = None, program: str = "zero_shot") -> int:
    """Run the command.

    Args:
        argv: Arguments without the program's name; those of the process if None.
        program: The program's name in messages.

    Returns:
        0, or 2 after a mistake, which is named in one line on the standard error.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        args = _parser(program).parse_args(argv)
        if args.list or args.card is not None:
            print(overview(TASKS.values()) if args.list else cards(args.card or list(TASKS)), end="")
            return 0
        report = _run(args, [program, *map(shlex.quote, argv)])
        report.print()
        if args.out:
            report.write(args.out)
            write_page(args.out / PAGE_NAME, report, _finder(args))
    except (ValueError, OSError) as error:
        print(f"{program}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def cards(names: Sequence[str]) -> str:
    """The cards of tasks, as Markdown.

    Raises:
        ValueError: If a task is unknown.
    """
    for name in names:
        if name not in TASKS:
            raise ValueError(suggest(name, TASKS, "task"))
    return "\n".join(TASKS[name].card.markdown() for name in names)


def _run(args: argparse.Namespace, command: list[str]) -> Report:
    if sum(bool(mode) for mode in (args.checkpoint, args.scores, args.compare)) != 1:
        raise ValueError("Give one of --checkpoint FILE, --scores FILE or --compare A B. (--list names the tasks.)")
    for name in args.tasks or ():
        if name not in TASKS:
            raise ValueError(suggest(name, TASKS, "task"))
    if args.data is not None and not args.data.exists():
        raise ValueError(f"There is no data folder or item file {args.data}.")
    for folder in args.images:
        if not folder.is_dir():
            raise ValueError(f"There is no image folder {folder}.")
    if args.checkpoint:
        return _run_checkpoint(args, command)
    metadata = describe(command, args.seed)
    if args.compare:
        return Report((), tuple(_compare(args)), metadata)
    scored = []
    for path in args.scores:
        part = _identify(args, read_scores(path), path)
        scored.append(replace(part, notes=(*part.notes, f"scores of {path.name}")))
        metadata[f"scores {path.name}"] = hash_files(path)
    return _report(args, scored, metadata)


def _report(args: argparse.Namespace, scored: list[Scored], metadata: dict[str, Any]) -> Report:
    scored = with_threshold(scored, args.threshold)
    items = [result for part in scored for result in item_results(part)] if args.out else []
    return Report(tuple(summarise(scored, args.seed)), (), metadata, tuple(items))


def _run_checkpoint(args: argparse.Namespace, command: list[str]) -> Report:
    if not args.checkpoint.exists():
        raise ValueError(f"There is no checkpoint {args.checkpoint}.")
    if args.data is None:
        raise ValueError("Scoring a checkpoint needs --data DIR, with a folder per task, or --data FILE.json.")
    device = _device(args.device)
    source = Source(args.data, tuple(args.images), args.allow_missing, tuple(args.split))
    ready, hashes = prepare(args.tasks or ["vsr", "valse"], source)

    from relpretrain.checkpoint import load

    loaded = load(args.checkpoint, tokenizer=args.tokenizer, image_size=args.image_size)
    scorer = MatchScorer(loaded.backbone, loaded.preprocess, device, args.batch_size, args.clean, loaded.objectives)
    metadata = describe(command, args.seed, device) | {"weights": hash_files(args.checkpoint)} | hashes
    return _report(args, evaluate(scorer, ready, args.out), metadata)


def _identify(args: argparse.Namespace, records: list[Any], path: Path) -> Scored:
    """Find out what a score file is of."""
    name = task_of(records, path)
    if args.tasks and name not in args.tasks:
        raise ValueError(f"{path} holds scores of {name}, not of {', '.join(args.tasks)}.")
    if args.data is None or name == "graphs":
        return Scored(TASKS[name], "", records, ("not checked against the benchmark's annotations",))
    splits = TASKS[name].items(Source(args.data, splits=tuple(args.split)))
    split, notes = find_split(records, splits, path, args.allow_missing)
    version = version_of_items(TASKS[name], split, splits[split])
    return Scored(TASKS[name], split, records, notes, splits[split], version)


def _compare(args: argparse.Namespace) -> list[Comparison]:
    first, second = args.compare
    names = tell_apart(first, second)
    comparisons = []
    for a, b in shared_files(first, second):
        before, after = read_scores(a), read_scores(b)
        if a != first and args.tasks and task_of(before, a) not in args.tasks:
            continue
        part = _identify(args, before, a)
        task, notes = part.task, part.notes
        if task_of(after, b) != task.name:
            raise ValueError(f"{a} holds scores of {task.name}, {b} of {task_of(after, b)}: nothing to compare.")
        split = part.split or (split_of(a, task.name) if a != first else "")
        refuse_other_version(task, names, before, after)
        comparison = compare(task, before, after, names, split, args.seed, args.allow_missing)
        results = [item_results(replace(part, split=split, records=records)) for records in (before, after)]
        if not part.items:
            results = [_with_texts(found, x) for found, x in zip(results, args.compare, strict=True)]
        sample = disagreements(*results, args.examples, args.seed)
        comparisons.append(replace(comparison, notes=(*comparison.notes, *notes), disagreements=sample))
    return comparisons


def _with_texts(results: list[ItemResult], folder: Path) -> list[ItemResult]:
    """Results with the texts that the table of items of a report folder has, if it is one."""
    table = folder / ITEMS_NAME
    known = {result.key: result for result in read_items(table)} if table.is_file() else {}
    return [known.get(result.key, result) for result in results]


def _finder(args: argparse.Namespace) -> Callable[[str], Path | None]:
    """Looks for the image of an item where it was scored, in the --images folders, and where tasks keep theirs."""
    named = [ImageFinder(args.images)]
    usual = [Source(args.data).finder(name) for name in TASKS] if args.data is not None else []

    def find(name: str) -> Path | None:
        if Path(name).is_file():
            return Path(name)
        return next((path for finder in (*named, *usual) if (path := finder.find(name)) is not None), None)

    return find


def _device(name: str | None) -> str:
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"Device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return name


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (--help lists the options)")


def _parser(program: str) -> argparse.ArgumentParser:
    parser = _Parser(program, description="Zero-shot results of a checkpoint, or of stored scores.", allow_abbrev=False)
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="the model to score")
    parser.add_argument(
        "--tokenizer",
        metavar="NAME",
        help="of an official ALBEF or X-VLM checkpoint: a name or folder (default: bert-base-uncased)",
    )
    parser.add_argument("--image-size", type=_positive, metavar="PIXELS", help="resize an official checkpoint")
    parser.add_argument("--scores", type=Path, nargs="+", metavar="FILE", help="score files: tables without a model")
    parser.add_argument(
        "--compare", type=Path, nargs=2, metavar=("A", "B"), help="two score files, or two --out folders"
    )
    parser.add_argument("--list", action="store_true", help="the tasks, a line each")
    parser.add_argument("--card", nargs="*", metavar="TASK", help="what to know of a task (of all, if none is named)")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help=f"among {', '.join(TASKS)}; default: vsr valse")
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
        type=_positive,
        default=24,
        metavar="N",
        help="disagreements on the page of --compare (default: 24)",
    )
    parser.add_argument("--split", nargs="+", default=[], metavar="SPLIT", help="splits, such as random_v1 or test")
    parser.add_argument(
        "--threshold",
        type=_threshold,
        metavar="T",
        help=f"VSR: lowest score that means true: a number, {DEV} (chosen there for test) or {SWEEP} (an oracle shown)",
    )
    parser.add_argument("--clean", action="store_true", help="clean texts as official checkpoints do by themselves")
    parser.add_argument("--batch-size", type=_positive, default=32, metavar="N", help="images at once (default: 32)")
    parser.add_argument("--device", metavar="NAME", help="default: cuda if there is one, else cpu")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap intervals (default: 0)")
    return parser


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


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number
