import os

from relpretrain.data.build import jobs as parallel
from relpretrain.data.build.jobs import ordered_map


def test_order_and_laziness(monkeypatch):
    monkeypatch.setattr(parallel, "CHUNK", 2)
    drawn = []

    def items():
        for number in range(100):
            drawn.append(number)
            yield number

    results = ordered_map(str, items(), 2)
    assert next(results) == "0"
    assert len(drawn) <= 2 * (2 * 2 + 2)
    assert list(results) == [str(number) for number in range(1, 100)]


def test_little_work_stays_in_this_process():
    assert list(ordered_map(_pid, range(64), 8)) == [os.getpid()] * 64
    assert list(ordered_map(_pid, range(100), 1)) == [os.getpid()] * 100
    assert os.getpid() not in ordered_map(_pid, range(65), 2)
    assert list(ordered_map(_pid, [], 2)) == []


def _pid(_):
    return os.getpid()
