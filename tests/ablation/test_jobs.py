import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.ablation.jobs import Job, carry_out
from tests.data.build.converting import alive

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


COMMAND = """
import sys, time
from benchmarks.ablation.jobs import Job, carry_out
from tests.ablation.test_jobs import wait_long
if __name__ == "__main__":
    carry_out([Job("long", wait_long, (sys.argv[1],))], 1, print)
"""


def wait_long(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(300)


def test_processes_end_when_the_command_is_killed(tmp_path):
    script, note = tmp_path / "command.py", tmp_path / "pid"
    script.write_text(COMMAND)
    home = str(Path(__file__).parents[2])
    command = subprocess.Popen([sys.executable, script, note], env={**os.environ, "PYTHONPATH": home})
    try:
        wait_until(lambda: note.exists() and note.read_text())
    finally:
        command.kill()
        command.wait()
    child = int(note.read_text())
    wait_until(lambda: not alive(child))


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
