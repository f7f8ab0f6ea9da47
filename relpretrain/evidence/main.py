"""The command: trains every run of a preset that is not there yet, and writes the page of what came out."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from relpretrain.evidence.conduct import base_recipe, collect, train_all
from relpretrain.evidence.context import commit, hardware, measured, versions
from relpretrain.evidence.design import Preset
from relpretrain.evidence.page import Context, write_page
from relpretrain.evidence.presets import PRESETS, claims
from relpretrain.evidence.results import write_figures
from relpretrain.evidence.settings import parse, with_dials

RESULTS, MADE = "results.csv", "made.json"


def main(argv: Sequence[str] | None = None, program: str = "ablation") -> int:
    """Run the command.

    Args:
        argv: Arguments without the program's name; those of the process if None.
        program: The program's name in messages.

    Returns:
        0; 1 if a run failed; 2 after a mistake, which is named in one line on the standard error.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _parser(program).parse_args(argv)
    try:
        preset = chosen(args)
        notes = args.notes.read_text(encoding="utf-8") if args.notes else ""  # before an hour of training
        if args.list:
            print("\n".join(run.name for run in preset.runs))
            return 0
        failed = {} if args.report else _train(preset, args.out)
        figures = collect(preset, args.out)
        if not figures:
            raise ValueError(f"{args.out} holds no finished run.")
        page = args.page or args.out / "evidence.md"
        results = page.parent / page.stem / RESULTS
        write_figures(results, figures)
        made = _made(args.out)
        context = Context(
            preset.name,
            f"python benchmarks/{program}.py {shlex.join(arg for arg in argv if arg != '--report')}",
            ", ".join(made.commits),
            hardware(),
            versions(),
            made.minutes,
            os.path.relpath(results, page.parent),
            measured(preset),
            notes,
        )
        print(write_page(page, figures, claims(preset), context))
    except (ValueError, OSError) as error:
        print(f"{program}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for name, why in failed.items():
        print(f"{program}: {name}: {why}", file=sys.stderr)
    return 1 if failed else 0


def chosen(args: argparse.Namespace) -> Preset:
    """The preset with what the options change of it.

    Raises:
        ValueError: If no run is left, or a dial or setting cannot be read.
    """
    preset = PRESETS[args.preset](tuple(dict.fromkeys(args.seeds))) if args.seeds else PRESETS[args.preset]()
    runs = [run for run in preset.runs if not args.only or any(part in run.name for part in args.only)]
    if not runs:
        raise ValueError(f"No run is called like {' or '.join(args.only)}; --list shows the names.")
    steps = preset.steps if args.steps is None else dict.fromkeys(preset.steps, args.steps)
    dials = parse(args.dial)
    preset = replace(
        preset,
        worlds={name: with_dials(world, dials) for name, world in preset.worlds.items()},
        steps=steps,
        runs=tuple(runs),
        processes=args.processes or preset.processes,
        settings=parse(args.set),
    )
    base_recipe(preset)  # a wrong setting is told before worlds are generated
    return preset


@dataclass(frozen=True)
class Made:
    """How the runs of a folder came about, over all calls.

    Args:
        minutes: Time that the calls took.
        commits: Of the code that trained.
    """

    minutes: float = 0.0
    commits: tuple[str, ...] = ()


def _train(preset: Preset, out: Path) -> dict[str, str]:
    """Train, and add the time it took to that of earlier calls."""
    out.mkdir(parents=True, exist_ok=True)
    before, start = _made(out), time.monotonic()
    commits = tuple(dict.fromkeys([*before.commits, commit()]))
    try:
        return train_all(preset, out, preset.processes, lambda line: print(line, flush=True))
    finally:
        made = Made(before.minutes + (time.monotonic() - start) / 60, commits)
        (out / MADE).write_text(json.dumps(asdict(made)) + "\n", encoding="utf-8")


def _made(out: Path) -> Made:
    if not (out / MADE).is_file():
        return Made()
    found = json.loads((out / MADE).read_text(encoding="utf-8"))
    return Made(found["minutes"], tuple(found["commits"]))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        program,
        description="Do VSG and MRC work? Trains small models with and without them on generated worlds, several "
        "seeds each, and writes a page with intervals. A second call goes on where the first one stopped.",
        allow_abbrev=False,
    )
    parser.add_argument("--preset", choices=PRESETS, required=True, help="cpu: two cores, an hour; gpu: one large GPU")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="worlds and runs")
    parser.add_argument(
        "--page",
        type=Path,
        metavar="FILE",
        help="the page; plots and results.csv in a folder beside it (default: evidence.md in --out)",
    )
    parser.add_argument("--notes", type=Path, metavar="FILE", help="Markdown for the page: what was tried before")
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        metavar="N",
        help="other seeds than the preset's; some runs have the first two or three only",
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help="runs whose names hold one of these")
    parser.add_argument(
        "--steps", type=_positive, metavar="N", help="other lengths than the preset's, to try the command"
    )
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="of the recipe, as model.optimizer.lr=2e-3"
    )
    parser.add_argument(
        "--dial", nargs="+", default=[], metavar="NAME=VALUE", help="of the generated worlds, as label_noise=0.1"
    )
    parser.add_argument("--processes", type=_positive, metavar="N", help="runs side by side (default: the preset's)")
    parser.add_argument("--list", action="store_true", help="the names of the runs")
    parser.add_argument("--report", action="store_true", help="write the page of what is there, train nothing")
    return parser
