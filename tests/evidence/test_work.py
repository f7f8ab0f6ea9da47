import os

import pytest

from relpretrain.evidence.work import Job, carry_out

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def note(path, text):
    with open(path, "a") as file:
        file.write(f"{text}\n")


def fail():
    raise ValueError("nothing there")


def test_jobs_begin_after_those_they_wait_for_and_failures_stop_only_these(tmp_path):
    path, said = tmp_path / "order", []
    jobs = [
        Job("last", note, (path, "last"), after=("first",)),
        Job("lost", note, (path, "lost"), after=("broken",)),
        Job("first", note, (path, "first")),
        Job("broken", fail),
        Job("lost too", note, (path, "lost too"), after=("lost",)),
    ]
    failed = carry_out(jobs, 1, said.append)
    assert path.read_text().split("\n") == ["first", "last", ""]
    assert failed == {
        "broken": "ValueError: nothing there",
        "lost": "waited for broken, which failed",
        "lost too": "waited for lost, which failed",
    }
    assert len(said) == 3
    assert "first done" in said[0]
    assert "FAILED (ValueError: nothing there)" in "".join(said)


def write_process(folder, name):
    (folder / name).write_text(str(os.getpid()))


def test_jobs_run_in_processes_of_their_own(tmp_path):
    carry_out([Job(str(i), write_process, (tmp_path, str(i))) for i in range(3)], 1, lambda line: None)
    processes = {(tmp_path / str(i)).read_text() for i in range(3)}
    assert len(processes) == 1
    assert str(os.getpid()) not in processes
