"""What the loader says of workers that are stuck, dead or in trouble: real ones, each in the midst of a sample."""

import multiprocessing
import os
import signal
import time
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.utilities import move_data_to_device

from relpretrain.cli import user_message
from relpretrain.data import loading, workers
from relpretrain.data.loading import StepDataset, step_loader
from relpretrain.data.workers import Notes, died, shared_memory
from relpretrain.errors import ConfigError, TooManyBadSamples, WorkerError
from relpretrain.types import GraphBatch, Pairs, TextBatch
from tests.data.small import stream


class Built:
    """In the place of `Batches`: something happens at step 3."""

    def __init__(self, happens):
        self.schedule = SimpleNamespace(stream_of=lambda step: "vsg")
        self.pipelines = {"vsg": SimpleNamespace(note=None)}
        self.happens = happens

    def __getitem__(self, step):
        self.pipelines["vsg"].note(f"data/shard-{step}/k")
        if step == 3:
            self.happens()
        return step


def taken(happens, timeout=0.0):
    """What came of four steps of two workers, and the error that ended them."""
    seen, before = [], set(multiprocessing.active_children())
    with pytest.raises(Exception) as caught:  # noqa: PT011, PT012
        for batch in step_loader(StepDataset(Built(happens), stop=4), 2, timeout=timeout):
            seen.append(batch)
    assert not set(multiprocessing.active_children()) - before  # ended, not left to the garbage collector
    return seen, caught.value


def test_a_stuck_worker_is_named_with_what_it_is_at():
    seen, error = taken(lambda: time.sleep(60), timeout=0.7)
    assert seen == [0, 1, 2]
    assert isinstance(error, WorkerError)
    assert "worker 1 of 2 has given no batch for 0.7 seconds" in str(error)
    assert "step 3 (stream 'vsg'), sample data/shard-3/k" in str(error)
    assert user_message(error) == [str(error)]


class Handed(Built):
    """Batches that workers hand over by a file descriptor, which they must be alive to give."""

    def __getitem__(self, step):
        return torch.full((1000,), float(super().__getitem__(step)))


def test_a_stopped_worker_is_named_and_ended(monkeypatch):
    """Also where it has a batch ready: torch waits for that without end, and Python for the worker."""
    monkeypatch.setattr(loading, "_GRACE", 0.2)
    loader = step_loader(StepDataset(Handed(lambda: os.kill(os.getpid(), signal.SIGSTOP)), stop=8), 2, timeout=0.5)
    before = set(multiprocessing.active_children())
    with pytest.raises(WorkerError, match=r"worker 1 of 2 has given no batch for 0.5 seconds; it is at step 3"):  # noqa: PT012
        for _ in loader:
            time.sleep(0.5)
    assert not set(multiprocessing.active_children()) - before


def _with_a_stopped_worker():
    for number, _ in enumerate(loader := step_loader(StepDataset(Handed(int), stop=8), 2)):
        if number == 1:
            os.kill(loader._iterator._workers[1].pid, signal.SIGSTOP)
            loader.dataset.kept = loader  # as a trainer keeps it
            break


def test_a_process_ends_though_a_worker_of_it_is_stopped():
    process = multiprocessing.get_context("fork").Process(target=_with_a_stopped_worker)
    process.start()
    process.join(30)
    ended = process.exitcode
    process.kill()
    assert ended == 0


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "was killed (Killed); it was at step 3 (stream 'vsg'), sample data/shard-3/k"),
        (signal.SIGBUS, "for want of shared memory"),
    ],
)
def test_a_dead_worker_is_told_in_a_line(number, words):
    _, error = taken(lambda: os.kill(os.getpid(), number))
    assert isinstance(error, WorkerError)
    assert words in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("kind", [TooManyBadSamples, ConfigError, OSError])
def test_errors_of_workers_come_as_they_were_raised(kind):
    def fail():
        raise kind("the shard is gone")

    seen, error = taken(fail)
    assert seen == [0, 1, 2]
    assert type(error) is kind
    assert str(error) == "the shard is gone"


def test_faults_of_workers_keep_their_traceback():
    _, error = taken(lambda: 1 / 0)
    assert isinstance(error, ZeroDivisionError)
    assert "Traceback" in str(error)


def test_notes_are_cut_to_their_place():
    notes = Notes(2)
    notes.write(1, "x" * 500)
    notes.write(1, "step 1")
    assert (notes.read(0), notes.read(1)) == ("", "step 1")
    notes.write(0, "\u00e4" * 500)
    assert notes.read(0) == "\u00e4" * 119
    assert notes.read(1) == "step 1"


def test_shared_memory_is_estimated(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")(64_000_000, 0, 64_000_000)  # as in a container
    monkeypatch.setattr(workers, "SHARED", tmp_path)
    monkeypatch.setattr(workers.shutil, "disk_usage", lambda path: usage)
    streams = {"a": stream("captions", "s", 256), "b": stream("graphs", "s", 64)}
    assert not shared_memory(streams, 224, 1, 2, 2, 1, 1)  # 58 MB
    assert not shared_memory(streams, 224, 0, 2, 1, 1, 4)
    (line,) = shared_memory(streams, 224, 4, 2, 2, 2, 1)
    assert "has 64 MB free, but the batches under way take up to 462 MB" in line
    assert "2 process(es) x 4 workers x 3 batches of 128 images" in line
    assert "64 MB of 64 MB are free" in str(died("It is possible that dataloader's workers are out of shared memory."))
    assert died("something else") is None


def test_every_tensor_of_a_batch_goes_to_the_gpu_without_waiting(monkeypatch):
    """Lightning asks this of single tensors alone."""
    ids = torch.zeros(1, 2, dtype=torch.long)
    pairs = Pairs(TextBatch(ids, ids.bool(), ids, ids), ids[0], ids[0], torch.zeros(1, 4), ids[0].bool())
    pixels, triplets = torch.zeros(1, 3, 2, 2, dtype=torch.uint8), {"subjects": ids[0], "objects": ids[0]}
    batch = GraphBatch(images=pixels, image_ids=ids[0], pairs=pairs, entities=pairs, relations=("on",), **triplets)
    asked = []
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *args, **options: (asked.append(options), self)[1])
    move_data_to_device([batch], torch.device("cuda", 0))
    assert asked == [{"non_blocking": True}] * 20
    asked.clear()
    batch.to("cpu")
    assert asked == [{"non_blocking": False}] * 20
