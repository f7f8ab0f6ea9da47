"""Run a function on two gloo processes and collect what each returns."""

import datetime
import os
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests import processes


def _enter(rank, function, folder, arguments):
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    patience = datetime.timedelta(seconds=60)  # ranks that wait for each other fail instead of hanging
    where = {"init_method": f"file://{folder}/rendezvous", "rank": rank, "world_size": 2}
    dist.init_process_group("gloo", timeout=patience, **where)
    try:
        torch.save(function(rank, *arguments), Path(folder) / f"{rank}.pt")
        # torch 2.6 destroys a group holding the lock that a finished collective may still want: let it end first.
        dist.barrier()
        time.sleep(0.2)
    finally:
        dist.destroy_process_group()


def run(function, *arguments):
    """Call `function(rank, *arguments)` on ranks 0 and 1; return both results."""
    with tempfile.TemporaryDirectory() as folder:
        processes.context()
        mp.start_processes(_enter, (function, folder, arguments), nprocs=2, start_method="forkserver")
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(2)]
