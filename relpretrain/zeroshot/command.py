"""The zero-shot command: scores a checkpoint on benchmarks, or reports and compares stored scores."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from relpretrain.errors import suggest
from relpretrain.showing import say
from relpretrain.zeroshot.options import ALL, chosen_model, make_parser, refuse_unused
from relpretrain.zeroshot.report.published import published_line
from relpretrain.zeroshot.tasks import TASKS
from relpretrain.zeroshot.tasks.common.card import overview


def main(
    argv: Sequence[str] | None = None,
    program: str = "zero_shot",
    importing: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program's name; those of the process if None.
        program: The program's name in messages.
        importing: A context to import all that computes in.

    Returns:
        0, or 2 after a mistake, which is named in one line on the standard error.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        args = make_parser(program).parse_args(argv)
        chosen = _chosen(args.tasks or ())
        if args.list or args.card is not None:
            print(overview([TASKS[n] for n in chosen]) if args.list else cards(args.card or chosen), end="")
            return 0
        if args.side_by_side or args.leaderboard:
            from relpretrain.zeroshot.report.board import BOARD_NAME
            from relpretrain.zeroshot.side_by_side import make_board

            board = make_board(args, [program, *map(shlex.quote, argv)])
            if args.out:
                board.write(args.out)
            board.print()
            if args.out:
                say(f"Page: {args.out / BOARD_NAME}.html")
            return 0
        _check(args)
        with importing():
            from relpretrain.distributed import rank
            from relpretrain.zeroshot.ranks import process_group
            from relpretrain.zeroshot.report.page import PAGE_NAME, write_page
            from relpretrain.zeroshot.run import finder, run

        with process_group():
            report = run(args, [program, *map(shlex.quote, argv)])
            if rank():
                return 0
        if args.out:
            report.write(args.out)
            write_page(args.out / PAGE_NAME, report, finder(args))
        report.print()
        if args.out:
            say(f"Page: {args.out / PAGE_NAME}")
    except (TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
        files = [*(args.scores or ()), *(args.compare or ()), *(args.side_by_side or ())]
        if not files or os.environ.get("RELPRETRAIN_DEBUG") == "1":
            raise
        named = ", ".join(map(str, files[:3])) + (", ..." if len(files) > 3 else "")
        say(
            f"{program}: error: {named}: a value is not of the kind that is expected there ({error!r:.200})", error=True
        )
        return 2
    except (ValueError, OSError) as error:
        say(f"{program}: error: {' '.join(str(error).split())}", error=True)
        return 2
    return 0


def cards(names: Sequence[str]) -> str:
    """The cards of tasks, as Markdown.

    Raises:
        ValueError: If a task is unknown.
    """
    return "\n".join(TASKS[name].card.markdown() + published_line(name) for name in _chosen(names))


def _chosen(names: Sequence[str]) -> list[str]:
    """Names of tasks; all tasks for none, or for "all".

    Raises:
        ValueError: If a task is unknown.
    """
    for name in names:
        if name not in TASKS and name != ALL:
            raise ValueError(f"Unknown task {name!r}{suggest(name, TASKS)}")
    return list(names) if names and ALL not in names else list(TASKS)


def _check(args: argparse.Namespace) -> None:
    """Look for what can be wrong before anything that computes is imported."""
    model = chosen_model(args)
    if sum(bool(mode) for mode in (model, args.scores, args.compare)) != 1:
        raise ValueError("Give one of --checkpoint FILE, --scores FILE or --compare A B. (Other models: --model, "
                         "--blind, --constant; --list names the tasks.)")  # fmt: skip
    refuse_unused(args)
    if args.data is not None and not args.data.exists():
        raise ValueError(f"There is no data folder or item file {args.data}.")
    for folder in args.images:
        if not folder.is_dir():
            raise ValueError(f"There is no image folder {folder}.")
    if model and args.data is None:
        raise ValueError("Scoring a model needs --data DIR, with a folder per task, or --data FILE.json.")
