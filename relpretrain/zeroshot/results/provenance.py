"""What produced a result: version, commit and hardware, as reports record them."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from relpretrain.version import __version__

_ROOT = Path(__file__).resolve().parents[3]


def describe(command: Sequence[str], seed: int, device: str = "") -> dict[str, Any]:
    """The metadata of a report: version, commit, hardware, seed and command, and the device if one is used."""
    made = {"relpretrain": __version__} | ({"commit": found} if (found := commit()) else {})
    made |= {"torch": torch.__version__, "python": platform.python_version(), "hardware": hardware(device)}
    return made | ({"device": device} if device else {}) | {"seed": seed, "command": " ".join(command)}


def hardware(device: str = "") -> str:
    """The GPU if the device is one, the kind and number of processors, and the operating system."""
    gpu = torch.cuda.get_device_name(torch.device(device)) if device.startswith("cuda") else ""
    return ", ".join(filter(None, (gpu, f"{platform.machine()}, {os.cpu_count()} CPUs", platform.system())))


def commit(root: Path = _ROOT) -> str:
    """The commit of the checkout that the package runs from, with "+" if files have changed; "" outside of one."""
    if not (root / ".git").exists():
        return ""
    answers = []
    for question in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            asked = subprocess.run(["git", "-C", str(root), *question], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return ""
        answers.append(asked.stdout.strip())
    return answers[0] + ("+" if answers[1] else "")
