import csv
import errno
import os
import pickle
import shlex
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest
import torch

from relpretrain.checkpoints import checkpoint as checkpoints
from relpretrain.cli import main
from relpretrain.data.datamodule import RelationDataModule
from relpretrain.training.command.loggers import MetricsLog
from relpretrain.training.command.resumed import finished
from relpretrain.training.command.resuming import rows_up_to
from relpretrain.training.command.run_folder import newest
from relpretrain.training.survival.checkpoint_io import SAVED, CheckpointFiles
from tests.training.survival_run import write_home

LAST = Path("run/checkpoints/last.ckpt")
SHORT = ("--trainer.max_steps=3", "--trainer.val_check_interval=null", "--data.num_workers=0", "--data.validation={}")


@pytest.fixture
def fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_home(tmp_path)
    return lambda *arguments: main(["fit", "-c", "recipe.yaml", *SHORT, *arguments])


def said(capsys):
    lines = capsys.readouterr().err.splitlines()
    return [line.removeprefix("relpretrain: error: ") for line in lines if line.startswith("relpretrain: error: ")]


def step(path):
    return torch.load(path, weights_only=True)["global_step"]


def logged(name):
    """The steps of the rows of losses in a file of the run's folder."""
    return [row["step"] for row in rows_up_to(Path(f"run/{name}.csv"), 99) if "train/loss" in row]


def test_a_run_is_not_begun_in_the_folder_of_another(fit, capsys):
    assert fit() == 0
    before = LAST.read_bytes()
    assert fit() == 2
    (line,) = said(capsys)
    assert line.startswith("run=run holds 2 checkpoints of a run already: go on with it by --ckpt_path=auto")
    assert fit("--model.optimizer.warmup_step=1") == 2  # what is wrong with a recipe comes first
    assert said(capsys) == ["model.optimizer: unknown argument 'warmup_step'; did you mean 'warmup_steps'?"]
    assert LAST.read_bytes() == before
    assert fit("--overwrite", "--ckpt_path=auto") == 2
    assert said(capsys) == ["--overwrite begins a run anew and --ckpt_path goes on with one: give one of them"]
    assert fit("--overwrite", "--trainer.max_steps=2") == 0
    assert [step(path) for path in LAST.parent.glob("*.ckpt")] == [2]  # nothing of the old run is left to go on from
    assert "overwrite: false" in Path("run/config.yaml").read_text()


def test_overwriting_keeps_the_old_run_until_all_is_ready(fit):
    assert fit() == 0
    assert fit("--overwrite", "--data.streams.captions.datasets.small=missing") == 2
    assert step(LAST) == 3
    for shard in Path("shards").glob("*.tar"):
        os.truncate(shard, 1024)  # which is seen when the data are set up
    assert fit("--overwrite") == 2
    assert step(LAST) == 3
    assert logged("metrics") == [1, 2, 3]
    assert not list(Path("run").glob("metrics-*"))


def test_two_runs_in_one_folder(fit, capsys, tmp_path):
    (tmp_path / "run").mkdir()
    hold = "import fcntl, sys; f = open('run/.lock', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('process 7', file=f,"
    hold += " flush=True); print(flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        assert fit() == 2
        assert said(capsys) == ["run=run is in use by another run (process 7): wait for it, or give --run"]
        assert not Path("run/metrics.csv").exists()
    finally:
        other.kill()
        other.wait()
    assert fit() == 0  # a lock of a dead process holds nobody up


@pytest.mark.parametrize("place", ["run", "run/checkpoints"])
def test_a_folder_that_cannot_be_written_is_told_before_training(fit, capsys, tmp_path, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("a file stands there")
    assert fit() == 2
    assert said(capsys)[0].startswith(("run/checkpoints: file exists", "run/checkpoints: not a directory"))
    assert "step 1" not in capsys.readouterr().err


def test_a_folder_in_which_nothing_can_be_made_is_told_before_training(fit, capsys, monkeypatch):
    """One of another user, or of a disk that is mounted to be read: it is there, and takes no file."""
    LAST.parent.mkdir(parents=True)
    made = os.open

    def refused(path, *arguments, **options):
        if os.path.abspath(path).startswith(os.path.abspath(LAST.parent)):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return made(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refused)
    assert fit() == 2
    assert said(capsys) == ["run/checkpoints: permission denied"]
    assert not Path("run/metrics.csv").exists()


def test_a_checkpoint_that_cannot_be_written_ends_the_run(fit, capsys, monkeypatch):
    """A full disk, a file that may not be replaced: nothing is told that is not there, and what was there stays."""
    assert fit() == 0
    before = {path.name: path.read_bytes() for path in LAST.parent.glob("*.ckpt")}
    capsys.readouterr()

    rename = os.replace

    def full(source, target):
        if str(target).endswith(".ckpt"):
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", full)
    assert fit("--ckpt_path=auto", "--trainer.max_steps=6") == 2
    captured = capsys.readouterr()
    assert "relpretrain: error: run/checkpoints/" in captured.err
    assert captured.err.rstrip().endswith(".ckpt: no space left on device")
    assert "Checkpoint:" not in captured.out
    assert {path.name: path.read_bytes() for path in LAST.parent.iterdir()} == before


def test_auto_takes_the_newest_whole_checkpoint(fit):
    assert fit("--ckpt_path=auto", "--trainer.max_steps=4") == 0  # a new run
    older = LAST.with_name("epoch=0-step=3.ckpt")
    assert (step(older), step(LAST)) == (3, 4)
    assert newest(Path("run")) == LAST
    os.utime(older, (time.time() + 60,) * 2)  # as a copy of the folder would
    assert newest(Path("run")) == LAST
    whole = LAST.read_bytes()
    for broken in (whole[:-5000], whole[:3000] + bytes([whole[3000] ^ 1]) + whole[3001:], b""):
        LAST.write_bytes(broken)
        with pytest.warns(UserWarning, match=rf"last\.ckpt is .*; {older} is used"):
            assert newest(Path("run")) == older
    weights = {**torch.load(older, weights_only=True), SAVED: time.time()}
    del weights["optimizer_states"]
    torch.save(weights, LAST)
    assert newest(Path("run")) == older  # weights alone are nothing to go on from
    assert fit("--ckpt_path=auto", "--trainer.max_steps=5") == 0
    assert step(LAST) == 5


def test_auto_reads_no_more_checkpoints_than_it_must(fit, monkeypatch):
    assert fit("--trainer.max_steps=4") == 0
    older = LAST.with_name("epoch=0-step=3.ckpt")
    read, reads = checkpoints.read, []
    monkeypatch.setattr(checkpoints, "read", lambda path: reads.append(path) or read(path))
    assert newest(Path("run")) == LAST
    assert reads == [LAST, older]  # of nearly one time: clocks may differ
    os.utime(older, (time.time() - 7200,) * 2)
    reads.clear()
    assert newest(Path("run")) == LAST
    assert reads == [LAST]


def test_auto_reads_all_checkpoints_where_their_dates_tell_nothing(fit):
    """Images of containers and some mounts give all files one date, long before they were written."""
    assert fit("--trainer.max_steps=4") == 0
    LAST.rename(LAST.with_name("a.ckpt"))  # read last: of one date, they are taken as they are sorted
    LAST.with_name("epoch=0-step=3.ckpt").rename(LAST.with_name("z.ckpt"))
    for date in (0, 1e9):
        for path in LAST.parent.glob("*.ckpt"):
            os.utime(path, (date, date))
        assert newest(Path("run")) == LAST.with_name("a.ckpt")
    os.utime(LAST.with_name("z.ckpt"), (1.1e9,) * 2)
    assert newest(Path("run")) == LAST.with_name("a.ckpt")


def test_a_finished_run_says_so_and_how_to_train_longer(fit, capsys):
    assert fit() == 0
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert fit("--ckpt_path=auto") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-2:] == [
        "Finished:   step 3 of 3, saved in run/checkpoints/last.ckpt; nothing is left to do",
        f"Go on:      relpretrain fit -c recipe.yaml {shlex.join(SHORT[1:])} --ckpt_path=auto --trainer.max_steps=6",
    ]
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before
    assert fit("--ckpt_path=auto", "--trainer.max_steps=6") == 0
    assert step(LAST) == 6


@pytest.mark.parametrize("stale", [False, True])
def test_a_run_killed_between_its_last_checkpoint_and_its_end_is_ended(fit, capsys, stale):
    """With validation at the last step, which the kill prevented or did not."""
    validation = '--data.validation={"v": {"kind": "captions", "datasets": {"s": "shards"}, "batch_size": 4}}'
    given = (validation, '--data.validation.v.objectives=["itc"]', "--trainer.val_check_interval=3")
    assert fit(*given) == 0
    third = LAST.with_name("epoch=0-step=3.ckpt")
    whole = Path("run/metrics.csv").read_text()
    LAST.unlink()
    if stale:  # of a signal before
        torch.save({**torch.load(third, weights_only=True), "global_step": 2, SAVED: 0.0}, LAST)
        Path("run/metrics.csv").write_text("".join(whole.splitlines(keepends=True)[:-1]))
    capsys.readouterr()
    assert fit(*given, "--ckpt_path=auto") == 0
    out = capsys.readouterr().out
    assert f"Finished:   step 3 of 3, saved in {third}; nothing is left to do" in out
    assert f"Ended:      the run was stopped before its end; the checkpoint is {LAST}, too, now" in out
    validate = f"Validate:   relpretrain validate -c run/config.yaml --ckpt_path={LAST}   # that of step 3 is missing"
    assert (validate in out) == stale
    assert LAST.read_bytes() == third.read_bytes()
    assert fit(*given, "--ckpt_path=auto") == 0
    assert "Ended:" not in capsys.readouterr().out


def test_going_back_to_a_checkpoint_leaves_last_as_it_is(fit):
    assert fit("--trainer.max_steps=4") == 0
    before = LAST.read_bytes()
    assert fit("--ckpt_path=run/checkpoints/epoch=0-step=3.ckpt") == 0  # finished at 3
    assert LAST.read_bytes() == before


def test_a_finished_run_that_a_rule_ended_goes_on_without_it():
    path, given = Path("run/checkpoints/a b.ckpt"), ["-c", "x", "--data.stop", "all_exhausted", "--ckpt_path=a b.ckpt"]
    lines = finished(path, 9, 9, Path("run"), given, "all_exhausted")
    assert lines[1].endswith("fit -c x '--ckpt_path=a b.ckpt' --trainer.max_steps=18 --data.stop=max_steps")
    more = finished(path, 9, 6, Path("run"), given, "max_steps")
    assert more[1] == lines[1].removesuffix(" --data.stop=max_steps")
    assert more[2].endswith("--model.weights='run/checkpoints/a b.ckpt' in place of --ckpt_path, and --run")


def test_a_checkpoint_of_a_longer_run_is_no_finished_one(fit, capsys):
    """Fine-tuning that was begun as if it went on."""
    assert fit() == 0
    assert fit("--run=tuned", f"--ckpt_path={LAST}", "--trainer.max_steps=2") == 2
    (line,) = said(capsys)
    assert line.startswith(f"{LAST} is of step 3, and this run (run=tuned) ends at step 2: nothing would be trained")
    assert f"give --model.weights={LAST} in place of --ckpt_path" in line
    assert not Path("tuned").exists()


@pytest.mark.parametrize("text", ["a,step\nmuch,1\n", "a,step\n\0,1\n", b"a,step\n\xff,1\n"])
def test_metrics_that_are_no_numbers_are_put_aside(fit, text):
    assert fit() == 0
    content = text.encode() if isinstance(text, str) else text
    Path("run/metrics.csv").write_bytes(content)
    assert fit("--overwrite") == 0
    assert Path("run/metrics-1.csv").read_bytes() == content
    assert logged("metrics") == [1, 2, 3]
    Path("run/metrics.csv").write_bytes(content)
    with pytest.warns(UserWarning, match=r"run/metrics\.csv is no table of numbers"):
        assert fit("--ckpt_path=auto", "--trainer.max_steps=4") == 0
    assert Path("run/metrics-2.csv").read_bytes() == content
    assert logged("metrics") == [4]


def test_a_row_that_is_not_a_number_is_the_same_row(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("a,step\nnan,1\n2.0,2\n")
    MetricsLog(tmp_path, rows_up_to(path, 2)).save()
    assert not path.with_name("metrics-1.csv").exists()


def test_shards_are_not_indexed_for_a_run_that_cannot_begin(fit, capsys, monkeypatch):
    Path("run").write_text("a file stands there")
    monkeypatch.setattr(RelationDataModule, "optimizer_steps", lambda *_: pytest.fail("indexed"))
    assert fit() == 2
    assert said(capsys)[0].startswith(("run/checkpoints: not a directory", "run: file exists"))


def test_what_was_logged_after_the_checkpoint_is_put_aside(fit):
    assert fit("--trainer.max_steps=4") == 0
    assert fit("--ckpt_path=run/checkpoints/epoch=0-step=3.ckpt", "--trainer.max_steps=5") == 0
    assert logged("metrics") == [1, 2, 3, 4, 5]
    assert logged("metrics-1") == [1, 2, 3, 4]
    assert fit("--ckpt_path=auto", "--trainer.max_steps=6") == 0
    assert logged("metrics") == [1, 2, 3, 4, 5, 6]
    assert not Path("run/metrics-2.csv").exists()  # nothing is lost that it could keep


def test_last_is_a_file_or_an_error(fit, capsys):
    assert fit("--ckpt_path=last") == 2
    assert said(capsys)[0].startswith("--ckpt_path=last: run/checkpoints/last.ckpt does not exist; --ckpt_path=auto")
    assert fit() == 0
    assert fit("--ckpt_path=last", "--trainer.max_steps=4") == 0
    assert step(LAST) == 4
    assert main(["validate", "-c", "recipe.yaml", "--data.num_workers=0", "--ckpt_path=auto"]) == 0
    assert main(["validate", "-c", "recipe.yaml", "--run=none", "--ckpt_path=auto"]) == 2
    assert said(capsys) == ["--ckpt_path=auto: none/checkpoints holds no whole checkpoint to validate"]


class Boom:
    def __reduce__(self):
        return (Path.touch, (Path("boom"),))


def test_nothing_in_a_checkpoint_is_run_whatever_lightning_asks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "relpretrain": {}, "x": Boom()}, "x.ckpt")
    with pytest.raises(ValueError, match="run any code"):
        CheckpointFiles().load_checkpoint("x.ckpt", weights_only=False)
    with fsspec.open("memory://x.ckpt", "wb") as file:
        file.write(Path("x.ckpt").read_bytes())
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        CheckpointFiles().load_checkpoint("memory://x.ckpt", weights_only=False)
    assert not Path("boom").exists()


def test_overrides_count_wherever_they_stand(tmp_path, monkeypatch):
    """The parser lets a recipe undo what stands before it: a run would begin in a folder that nobody has asked for."""
    monkeypatch.chdir(tmp_path)
    write_home(tmp_path)
    assert main(["fit", "--run=mine", *SHORT, "-c", "recipe.yaml", "--trainer.max_steps=2"]) == 0
    assert not Path("run").exists()
    assert step(Path("mine/checkpoints/last.ckpt")) == 2


def test_checkpoints_of_lightnings_own_making_are_in_the_runs_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_home(tmp_path)
    few = ["--trainer.max_steps=3", "--trainer.val_check_interval=2", "--data.num_workers=0"]
    assert main(["fit", "-c", "recipe.yaml", *few, "--trainer.callbacks=null"]) == 0
    found = list(Path().rglob("*.ckpt"))
    assert {path.parent for path in found} == {LAST.parent}
    assert sorted(map(step, found)) == [2, 3]


def test_metrics_are_on_the_disk_when_they_are_logged(fit, tmp_path):
    """Read by a callback while the run goes on."""
    path = tmp_path / "run/metrics.csv"
    log = MetricsLog(tmp_path / "run")
    for n, values in enumerate([{"a": 1.0}, {"a": 2.0}, {"b": 3.0}, {"a": 4.0, "b": 5.0}]):
        log.log_metrics(values, n)
        with path.open(newline="") as file:
            assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(n + 1))
    with path.open("a") as file:
        file.write("6.0,,1")  # of step 12: a kill cut it off
    earlier = rows_up_to(path, 2)
    assert earlier == [{"a": 1.0, "step": 0.0}, {"a": 2.0, "step": 1.0}, {"b": 3.0, "step": 2.0}]
    MetricsLog(tmp_path / "run", earlier).log_metrics({"a": 8.0}, 3)
    assert rows_up_to(path, 9) == [*earlier, {"a": 8.0, "step": 3.0}]
    assert len(rows_up_to(path.with_name("metrics-1.csv"), 9)) == 4
