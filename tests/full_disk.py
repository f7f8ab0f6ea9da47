"""Commands in a process of their own, on a disk of so many bytes that only this process sees."""

import contextlib
import ctypes
import os
import shutil
import sys
import time
import warnings
from pathlib import Path

import torch

from relpretrain.cli import main
from tests import processes
from tests.training.survival_run import working

_NEWNS, _NEWUSER = 0x00020000, 0x10000000
_PRIVATE = 16384 | 1 << 18  # MS_REC | MS_PRIVATE: the mount is gone with the process
_PATIENCE = 120


def run(disk, size, arguments, keep):
    """Run `relpretrain` with the folder `disk` a file system of `size` bytes.

    Returns:
        The exit code, what was printed, and the processes left behind. The files are copied to the folder `keep`.
    """
    log = keep.with_name(f"{keep.name}.log")
    process = processes.context().Process(target=_body, args=(disk, size, [str(a) for a in arguments], keep, log))
    process.start()
    process.join(_PATIENCE)
    group, until = process.pid, time.monotonic() + 10
    while (left := _of_group(group)) and time.monotonic() < until:
        time.sleep(0.05)
    return process.exitcode, log.read_text(), left


def _of_group(group):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            if int(stat.read_text().rpartition(")")[2].split()[2]) == group and working(int(stat.parent.name)):
                found.append(int(stat.parent.name))
    return found


def can_mount():
    """Whether this system lets us."""
    process = processes.context().Process(target=_mount, args=(Path("/tmp"), 1 << 20))
    process.start()
    process.join()
    return process.exitcode == 0


def _mount(disk, size):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEWNS | (_NEWUSER if os.getuid() else 0)):
        os._exit(77)
    if libc.mount(b"none", b"/", None, _PRIVATE, None) or libc.mount(
        b"tmpfs", bytes(disk), b"tmpfs", 0, f"size={size}".encode()
    ):
        os._exit(77)


def _body(disk, size, arguments, keep, log):
    os.setpgid(0, 0)
    _mount(disk, size)
    os.environ["TMPDIR"] = str(disk)
    sys.stdout = sys.stderr = open(log, "a", buffering=1)  # noqa: SIM115
    for number in (1, 2):
        os.dup2(sys.stderr.fileno(), number)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.chdir(disk.parent)
    code = main(arguments)
    shutil.copytree(disk, keep)
    sys.exit(code)
