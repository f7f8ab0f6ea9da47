"""A model, not a measurement, of training on many GPUs: step times, their limits, GPU-hours and cost of known runs.

python benchmarks/step.py --data DIR --count --sizes base --models REX-VLM --json counts.json
python benchmarks/cluster_model.py counts.json

A step of a stream takes as long as the slowest of

- compute: its counted FLOPs, over the GPU's bf16 peak times `--efficiency`;
- memory: the counted bytes of all its operations as bf16, none fused, and 40 bytes a parameter for gradient and AdamW
  in fp32, over the bandwidth;
- network: an all-reduce of the gradients in fp32, of which two thirds of the compute time (the backward pass) hide
  their part; inside a machine of 8 GPUs at NVLink's rate, beyond at the network's;
- loader: its images, over `--loader-rate` images a second and core, on the machine's cores of a GPU.

A batch is cut into whole images, so a GPU never has less than one. Streams come by the recipe's ratios.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.step import MIXTURES
from relpretrain.backbones import XVLM
from relpretrain.zeroshot.report.terminal import markdown_table

STEPS = {"3M": 200_000, "13M": 500_000}
"""Of the paper's runs, by images."""


class GPU(NamedTuple):
    """Published numbers: dense bf16 FLOP/s, bytes/s of memory, and of links in one direction, inside and outside."""

    flops: float
    memory: float
    inside: float
    outside: float


GPUS = {"H200": GPU(989e12, 4.8e12, 450e9, 50e9), "A100": GPU(312e12, 2.0e12, 300e9, 25e9)}
"""Outside: 400 and 200 Gbit/s for each GPU, as in the vendor's own machines."""


def step_times(rows: dict[str, Any], name: str, gpu: GPU, number: int, args: argparse.Namespace) -> dict[str, float]:
    """Seconds of a mean step of a recipe on so many GPUs, by what limits it; "step" is the whole."""
    streams = MIXTURES[name]
    share = sum(ratio for _, ratio in streams.values())
    found = dict.fromkeys(("compute", "memory", "network", "loader", "step"), 0.0)
    for stream, (images, ratio) in streams.items():
        own = math.ceil(images / number)
        compute = own * rows[stream]["gflop_an_image"] * 1e9 / (gpu.flops * args.efficiency)
        memory = (own * rows[stream]["gb_an_image"] * 1e9 / 2 + 40 * args.parameters) / gpu.memory
        link = gpu.inside if number <= 8 else gpu.outside
        network = 2 * (number - 1) / number * 4 * args.parameters / link
        loader = own / (args.loader_rate * args.cores)
        # What the backward pass does not hide of the network comes on top.
        whole = max(max(compute, memory) + max(0.0, network - 2 / 3 * compute), loader)
        for key, seconds in zip(found, (compute, memory, network, loader, whole), strict=True):
            found[key] += ratio / share * seconds
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("counts", type=Path, help="what `step.py --count --json` wrote of REX-VLM")
    parser.add_argument("--efficiency", type=float, default=0.4, help="share of the peak that products reach")
    parser.add_argument("--loader-rate", type=float, default=100.0, help="images a second and core")
    parser.add_argument("--cores", type=int, default=16, help="of a GPU")
    parser.add_argument("--prices", type=float, nargs=2, default=[3.5, 1.8], help="dollars an hour: H200, A100")
    args = parser.parse_args(arguments)
    rows = {row["stream"]: row for row in json.loads(args.counts.read_text(encoding="utf-8"))["rows"]}
    with torch.device("meta"):
        args.parameters = sum(p.numel() for p in XVLM("base").parameters())
    table, runs = [], []
    for (kind, gpu), price in zip(GPUS.items(), args.prices, strict=True):
        for number in (1, 8, 64, 512):
            times = step_times(rows, "REX-VLM", gpu, number, args)
            exposed = {key: times[key] for key in ("compute", "memory", "network", "loader")}
            limit = max(exposed, key=lambda key: exposed[key])
            cells = [f"{1e3 * times[key]:.1f}" for key in (*exposed, "step")]
            table.append([kind, str(number), *cells, limit])
        for name in MIXTURES:
            for corpus, steps in STEPS.items():
                times = step_times(rows, name, gpu, 8, args)
                hours = steps * times["step"] * 8 / 3600
                runs.append([name, corpus, kind, f"{steps * times['step'] / 3600:,.0f}", f"{hours:,.0f}"])
                runs[-1].append(f"{hours * price:,.0f}")
    print("REX-VLM, base size, milliseconds of a mean step:\n")
    print(markdown_table(["GPU", "number", "compute", "memory", "network", "loader", "step", "longest"], table))
    print("\nRuns on 8 GPUs:\n")
    print(markdown_table(["model", "images", "GPU", "hours", "GPU-hours", "dollars"], runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
