"""Runs of the command line in processes of their own, to be told to stop or killed at any moment."""

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import sys
import time
import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch
import yaml
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from relpretrain.cli import main
from relpretrain.scene_graph import RelationVocabulary
from tests import processes
from tests.data.small import tokenizer, write_shards
from tests.resume_run import digest

STEPS = 12
"""Of a whole run."""

BOTH = ("--trainer.devices=2", "--trainer.strategy=ddp")
"""Arguments of two ranks."""

PATIENCE = 300
"""Seconds that a run may take."""


class Trace(pl.Callback):
    """Writes what a run is doing, and the digest of its last weights; sends itself a signal where that is wanted."""

    def __init__(self, path: str = "trace.jsonl", tell: str = "", at: int = -1, validating: bool = False) -> None:
        self.path, self.tell, self.at, self.validating = Path(path), tell, at, validating

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.at == batch.step and not self.validating:
            self._tell(trainer)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if not trainer.sanity_checking:
            self.path.with_name("validating").touch()
        if self.validating and trainer.global_step == self.at and not trainer.sanity_checking and batch_idx == 1:
            self._tell(trainer)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self._write(trainer, {"step": batch.step, "loss": float(outputs["loss"]).hex()})

    def on_train_end(self, trainer, pl_module):
        self._write(trainer, {"weights": digest(pl_module.state_dict().values())})

    def _tell(self, trainer):
        if self.tell == "crash":
            raise ArithmeticError("a crash")
        first_life = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
        if first_life and trainer.global_rank == trainer.world_size - 1:  # one of them is enough
            os.kill(os.getpid(), getattr(signal, self.tell))

    def _write(self, trainer, line):
        if trainer.is_global_zero:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")


def write_home(folder, **trainer):
    """Shards, tokenizer and recipe of a small run in a folder."""
    write_shards(folder / "shards")
    RelationVocabulary(("beside", "on", "under")).save(folder / "relations.json")
    stream = {"datasets": {"small": "shards"}, "batch_size": 4}
    recipe = {
        "run": "run",
        "trainer": {
            "max_steps": STEPS, "accelerator": "cpu", "log_every_n_steps": 1, "val_check_interval": 4,
            "callbacks": [
                {"class_path": "ModelCheckpoint",
                 "init_args": {"every_n_train_steps": 3, "save_last": True, "enable_version_counter": False}},
                {"class_path": "tests.training.survival_run.Trace"},
            ],
            **trainer,
        },
        "model": {
            "backbone": {"class_path": "ALBEF", "init_args": {"size": "tiny", "image_size": 16, "vocab_size": 128}},
            "objectives": {
                "itc": {"class_path": "ITC"}, "mlm": {"class_path": "MLM"},
                "mrc": {"class_path": "MRC", "init_args": {"vocabulary": "relations.json"}},
            },
            "optimizer": {"lr": 1e-3, "warmup_steps": 2},
        },
        "data": {
            "tokenizer": str(tokenizer(folder)), "image_size": 16, "num_workers": 1,
            "streams": {
                "captions": {"kind": "captions", "objectives": ["itc", "mlm"], **stream},
                "graphs": {"kind": "graphs", "objectives": ["mrc"], **stream},
            },
            "validation": {"v": {"kind": "captions", "objectives": ["itc"], **stream}},
        },
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))


def fit(folder, log, arguments, rank, world, port):
    """The body of a process: `relpretrain fit`, in a group of its own."""
    os.setpgid(0, 0)
    if world > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), NODE_RANK="0",
                          LOCAL_RANK=str(rank), WORLD_SIZE=str(world))  # fmt: skip
        arguments = [*BOTH, *arguments]
    sys.exit(_fit(folder, log, arguments))


def torchrun(folder, log, arguments):
    """The same on two ranks under torchrun's agent, which starts both again when one fails."""
    config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=2, run_id="x", rdzv_backend="c10d",
                          rdzv_endpoint="localhost:0", max_restarts=1, monitor_interval=0.05,
                          start_method="forkserver")  # fmt: skip
    # Some versions of torch keep the agent's store, and with it the addresses of the dead processes.
    os.environ.update(GLOO_SOCKET_IFNAME="lo", TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
    processes.context()  # for the ranks: what this process was forked from is out of its reach
    elastic_launch(config, _fit)(folder, log, [*arguments, *BOTH])


def _fit(folder, log, arguments):
    multiprocessing.set_start_method("fork", force=True)  # of data workers, as by default on Linux
    os.chdir(folder)
    sys.stdout = sys.stderr = open(log, "a", buffering=1)  # noqa: SIM115  (until the process ends)
    os.dup2(sys.stderr.fileno(), 1)
    os.dup2(sys.stderr.fileno(), 2)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    return main(["fit", "-c", "recipe.yaml", *arguments])


class Run:
    """One command, a process to a rank."""

    def __init__(self, context, folder, *arguments, world=1, log="log.txt"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.folder, self.logs = folder, [folder / f"{rank}-{log}" for rank in range(world)]
        self.processes = [
            context.Process(target=fit, args=(folder, self.logs[rank], list(arguments), rank, world, port))
            for rank in range(world)
        ]
        for process in self.processes:
            process.start()

    def finish(self):
        """Wait; the exit codes."""
        for process in self.processes:
            process.join(PATIENCE)
        return [process.exitcode for process in self.processes]

    def kill_when(self, moment):
        """SIGKILL the first process as soon as `moment()` is true; whether it came to that."""
        until, process = time.monotonic() + PATIENCE, self.processes[0]
        while not moment() and process.is_alive():
            assert time.monotonic() < until, self.said()
            time.sleep(0.0005)
        workers, alive = self.workers(), process.is_alive()
        with contextlib.suppress(ProcessLookupError):  # it had ended: no hit
            os.kill(process.pid, signal.SIGKILL)
        process.join(PATIENCE)
        while any(map(working, workers)):  # they look every two seconds
            assert time.monotonic() < until, "orphans"
            time.sleep(0.05)
        return alive

    def said(self):
        return "".join(log.read_text() for log in self.logs if log.exists())[-4000:]

    def workers(self):
        found = []
        for process in self.processes:
            listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            found += [int(pid) for pid in listed.read_text().split()] if listed.exists() else []
        return found


def working(pid):
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def trace(folder):
    return [json.loads(line) for line in (folder / "trace.jsonl").read_text().splitlines()]
