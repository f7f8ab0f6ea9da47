"""On what code and hardware an ablation ran, found by asking."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from relpretrain.evidence.design import Preset
from relpretrain.evidence.results import MAIN

_PACKAGES = ("torch", "lightning", "transformers", "timm")


def commit() -> str:
    """The commit of this code, with "+ changes" where files differ from it; "unknown" outside a clone."""
    home = Path(__file__).parents[2]
    try:
        found = [
            subprocess.run(["git", "-C", str(home), *arguments], capture_output=True, text=True, check=True).stdout
            for arguments in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found[0].strip() + (" + changes" if found[1].strip() else "")


def hardware() -> str:
    """The GPU, or the processor and the number of its cores."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores"
    names = [line for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    name = names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores of {name}, no GPU"


def versions() -> str:
    """Python and the packages that figures depend on."""
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in _PACKAGES)])


def measured(preset: Preset) -> str:
    """How a preset measures, in Markdown: its worlds, runs and recipe."""
    seeds = ", ".join(map(str, sorted({run.seed for run in preset.runs})))
    lines = [
        f"Every run is a recipe, derived from `recipes/{preset.recipe.name}`, and trained by the command of "
        f"`lightning fit`; it lies in the folder of the run. Seeds {seeds}: each has its own world, with its own "
        f"held-out compositions, and its own initial weights, which all arms share. {len(preset.runs)} runs, "
        f"{preset.processes} side by side.",
        "",
        f"Arms have equal numbers of steps. Captions and graphs share them {MAIN['mixture']}, if there are graphs: an "
        "arm with relation objectives takes fewer steps on captions than the baseline, which has no others (X-VLM: "
        "and those on regions). MRC alone trains matching on these captions only.",
        "",
    ]
    for world, dials in preset.worlds.items():
        if any(run.world == world for run in preset.runs):
            given = ", ".join(f"`{name}` {value}" for name, value in dials.items())
            lines.append(f"- World of {world}, {preset.steps[world]:,} steps a run: {given}.")
    return "\n".join(lines)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
