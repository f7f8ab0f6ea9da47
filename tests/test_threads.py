import os
import threading

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from relpretrain import threads
from relpretrain.errors import ConfigError
from relpretrain.threads import choose_threads, in_threads


@pytest.fixture
def two(monkeypatch):
    """A process with two threads, of which the environment says nothing."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def test_a_tiny_model_gets_one_thread_and_says_so(two):
    assert "one thread (tiny model; " in choose_threads(nn.Linear(3, 3))
    assert torch.get_num_threads() == 1
    assert choose_threads(nn.Linear(3, 3)) == ""  # nothing was changed


def test_other_models_keep_all_cores(two, monkeypatch):
    monkeypatch.setattr(threads, "TINY", 11)
    assert choose_threads(nn.Linear(3, 3)) == ""
    assert torch.get_num_threads() == 2


def test_what_a_user_says_goes_before_the_size(two, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert choose_threads(nn.Linear(3, 3)) == ""
    assert torch.get_num_threads() == 2
    assert choose_threads(nn.Linear(3, 3), 1) == "threads: 1, as asked"
    assert torch.get_num_threads() == 1
    with pytest.raises(ConfigError, match="threads=0 must be at least 1"):
        choose_threads(nn.Linear(3, 3), 0)


class Threads(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return torch.get_num_threads()


def test_data_workers_have_one_thread_each(two):
    assert set(DataLoader(Threads(), batch_size=None, num_workers=1)) == {1}


def test_tests_and_the_processes_that_they_start_have_one_thread():
    """The environment says so, which processes inherit; torch reads it when it is imported."""
    assert f"OMP_NUM_THREADS : {os.environ['OMP_NUM_THREADS']}" in torch.__config__.parallel_info()
    assert torch.get_num_threads() == 1


def test_work_in_threads_keeps_its_order_and_goes_on_at_once(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    meeting = threading.Barrier(4, timeout=20)  # passed only by four at a time

    def meet(number):
        meeting.wait()
        return -number

    assert in_threads(meet, range(8)) == [-number for number in range(8)]
    with pytest.raises(ValueError, match="'x'"):
        in_threads(int, ["1", "x", "y"])
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")  # other processes have the other cores
    assert in_threads(lambda _: threading.current_thread(), range(2)) == [threading.main_thread()] * 2
