"""A process that hangs is named by the others when the time-out is over."""

import datetime
import os
import signal
import time
from unittest import mock

import pytest
import torch
import torch.distributed as dist

from relpretrain.cli import user_message
from relpretrain.errors import ConfigError
from relpretrain.training.survival import peers
from tests import processes

HANGING = {
    "stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "waiting for its data": lambda: time.sleep(600),
}


def rank_of_two(folder, rank, hanging, how):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    where = {"init_method": f"file://{folder}/rendezvous", "rank": rank, "world_size": 2}
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60), **where)
    watch = peers.Peers()
    watch.on_fit_start(None, None)
    if rank == hanging:
        HANGING[how]()
    dist.distributed_c10d._set_pg_timeout(datetime.timedelta(seconds=1))  # all have come this far
    with mock.patch.multiple(peers, _PATIENCE=0.3, _SILENCE=1.0):
        try:
            dist.broadcast(torch.zeros(2), 1 - rank)
        except RuntimeError as error:
            watch.on_exception(None, None, error)
            (folder / "said").write_text("\n".join(user_message(error) or [f"no line for {error}"]))
    os._exit(0)  # the group cannot be left in order


@pytest.mark.skipif(torch.__version__ < "2.7", reason="torch 2.6 cannot shorten the time-out of a group of gloo")
@pytest.mark.parametrize(("how", "hanging"), [("stopped", 1), ("waiting for its data", 0)])
def test_a_hanging_rank_is_named(tmp_path, how, hanging):
    context = processes.context()
    ranks = [context.Process(target=rank_of_two, args=(tmp_path, rank, hanging, how)) for rank in range(2)]
    for process in ranks:
        process.start()
    ranks[1 - hanging].join(60)
    ranks[hanging].kill()
    ranks[hanging].join()
    said = (tmp_path / "said").read_text()
    pid, other = ranks[hanging].pid, 1 - hanging
    assert said.startswith(f"rank {hanging} (process {pid} on "), said
    assert said.endswith(f") does not answer: rank {other} ends, too")


@pytest.mark.parametrize(("steps", "said"), [((300, None), "from step 300.* from the start"),
                                             ((None, 7), "from the start.* from step 7")])  # fmt: skip
def test_machines_that_see_different_folders_are_told(monkeypatch, steps, said):
    """With --ckpt_path=auto, one would go on and the other begin."""
    monkeypatch.setattr(peers, "is_distributed", lambda: True)
    monkeypatch.setattr(peers, "gather_objects", lambda own: [("a", 1, steps[0]), (*own[:2], steps[1])])
    watch = peers.Peers()
    with pytest.raises(ConfigError, match=rf"rank 0 \(process 1 on a\) begins {said}: the run's folder must be one"):
        watch.on_fit_start(None, None)
