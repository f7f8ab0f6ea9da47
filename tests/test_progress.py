import itertools

import pytest

from relpretrain import progress
from relpretrain.progress import Meter, StageProgress, track


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_tell_share_rate_and_time_left(clock, capsys):
    meter = Meter()
    with StageProgress(meter) as line:
        meter.begin("reading a.json", 1000)
        meter.advance(10)
        clock[0] += 6
        meter.advance(290)
        meter.begin("converting", 200)
        for _ in itertools.repeat(None, 50):
            clock[0] += 1
            meter.done += 1
            line.count(meter.done)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "reading a.json: 30%, 14 s left"
    assert len(lines) == 11  # one every five seconds
    assert lines[-1].startswith("converting: 25%, 50 images, 1 per second, 2 min left")


def test_rate_and_time_left_count_from_where_a_run_goes_on(clock, capsys):
    meter = Meter()
    with StageProgress(meter) as line:
        meter.begin("converting", 2000)
        meter.advance(1000)
        line.count(1000)
        clock[0] += 10
        meter.done += 100
        line.count(1100)
    assert capsys.readouterr().err.splitlines()[-1] == "converting: 55%, 1,100 images, 10 per second, 90 s left"


def test_items_are_passed_on_with_a_line_every_five_seconds(clock, capsys):
    passed = []
    for item in track([0, 3, 5, 2], 10, "samples", size=lambda item: item):
        passed.append(item)
        clock[0] += 4
    assert passed == [0, 3, 5, 2]
    assert capsys.readouterr().err.splitlines() == [
        "3 of 10 samples, 0 per second, 19 s left",
        "10 of 10 samples, 1 per second, 0 s left",
    ]
