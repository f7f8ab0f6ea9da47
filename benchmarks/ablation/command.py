"""The command: trains every run of a preset that is not there yet, and writes the page of what came out."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.ablation.design import PRESETS, ROOT, Preset
from benchmarks.ablation.pages.graph_page import write_graph_page
from benchmarks.ablation.pages.objective_page import write_objective_page
from benchmarks.ablation.pages.page import write_page
from benchmarks.ablation.pages.paragraphs import Context
from benchmarks.ablation.recipe import base_recipe, parse_settings, with_options
from benchmarks.ablation.results import write_results
from benchmarks.ablation.runs import collect, train_all
from relpretrain.errors import positive
from relpretrain.zeroshot.results.provenance import commit

_PROGRAM = "ablation"
_WRITERS = {"graphs": write_graph_page, "objectives": write_objective_page}
_PACKAGES = ("torch", "lightning", "transformers", "timm")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program's name; those of the process if None.

    Returns:
        0; 1 if a run failed; 2 after a mistake, which is named in one line on the standard error.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(argv)
    try:
        preset = chosen(args)
        notes = args.notes.read_text(encoding="utf-8") if args.notes else ""  # before an hour of training
        if args.list:
            print("\n".join(run.name for run in preset.runs))
            return 0
        failed = {} if args.report else _train(preset, args.out)
        results = collect(preset, args.out)
        if results.empty:
            raise ValueError(f"{args.out} holds no finished run.")
        page = args.page or args.out / "evidence.md"
        table = page.parent / page.stem / "results.csv"
        write_results(table, results)
        command = f"python benchmarks/{_PROGRAM}.py {shlex.join(arg for arg in argv if arg != '--report')}"
        versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in _PACKAGES)]
        commits, minutes = _made(args.out)["commits"], _made(args.out)["minutes"]
        shown = os.path.relpath(table, page.parent)
        context = Context(command, ", ".join(commits), _hardware(), ", ".join(versions), minutes, shown, notes)
        print(_WRITERS.get(preset.name, write_page)(page, results, preset, context))
    except (ValueError, OSError) as error:
        print(f"{_PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for name, why in failed.items():
        print(f"{_PROGRAM}: {name}: {why}", file=sys.stderr)
    return 1 if failed else 0


def chosen(args: argparse.Namespace) -> Preset:
    """The preset with what the options change of it.

    Raises:
        ValueError: If no run is left, or an option of a world or a setting cannot be read.
    """
    preset = PRESETS[args.preset](tuple(dict.fromkeys(args.seeds))) if args.seeds else PRESETS[args.preset]()
    runs = tuple(run for run in preset.runs if not args.only or any(part in run.name for part in args.only))
    if not runs:
        raise ValueError(f"No run is called like {' or '.join(args.only)}; --list shows the names.")
    options = parse_settings(args.dial)
    preset = replace(
        preset,
        worlds={name: with_options(world, options) for name, world in preset.worlds.items()},
        steps=preset.steps if args.steps is None else dict.fromkeys(preset.steps, args.steps),
        runs=runs,
        processes=args.processes or preset.processes,
        settings={**preset.settings, **parse_settings(args.set)},
    )
    base_recipe(preset)  # a wrong setting is told before worlds are generated
    return preset


def _train(preset: Preset, out: Path) -> dict[str, str]:
    """Train; add the time it took to that of earlier calls, and the commit to theirs."""
    out.mkdir(parents=True, exist_ok=True)
    made, start = _made(out), time.monotonic()
    full = commit(ROOT)
    short = full[:7] + (" + changes" if full.endswith("+") else "") if full else "unknown"
    made["commits"] = list(dict.fromkeys([*made["commits"], short]))
    try:
        return train_all(preset, out, lambda line: print(line, flush=True))
    finally:
        made["minutes"] += (time.monotonic() - start) / 60
        (out / "made.json").write_text(json.dumps(made) + "\n", encoding="utf-8")


def _made(out: Path) -> dict[str, Any]:
    """How the runs of a folder came about, over all calls: "minutes" they took, "commits" of the code that trained."""
    path = out / "made.json"
    return {"minutes": 0.0, "commits": []} | (json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {})


def _hardware() -> str:
    """The GPU, or the processor and the number of its cores."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores"
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {(names or [platform.processor() or platform.machine()])[0]}, no GPU"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        _PROGRAM,
        description="Do VSG and MRC work? Trains small models with and without them on generated worlds, several "
        "seeds each, and writes a page with intervals. A second call goes on where the first one stopped.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    several: dict[str, Any] = {"nargs": "+", "default": []}
    add(
        "--preset",
        choices=PRESETS,
        required=True,
        help="cpu: two cores, an hour; gpu: one large GPU; graphs: where graphs come from, two cores, half an hour; "
        "objectives: newer objectives, two cores, an hour",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="worlds and runs")
    page = "the page; plots and results.csv in a folder beside it (default: evidence.md in --out)"
    add("--page", type=Path, metavar="FILE", help=page)
    add("--notes", type=Path, metavar="FILE", help="Markdown for the page: what was tried before")
    seeds = "other seeds than the preset's; some runs have the first two or three only"
    add("--seeds", type=int, nargs="+", metavar="N", help=seeds)
    add("--only", **several, metavar="PART", help="runs whose names hold one of these")
    add("--steps", type=positive, metavar="N", help="other lengths than the preset's, to try the command")
    add("--set", **several, metavar="KEY=VALUE", help="of the recipe, as model.optimizer.lr=2e-3")
    add("--dial", **several, metavar="NAME=VALUE", help="of the generated worlds, as label_noise=0.1")
    add("--processes", type=positive, metavar="N", help="runs side by side (default: the preset's)")
    add("--list", action="store_true", help="the names of the runs")
    add("--report", action="store_true", help="write the page of what is there, train nothing")
    return parser
