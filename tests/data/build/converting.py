"""Conversions for tests: small ones, in a process that is killed in the midst or whose disk is full."""

import errno
import io
import json
import os
import signal
import tarfile
from pathlib import Path

from relpretrain.cli import main


def convert(*words):
    return main(["data", "convert", *map(str, words)])


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def records(folder):
    found = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            found += [json.load(tar.extractfile(m)) for m in tar if m.name.endswith(".json")]
    return found


def words(photos, out, *more, workers=1):
    shape = ("--samples-per-shard", 4, "--workers", workers)
    return ("vrd", "--images", photos, "--annotations", photos / "annotations.json", "--out", out, *shape, *more)


def in_a_child(run):
    """Run a function in a forked process; return how it ended."""
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            run()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at(module, name, call, after):
    """Make the n-th call of a function the process's last: before it, or after it."""
    original = getattr(module, name)
    calls = 0

    def killing(*args, **more):
        nonlocal calls
        calls += 1
        if calls == call and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **more)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(module, name, killing)


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class FullDisk(io.FileIO):
    room = 9000

    def write(self, data):
        if self.tell() + len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def fill_disk_at(monkeypatch, number):
    """The shard of that number meets a full disk."""
    real = Path.open

    def full(self, mode="r", *args, **more):
        if self.name == f".shard-{number:06d}.tar.part":
            return FullDisk(self, mode)
        return real(self, mode, *args, **more)

    monkeypatch.setattr(Path, "open", full)
