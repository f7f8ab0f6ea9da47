"""Write the report of a run: loss curves, zero-shot tables, what its data was. Two runs are put side by side."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `relpretrain report`."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="the run's folder, or two runs'")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where report.html, report.md and losses.png go (default: RUN/report of the first)",
    )
    parser.add_argument(
        "--zero-shot", type=Path, nargs="+", default=[], metavar="FILE",
        help="the runs' zero-shot results (default: the newest in each run's folder)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Write it, and print where.

    Raises:
        ValueError: If a run has no log, or something given is not what it should be.
        OSError: If a file cannot be read or written.
    """
    for folder in args.runs:
        if not folder.is_dir():
            raise ValueError(f"{folder} does not exist: name the folder of a run, such as runs/quickstart")

    from relpretrain.inspect.run_report.report import write_report  # draws

    page = write_report(args.runs, args.out or args.runs[0] / "report", args.zero_shot)
    print(page)
    print(page.with_suffix(".html"))
