"""Freed memory that the C library keeps."""

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import torch
from relpretrain.allocator import keep_freed_memory

kept = keep_freed_memory() if sys.argv[1] == "keep" else False
torch.set_num_threads(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    big = torch.ones(10_000_000)  # 40 MB: more than any threshold that malloc takes by itself
    del big
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def faults(way, **more):
    """What `keep_freed_memory` said, and the page faults of 20 large tensors, each freed before the next."""
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
    assert number < without / 2  # the heap needs a few rounds until a tensor fits where one was


@pytest.mark.parametrize("variable", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_the_environments_choice_stands(variable):
    value = "1" if variable.startswith("MALLOC") else "glibc.malloc.arena_max=1"
    assert not faults("keep", **{variable: value})[0]
