import io
import itertools
import re
import sys
import time
from types import SimpleNamespace

import pytest
from lightning.pytorch import Trainer
from rich.console import Console

from relpretrain.data.loading import StepLoader
from relpretrain.training import LossLog, ProgressLine
from relpretrain.training.progress import rows
from tests.training.standin import loader, module


def fit(tmp_path, line, data=None, steps=4, every=2, **options):
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        log_every_n_steps=every,
        logger=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
        callbacks=[line],
        **options,
    )
    trainer.fit(module(), data or loader(), loader())
    return trainer


VALIDATING = {"val_check_interval": 2, "limit_val_batches": 4, "check_val_every_n_epoch": None}


def screen(written):
    """What a terminal shows after this was written; every row is taken as it stands, however wide."""
    shown, row, column = [""], 0, 0
    for code in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if code == "\n":
            row, column = row + 1, 0
            shown += [""] * (row + 1 - len(shown))
        elif code == "\r":
            column = 0
        elif code.endswith("A"):
            row -= int(code[2:-1] or 1)
        elif code == "\x1b[2K":
            shown[row] = ""
        elif not code.startswith("\x1b"):
            shown[row] = shown[row][:column].ljust(column) + code + shown[row][column + len(code) :]
            column += len(code)
    return [line.rstrip() for line in shown]


def test_a_plain_line_says_what_happened_since_the_last_one(tmp_path, capsys):
    fit(tmp_path, ProgressLine(), **VALIDATING)
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "\r" not in err
    first, second = (line for line in err.splitlines() if line.startswith("step "))
    assert first.startswith("step 2/4")
    assert all(word in first for word in ("loss ", "itc ", "box_l1 ", "images/s", "lr 1.0e-02", "left"))
    assert "mrc" not in first
    assert second.startswith("step 4/4")
    assert "mrc " in second
    assert "box" not in second
    validations = [line for line in err.splitlines() if line.startswith("validation at step ")]
    assert [line.split()[3] for line in validations] == ["2", "4"]
    assert all("itc " in line for line in validations)


def test_a_file_is_no_terminal_whatever_colours_are_asked_for(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    fit(tmp_path, ProgressLine())
    assert "\x1b[2K" not in capsys.readouterr().err


@pytest.mark.parametrize(("width", "seconds"), [(110, 1e-6), (80, 0.01), (40, 5e4)])
def test_a_terminal_is_never_flooded(tmp_path, width, seconds, monkeypatch):
    """Whatever the speed of the machine: between two looks at the clock so many seconds pass."""
    ticks = itertools.count(1)
    clock = SimpleNamespace(perf_counter=lambda: next(ticks) * seconds, monotonic=time.monotonic)
    for where in ("progress", "callbacks"):
        monkeypatch.setattr(f"relpretrain.training.{where}.time", clock)
    monkeypatch.setattr("relpretrain.training.progress._REFRESH_SECONDS", 0)
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width, legacy_windows=False, color_system=None)
    fit(tmp_path, ProgressLine(console), steps=12, every=1, **{**VALIDATING, "val_check_interval": 6})
    shown = screen(file.getvalue())
    assert max(map(len, shown)) < width
    assert sum(line.startswith("step ") for line in shown) == 1  # the bar stays in its place
    assert sum(line.startswith("validation at step ") for line in shown) == 2
    assert any(line.startswith("step 12/12") for line in shown)
    assert "box_l1 " in "".join(shown)  # the newest value of each loss, of whatever step
    assert len(shown) <= 20


class Noisy(ProgressLine):
    def on_train_batch_end(self, *args):
        print("what some thread has to say", file=sys.stderr)
        super().on_train_batch_end(*args)


def test_what_goes_to_a_file_is_not_drawn_on_the_terminal(tmp_path, capsys):
    file = io.StringIO()
    fit(tmp_path, Noisy(Console(file=file, force_terminal=True, width=80, legacy_windows=False)))
    assert "some thread" not in file.getvalue()
    assert capsys.readouterr().err.count("some thread") == 4


def test_validation_alone_is_shown_too(tmp_path, monkeypatch):
    monkeypatch.setattr("relpretrain.training.progress._REFRESH_SECONDS", 0)
    file = io.StringIO()
    line = ProgressLine(Console(file=file, force_terminal=True, width=80, legacy_windows=False, color_system=None))
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[line],
        limit_val_batches=3,
    )
    trainer.validate(module(), loader(), verbose=False)
    written = file.getvalue()
    assert "validating, batch 2/3" in written
    assert [row for row in screen(written) if row] == ["validating, batch 3/3"]  # one row, which stays in its place
    assert written.rstrip("\n").endswith("\x1b[?25h")


def test_rows_break_between_parts_and_cut_what_is_wider():
    assert rows(["aaa", "bb", "cc"], 7) == ["aaa  bb", "cc"]
    assert rows(["aaa", "bb"], 5, "  ") == ["aaa", "  bb"]
    assert rows(["abcdefgh"], 5) == ["abcde"]


def test_an_error_gives_the_terminal_back(tmp_path):
    file = io.StringIO()
    line = ProgressLine(Console(file=file, force_terminal=True, width=80, legacy_windows=False))

    def broken():
        yield next(iter(loader()))
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fit(tmp_path, line, broken())
    assert file.getvalue().rstrip("\n").endswith("\x1b[?25h")  # the cursor is shown again


class Slow(StepLoader):
    """Takes a second of the test's clock for each batch."""

    clock = 0.0

    def _batches(self):
        for batch in super()._batches():
            Slow.clock += 1.0
            yield batch


class Computing(ProgressLine):
    """Three seconds for each step."""

    def on_train_batch_start(self, *args):
        Slow.clock += 3.0


def test_waits_for_data_are_told(tmp_path, capsys, monkeypatch):
    for where in ("data.loading", "training.callbacks"):
        monkeypatch.setattr(f"relpretrain.{where}.time", SimpleNamespace(perf_counter=lambda: Slow.clock))
    slow = Slow([batch for _, batch in zip(range(4), loader(), strict=False)], batch_size=None)
    trainer = fit(tmp_path, Computing(), slow)
    assert slow.waited == 4
    log = next(callback for callback in trainer.callbacks if isinstance(callback, LossLog))
    assert log.latest["train/data_wait"] == 0.25
    assert "data wait 25%" in capsys.readouterr().err
