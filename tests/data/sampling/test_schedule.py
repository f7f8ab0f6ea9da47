from collections import Counter

import pytest

from relpretrain.data.sampling.schedule import BatchSchedule
from relpretrain.data.sampling.stream import Stream

SHARDS = {"a": [30, 17, 20], "b": [40]}  # eligible rows


def _schedule(seed=0, shards=SHARDS, **ratios):
    streams = {
        name: Stream("captions", {d: d for d in shards}, batch_size=8, ratio=ratio) for name, ratio in ratios.items()
    }
    return BatchSchedule(streams, dict.fromkeys(streams, shards), seed)


@pytest.mark.parametrize("shards", [3, 21])
def test_every_sample_once_per_pass(shards):
    eligible = {"a": [s + 7 for s in range(shards)]}
    size = sum(eligible["a"])
    schedule = _schedule(shards=eligible, only=1.0)
    everything = [row for step in range(3 * size) for row in schedule.rows(step)]
    epochs = [everything[i * size : (i + 1) * size] for i in range(8)]
    expected = {("a", s, r) for s, rows in enumerate(eligible["a"]) for r in range(rows)}
    assert all(len(set(p)) == size and set(p) == expected for p in epochs)
    assert epochs[0] != epochs[1]
    if shards > 3:  # shards come in another order too, not only samples within a window
        assert len({row.shard for p in epochs for row in p[:20]}) > 8


def test_epochs_go_on_across_blocks_of_steps():
    schedule = _schedule(x=1.0, y=2.0)
    seen = {}
    for t in range(9000):
        seen.setdefault((schedule.stream_of(t), schedule.dataset_of(t)), []).extend(schedule.rows(t))
    for (_, dataset), rows in seen.items():
        size = sum(SHARDS[dataset])
        assert all(len(set(rows[i : i + size])) == size for i in range(0, len(rows) - size, size))


def test_streams_are_drawn_by_ratio_and_datasets_uniformly():
    schedule = _schedule(x=2.0, y=1.5, z=0.5, off=0.0)
    steps = 20_000
    streams = Counter(schedule.stream_of(t) for t in range(steps))
    datasets = Counter((schedule.stream_of(t), schedule.dataset_of(t)) for t in range(steps))
    assert set(streams) == {"x", "y", "z"}
    assert streams["x"] / steps == pytest.approx(0.5, abs=0.02)
    assert streams["y"] / steps == pytest.approx(0.375, abs=0.02)
    assert datasets["x", "a"] / streams["x"] == pytest.approx(0.5, abs=0.02)


def test_any_step_is_found_without_those_before():
    steps = [10_000, 3, 4096, 4095, 8200, 0, 10_000]
    walked = _schedule(x=1.0, y=3.0)
    everything = {t: (walked.stream_of(t), walked.rows(t)) for t in range(10_001)}
    jumped = _schedule(x=1.0, y=3.0)
    for t in steps:
        fresh = _schedule(x=1.0, y=3.0)
        assert (jumped.stream_of(t), jumped.rows(t)) == everything[t] == (fresh.stream_of(t), fresh.rows(t))


def test_seed_changes_the_plan_and_only_the_seed():
    rows = [[_schedule(seed, x=1.0).rows(t) for t in range(20)] for seed in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]


def test_streams_over_one_dataset_are_shuffled_apart():
    schedule = _schedule(x=1.0, y=1.0)
    first = {}
    for t in range(100):
        first.setdefault((schedule.stream_of(t), schedule.dataset_of(t)), schedule.rows(t))
    assert first["x", "a"] != first["y", "a"]


def test_fingerprint_tells_plans_apart():
    base = _schedule(x=1.0, y=1.0).fingerprint
    assert base == _schedule(x=1.0, y=1.0).fingerprint
    others = [
        _schedule(1, x=1.0, y=1.0),
        _schedule(x=1.0, y=2.0),
        _schedule(x=1.0),
        _schedule(shards={"a": SHARDS["a"]}, x=1.0, y=1.0),
    ]
    assert base not in {schedule.fingerprint for schedule in others}


@pytest.mark.parametrize(
    ("ratios", "shards", "message"),
    [
        ({"x": -1.0}, SHARDS, "not negative"),
        ({"x": float("nan")}, SHARDS, "finite"),
        ({"x": 0.0}, SHARDS, "above 0"),
        ({"x": 1.0}, {"a": [0]}, "'x' draws from dataset 'a'"),
    ],
)
def test_plans_that_cannot_be(ratios, shards, message):
    with pytest.raises(ValueError, match=message):
        _schedule(shards=shards, **ratios)
