"""A run killed at any moment and resumed is the run that was never killed: samples, batches and losses, to the bit.

Each run is a process of its own, killed with SIGKILL while it works.
"""

import json
import os
import shutil
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from tests import processes, resume_run
from tests.data.server import Server
from tests.data.small import tokenizer, write_shards

STEPS = 14


@pytest.fixture(scope="module")
def context():
    return processes.context()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Shards and tokenizer, and the logs of runs that nothing disturbed."""
    folder = tmp_path_factory.mktemp("home")
    write_shards(folder / "shards")
    tokenizer(folder)
    return folder


class Run:
    """A run's processes, one to a rank."""

    def __init__(self, context, folder, name, world=1, workers=0, estimate=False, epoch=None, accumulate=1):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.logs = [folder / f"{name}-{rank}.jsonl" for rank in range(world)]
        arguments = (world, port, str(folder), name, STEPS // accumulate, workers, estimate, epoch, accumulate)
        self.processes = [context.Process(target=resume_run.train, args=(r, *arguments)) for r in range(world)]
        for process in self.processes:
            process.start()

    def finish(self):
        for process in self.processes:
            process.join(resume_run.PATIENCE)
        codes = [process.exitcode for process in self.processes]
        assert codes == [0] * len(codes), self.logs[0].with_suffix(".out").read_text()[-3000:]
        return self.lines()

    def kill(self, step, pause):
        """SIGKILL all processes a moment after `step` was logged (-1: after the start)."""
        end = time.monotonic() + resume_run.PATIENCE
        while len(self.lines()[0]) <= step and time.monotonic() < end and self.processes[0].is_alive():
            time.sleep(0.002)
        time.sleep(pause)
        self.workers = [int(pid) for process in self.processes for pid in _children(process.pid)]
        for process in self.processes:
            os.kill(process.pid, signal.SIGKILL)
        for process in self.processes:
            process.join(resume_run.PATIENCE)
        return self.lines()

    def lines(self):
        """What each rank logged; a line that the kill cut off does not count."""
        texts = [log.read_text() if log.exists() else "" for log in self.logs]
        return [[json.loads(line) for line in text.splitlines(True) if line.endswith("\n")] for text in texts]


def _children(pid):
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return listed.read_text().split() if listed.exists() else []


def _working(pid):
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def undisturbed(context, home):
    """Logs of whole runs by number of ranks, without workers."""
    found = {}

    def run(world):
        if world not in found:
            found[world] = Run(context, home, f"whole{world}", world).finish()
            shutil.rmtree(home / "checkpoints")
            for lines in found[world]:
                assert [line["step"] for line in lines] == [*range(STEPS), None]
        return found[world]

    return run


def _copy(home, tmp_path):
    for name in ("shards", "tokenizer"):
        shutil.copytree(home / name, tmp_path / name)
    return tmp_path


def _killed_and_resumed(context, home, tmp_path, undisturbed, step, pause, world, workers, **options):
    folder, expected = _copy(home, tmp_path), undisturbed(world)
    killed = Run(context, folder, "killed", world, workers, **options)
    before = killed.kill(step, pause)
    start = resume_run.newest(folder / "checkpoints")[1]
    after = Run(context, folder, "resumed", world, workers, **options).finish()
    for reference, first, second in zip(expected, before, after, strict=True):
        by_step = {line["step"]: line for line in reference}
        assert [line["step"] for line in first] in (list(range(len(first))), [*range(STEPS), None])
        assert [line["step"] for line in second] == [*range(start, STEPS), None]
        assert start <= len(first) + 1  # one rank may have logged a step when the other had not
        for line in first + second:
            assert line == by_step[line["step"]]
    assert not any(map(_working, killed.workers))  # long gone, too
    return start


def test_a_killed_run_goes_on_with_shards_from_afar(context, home, tmp_path, undisturbed):
    """Whether the copies of the killed run are there, with what the kill left among them, or not."""
    shutil.copytree(home / "tokenizer", tmp_path / "tokenizer")
    server = Server(home / "shards")
    try:
        (tmp_path / "address").write_text(server.address + "/s-{000000..000004}.tar")
        expected = {line["step"]: line for line in undisturbed(1)[0]}
        killed = Run(context, tmp_path, "killed", workers=1)
        (before,) = killed.kill(7, 0.0)
        start = resume_run.newest(tmp_path / "checkpoints")[1]
        shutil.copytree(tmp_path / "checkpoints", tmp_path / "kept")
        (tmp_path / "cache/shards/.left.9.part").write_bytes(b"half a shard")
        (warm,) = Run(context, tmp_path, "warm", workers=1).finish()
        assert len(server.shards_asked) == 5  # each once, and none again
        assert not list((tmp_path / "cache/shards").glob("*.part"))
        for folder in ("cache", "checkpoints"):
            shutil.rmtree(tmp_path / folder)
        (tmp_path / "kept").rename(tmp_path / "checkpoints")
        (cold,) = Run(context, tmp_path, "cold", workers=1).finish()
        assert len(server.shards_asked) == 10
    finally:
        server.close()
    assert start >= resume_run.EVERY
    assert warm == cold
    assert [line["step"] for line in warm] == [*range(start, STEPS), None]
    assert all(line == expected[line["step"]] for line in before + warm)
    assert not any(map(_working, killed.workers))


FEW = [
    # step, seconds, ranks, workers, estimated_stepping_batches, steps to an epoch
    pytest.param(4, 0.01, 1, 0, True, None, marks=pytest.mark.slow),  # less than the third
    (9, 0.0, 1, 3, False, 5),
    (7, 0.0, 2, 1, True, None),
]


@pytest.mark.parametrize(("step", "pause", "world", "workers", "estimate", "epoch"), FEW)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    context, home, tmp_path, undisturbed, step, pause, world, workers, estimate, epoch
):
    start = _killed_and_resumed(
        context, home, tmp_path, undisturbed, step, pause, world, workers, estimate=estimate, epoch=epoch
    )
    assert start >= resume_run.EVERY  # it did go on from a checkpoint


EDGES = [
    -1,
    2,
    5,
    STEPS - 1,
]  # before the first step, at checkpoints (at the end of an epoch, too), after the last step


def _points():
    """Twenty kills: the edges, and random ones; every number of workers and ranks."""
    rng = np.random.default_rng(20)
    for number in range(20):
        step = EDGES[number] if number < len(EDGES) else int(rng.integers(-1, STEPS))
        epoch = (None, 4, 5)[int(rng.integers(3))]
        yield step, float(rng.uniform(0, 0.06)), 1 + number // 3 % 2, (0, 1, 3)[number % 3], bool(number % 2), epoch


@pytest.mark.slow  # minutes: fifty processes that train
@pytest.mark.parametrize(("step", "pause", "world", "workers", "estimate", "epoch"), list(_points()))
def test_twenty_kills(context, home, tmp_path, undisturbed, step, pause, world, workers, estimate, epoch):
    _killed_and_resumed(
        context, home, tmp_path, undisturbed, step, pause, world, workers, estimate=estimate, epoch=epoch
    )


def test_other_workers_and_ranks_go_on_with_the_same_joint_batches(context, home, tmp_path, undisturbed):
    folder = _copy(home, tmp_path)
    Run(context, folder, "killed", 1, 2).kill(7, 0.0)
    start = resume_run.newest(folder / "checkpoints")[1]
    assert start >= resume_run.EVERY
    parts = Run(context, folder, "resumed", 2, 1).finish()
    whole = {line["step"]: line for line in undisturbed(1)[0]}
    assert [line["step"] for line in parts[0]] == [*range(start, STEPS), None]
    for left, right in zip(*(lines[:-1] for lines in parts), strict=True):
        joint = whole[left["step"]]
        assert left["keys"] + right["keys"] == joint["keys"]
        assert left["images"] + right["images"] == joint["images"]


@pytest.mark.parametrize(
    ("step", "world", "epoch", "first"),
    [pytest.param(8, 1, None, 6, marks=pytest.mark.slow), (9, 2, 5, 8)],  # the second has all that the first has
)
def test_a_run_killed_inside_an_accumulation_computes_its_gradients_again(
    context, home, tmp_path, step, world, epoch, first
):
    """The optimizer steps after every third batch, and after the last of an epoch; a checkpoint is left by each."""
    options = {"world": world, "epoch": epoch, "accumulate": 3}
    whole = Run(context, _copy(home, tmp_path / "a"), "whole", **options).finish()
    folder = _copy(home, tmp_path / "b")
    (tmp_path / "a/checkpoints").rename(folder / "checkpoints")
    for path in (folder / "checkpoints").glob("*.ckpt"):
        if int(path.stem) > step:
            path.unlink()
    resumed = Run(context, folder, "resumed", **options).finish()
    for reference, lines in zip(whole, resumed, strict=True):
        assert lines[0]["step"] == first
        assert lines == reference[first:]
        assert lines[-1]["step"] is None
