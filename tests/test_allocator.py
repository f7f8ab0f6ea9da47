"""Freed memory that the C library keeps."""

import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from relpretrain.training import header
from relpretrain.zeroshot.scorers import build

CODE = """
import ctypes, os, resource, sys
from relpretrain.allocator import keep_freed_memory

kept = keep_freed_memory() if sys.argv[1] != "plain" else False
if sys.argv[1] == "fork" and (child := os.fork()):
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
library, size = ctypes.CDLL(None), 40_000_000  # more than any threshold that malloc takes by itself
library.malloc.restype, library.memset.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    block = library.malloc(size)
    library.memset(block, 1, size)
    library.free(block)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def faults(way, **more):
    """What `keep_freed_memory` said, and the page faults of 20 large blocks, each freed before the next."""
    chosen = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "THP_MEM")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(chosen)}
    command = [sys.executable, "-c", CODE, way]
    done = subprocess.run(command, env=environment | more, capture_output=True, text=True, check=True)
    said, number = done.stdout.split()
    return said == "True", int(number)


@glibc
def test_memory_that_was_freed_is_used_again_without_asking_the_system():
    _, without = faults("plain")
    if without < 100_000:
        pytest.skip(f"the system gives memory in large pages: {without} for 20 times 40 MB")
    said, number = faults("keep")
    assert said
    assert number < without / 2  # the heap needs a few rounds until a block fits where one was


@glibc
def test_a_forked_process_such_as_a_data_worker_gives_memory_back():
    _, without = faults("plain")
    if without < 100_000:
        pytest.skip(f"the system gives memory in large pages: {without} for 20 times 40 MB")
    assert faults("fork")[1] > 0.9 * without


@glibc
@pytest.mark.parametrize("variable", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_the_environments_choice_stands(variable):
    value = "1" if variable.startswith("MALLOC") else "glibc.malloc.arena_max=1"
    assert not faults("keep", **{variable: value})[0]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_training_and_scoring_keep_it_on_a_cpu(monkeypatch, device):
    called = []
    for module in (header, build):
        monkeypatch.setattr(module, "keep_freed_memory", lambda: called.append(True))
    strategy = SimpleNamespace(root_device=torch.device(device))
    header.Threads(1).setup(SimpleNamespace(strategy=strategy), torch.nn.Linear(1, 1), "fit")
    arguments = SimpleNamespace(batch_size=1, constant=True)
    build._build(arguments, device)
    assert len(called) == (2 if device == "cpu" else 0)
