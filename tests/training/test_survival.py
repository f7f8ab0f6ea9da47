import os
import random
import re
import signal
import time
from pathlib import Path

import pytest

from relpretrain.cli import main
from relpretrain.training.command.resuming import rows_up_to
from tests import processes
from tests.training.survival_run import STEPS, Run, trace, working, write_home

RUN = Path("run/checkpoints")


@pytest.fixture
def fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_home(tmp_path)
    return lambda *arguments: main(["fit", "-c", "recipe.yaml", "--data.num_workers=0", *arguments])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run did that nobody disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("whole")
        patch.chdir(folder)
        write_home(folder)
        assert main(["fit", "-c", "recipe.yaml", "--data.num_workers=0"]) == 0
        return trace(folder)


@pytest.mark.parametrize(
    ("name", "code", "validating", "step"),
    [("SIGTERM", 143, False, 6), ("SIGUSR1", 143, True, 4), ("SIGINT", 130, True, 8)],
)
def test_a_signal_saves_and_the_same_command_goes_on(fit, whole, capfd, name, code, validating, step):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    at = step if validating else step - 1  # the step that it comes in
    told = {"tell": name, "at": at, "validating": validating}
    assert fit(*(f"--trainer.callbacks.{key}={value}" for key, value in told.items())) == code
    out = capfd.readouterr().out
    assert f"Stopped by {name} at step {step}; saved {RUN / 'last.ckpt'}" in out
    assert "Go on:      relpretrain fit --run=run --ckpt_path=auto" in out
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    assert main(["fit", "--run=run", "--ckpt_path=auto", "--trainer.callbacks.at=-1"]) == 0
    assert trace(Path()) == whole  # every loss and the last weights, to the bit
    assert len(whole) == STEPS + 1


def test_what_was_logged_when_a_signal_comes_is_on_the_disk(fit):
    told = {"callbacks.tell": "SIGTERM", "callbacks.at": 5, "log_every_n_steps": 10}
    assert fit(*(f"--trainer.{key}={value}" for key, value in told.items())) == 143
    (row,) = [row for row in rows_up_to(RUN.with_name("metrics.csv"), STEPS) if "train/loss" in row]
    losses = [float.fromhex(line["loss"]) for line in trace(Path())]
    assert (row["step"], row["train/loss"]) == (6, pytest.approx(sum(losses) / 6))


def test_a_signal_before_the_first_step_saves_nothing(fit, capfd, monkeypatch):
    from relpretrain.training.survival import preemption

    listen = preemption.Preemption._listen

    def told_at_once(self):
        listen(self)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(preemption.Preemption, "_listen", told_at_once)
    assert fit() == 143
    assert "before the first step; nothing had to be saved" in capfd.readouterr().out
    assert not list(RUN.glob("*.ckpt"))
    assert fit("--trainer.max_steps=1", "--trainer.val_check_interval=null") == 143  # not refused: nothing is there


def test_ctrl_c_in_any_command_is_130_without_a_traceback(monkeypatch, capsys):
    from relpretrain import cli

    def interrupted(command, arguments):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "data", interrupted)
    assert main(["data"]) == 130
    assert capsys.readouterr().err == ""


@pytest.fixture(scope="module")
def context():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield processes.context()


def writing(folder):
    """Whether a checkpoint is being written."""
    return any((folder / RUN).glob(".*"))


def validating(folder):
    return (folder / "validating").exists()


def lived(context, folder, moments, *arguments):
    """Run the same command again and again, killed at each moment, and then to its end; the lines of all lives."""
    hits = 0
    for number, moment in enumerate(moments):
        (folder / "validating").unlink(missing_ok=True)
        hits += Run(context, folder, "--ckpt_path=auto", *arguments, log=f"{number}.txt").kill_when(moment)
    run = Run(context, folder, "--ckpt_path=auto", *arguments, log="end.txt")
    assert run.finish() == [0], run.said()
    return hits, trace(folder)


def is_one_run(lines, whole):
    """Whether the lines of several lives are those of the whole one, to the bit, and no step is missing."""
    known = {line.get("step"): line for line in whole}
    return all(line == known[line.get("step")] for line in lines) and {line.get("step") for line in lines} == set(known)


def test_a_run_killed_while_it_saves_and_validates_is_the_run_that_was_not(context, whole, tmp_path):
    write_home(tmp_path)
    moments = [lambda: writing(tmp_path), lambda: validating(tmp_path)]
    hits, lines = lived(context, tmp_path, moments)
    assert hits == 2
    assert is_one_run(lines, whole)
    assert not any((tmp_path / RUN).glob(".*"))  # what was half written is gone


@pytest.mark.slow  # minutes: twenty lives
def test_twenty_kills(context, tmp_path):
    """While it computes, saves and validates, and while it starts; run with -s for the figure."""
    rng, steps = random.Random(21), "--trainer.max_steps=200"
    (tmp_path / "whole").mkdir()
    write_home(tmp_path / "whole")
    assert Run(context, tmp_path / "whole", steps).finish() == [0]
    folder = tmp_path / "killed"
    folder.mkdir()
    write_home(folder)
    traced = folder / "trace.jsonl"

    def after(seconds):
        end = time.monotonic() + seconds
        return lambda: time.monotonic() > end

    def computing():
        size = traced.stat().st_size if traced.exists() else 0
        pause = None

        def moment():
            nonlocal pause
            if pause is None and traced.exists() and traced.stat().st_size > size + 200:
                pause = after(rng.uniform(0, 0.3))
            return pause is not None and pause()

        return moment

    kinds = [lambda: (lambda: writing(folder)), lambda: (lambda: validating(folder)), computing,
             lambda: after(rng.uniform(0.5, 6))]  # fmt: skip
    moments = [lambda kind=kinds[n % 4], held=[]: (held or held.append(kind()) or held)[0]() for n in range(20)]
    hits, lines = lived(context, folder, moments, steps)
    same = is_one_run(lines, trace(tmp_path / "whole"))
    print(f"\n{hits} of 20 kills hit a living run; {len(lines)} steps of all lives, equal to the bit: {same}")
    assert same


def _memory(pid):
    found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) / 1024


@pytest.mark.slow  # many minutes
def test_memory_and_files_stay_flat(context, tmp_path):
    """`SOAK_STEPS` steps (5,000) with two workers; run with -s for the figures."""
    steps = int(os.environ.get("SOAK_STEPS", "5000"))
    write_home(tmp_path)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("every_n_train_steps: 3", "every_n_train_steps: 100"))
    run = Run(context, tmp_path, f"--trainer.max_steps={steps}", "--data.num_workers=2",
              "--trainer.log_every_n_steps=50", "--trainer.val_check_interval=500")  # fmt: skip
    main_process, seen, marks = run.processes[0], [], [steps * n // 10 for n in range(2, 11)]
    while main_process.is_alive():
        traced = tmp_path / "trace.jsonl"
        done = traced.read_bytes().count(b"\n") if traced.exists() else 0
        if marks and done >= marks[0]:
            marks.pop(0)
            pids = [main_process.pid, *run.workers()]
            try:
                files = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)
                seen.append((done, sum(map(_memory, pids)), files))
            except (FileNotFoundError, ProcessLookupError):
                break  # at its last step
            print(f"step {done:,}: {seen[-1][1]:.0f} MiB, {files} open files, {len(pids)} processes")
        time.sleep(0.2)
    assert run.finish() == [0], run.said()
    half = len(seen) // 2
    assert seen[-1][1] < seen[0][1] * 1.1
    assert max(files for *_, files in seen[half:]) < 1.2 * max(files for *_, files in seen[:half])


ENDS = {"SIGINT": 130, "SIGTERM": 143, "crash": 1}


@pytest.mark.slow  # half a minute
@pytest.mark.parametrize("end", ENDS)
def test_no_worker_is_left_behind(context, tmp_path, end):
    """However a run ends; signals go to the whole group, as those of a terminal or a scheduler do."""
    write_home(tmp_path)
    arguments = ["--trainer.max_steps=100000", "--data.num_workers=2"]
    if end == "crash":
        arguments += ["--trainer.callbacks.tell=crash", "--trainer.callbacks.at=6"]
    run = Run(context, tmp_path, *arguments)
    traced, workers = tmp_path / "trace.jsonl", []
    while run.processes[0].is_alive() and not (traced.exists() and traced.read_text().count("loss") > 3):
        time.sleep(0.01)
    workers = run.workers()
    assert len(workers) >= 2
    if end != "crash":
        os.killpg(run.processes[0].pid, getattr(signal, end))
    assert run.finish() == [ENDS[end]], run.said()
    until = time.monotonic() + 10
    while any(map(working, workers)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(working, workers))
