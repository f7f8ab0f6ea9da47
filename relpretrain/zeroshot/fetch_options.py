"""The options of `relpretrain data fetch`: what it does is loaded when it is called."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add `fetch` to what `add_subparsers` returned."""
    fetch = commands.add_parser("fetch", help="say where a benchmark's files come from, and fetch what may be fetched")
    fetch.add_argument(
        "tasks", nargs="*", metavar="TASK", help="tasks of `relpretrain zeroshot --list`; none: a line for each"
    )
    fetch.add_argument(
        "--data", type=Path, metavar="DIR", help="fetch annotations into DIR/TASK; files that are there are left alone"
    )
    fetch.add_argument(
        "--unpack", type=Path, metavar="FOLDER", help="write the images and rows in FOLDER's Parquet files beside them"
    )
    fetch.set_defaults(run_data=_run)


def _run(args: argparse.Namespace) -> int:
    from relpretrain.zeroshot.fetch import run  # imports torch

    return run(args)
