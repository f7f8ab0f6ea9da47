"""Is the memory of training flat? Trains by a recipe for thousands of steps, and tells what its process holds.

    relpretrain data synthetic runs/quickstart/data
    python benchmarks/soak.py --config recipes/quickstart.yaml --steps 2000

Prints, at each mark, the resident memory of the training process (its own, without the loader's workers), how many
tensors and how many of their bytes are alive, and how many files are open. Options after `--` go to `relpretrain fit`.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

from relpretrain.cli import main as relpretrain

MARKS = 10
"""Of a run, the first after a tenth of its steps."""


class Memory(Callback):
    """Notes what the process holds after every `every` optimizer steps.

    Args:
        every: Steps between two notes.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.found: list[tuple[int, float, int, float, int]] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Note: step, resident MB, tensors alive and their MB, open files."""
        if trainer.global_step % self.every == 0:
            gc.collect()
            alive = [found for found in gc.get_objects() if type(found) in (torch.Tensor, torch.nn.Parameter)]
            storages = {found.untyped_storage().data_ptr(): found.untyped_storage().nbytes() for found in alive}
            self.found.append(
                (trainer.global_step, resident_mb(), len(alive), sum(storages.values()) / 2**20, open_files())
            )
            line = "step {:,}: {:,.1f} MB resident, {:,} tensors of {:,.2f} MB, {:,} open files"
            print(line.format(*self.found[-1]), flush=True)


def resident_mb() -> float:
    """Resident memory of this process; Linux only."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files() -> int:
    """Files, pipes and sockets that this process has open; Linux only."""
    return len(os.listdir("/proc/self/fd"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, and print the notes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default="recipes/quickstart.yaml", help="the recipe (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=2000, help="default: %(default)s")
    args, further = parser.parse_known_args(arguments)
    with tempfile.TemporaryDirectory(prefix="relpretrain-soak-") as folder:
        every = max(1, args.steps // MARKS)
        options = [f"--run={folder}/run", f"--trainer.max_steps={args.steps}", "--trainer.val_check_interval=null"]
        options += ["--trainer.callbacks+=benchmarks.soak.Memory", f"--trainer.callbacks.every={every}"]
        return relpretrain(["fit", "-c", args.config, *options, *(o for o in further if o != "--")])


if __name__ == "__main__":
    sys.exit(main())
