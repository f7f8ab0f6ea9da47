"""The command: `python -m relpretrain.inspect.run_report RUN_DIR [OTHER_RUN_DIR] --out DIR`; two runs are compared."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from relpretrain.inspect.run_report.report import write_report


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0, or 2 after a mistake, which is named in one line on the standard error."""
    parser = argparse.ArgumentParser("relpretrain.inspect.run_report", description="Loss curves and tables of a run.")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--zero-shot", type=Path, nargs="+", default=[], metavar="FILE", help="the runs' results")
    args = parser.parse_args(argv)
    try:
        print(write_report(args.runs, args.out, args.zero_shot))
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
