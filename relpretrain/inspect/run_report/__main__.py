"""`python -m relpretrain.inspect.run_report RUN ... --out DIR` is `relpretrain report RUN ... --out DIR`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from relpretrain.inspect.run_report.command import add_arguments, run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0, or 2 after a mistake, which is named in one line on the standard error."""
    parser = argparse.ArgumentParser("relpretrain.inspect.run_report", description="Loss curves and tables of a run.")
    add_arguments(parser)
    try:
        run(parser.parse_args(argv))
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
