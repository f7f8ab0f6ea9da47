"""Every sample once an epoch, whatever shards, workers and ranks; ratios, replacement and ends as they are promised."""

import hashlib
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from relpretrain.data import datamodule as module_file
from relpretrain.data.datamodule import RelationDataModule
from relpretrain.data.sampling.schedule import BatchSchedule
from relpretrain.data.sampling.stream import Stream
from tests import two_ranks
from tests.data.small import stream, tokenizer, write_shards

UNEQUAL = (1, 13, 4, 7, 2, 9)  # samples of the shards: 36
BATCH = 6


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unequal")
    names = []
    for number, count in enumerate(UNEQUAL):
        names.append(write_shards(folder / f"part{number}", count, 100, prefix=f"p{number}"))
    return names, tokenizer(folder)


def _data(shards, workers=0, **options):
    names, words = shards
    return RelationDataModule({"c": stream("captions", names, BATCH)}, words, 16, num_workers=workers, **options)


def _keys(data, steps):
    data.setup()
    return [batch.keys for batch in islice(iter(data.train_dataloader()), steps)]


ALL = {f"small/p{p}-000000/k{i:03d}" for p, count in enumerate(UNEQUAL) for i in range(count)}


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_every_key_exactly_once_a_pass(shards, monkeypatch, workers, ranks):
    epochs, steps = 2, sum(UNEQUAL) // BATCH
    seen = []
    for rank in range(ranks):
        monkeypatch.setattr(module_file, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(module_file, "world_size", lambda: ranks)
        seen.append(_keys(_data(shards, workers), epochs * steps))
    assert {len(keys) for of_rank in seen for keys in of_rank} == {BATCH // ranks}  # equal steps, equal batches
    for number in range(epochs):
        part = [keys for of_rank in seen for keys in of_rank[number * steps : (number + 1) * steps]]
        assert Counter(key for keys in part for key in keys) == dict.fromkeys(ALL, 1)


def _on_a_rank(rank, shards):
    assert dist.get_world_size() == 2
    data = _data(shards, workers=1)
    return _keys(data, sum(UNEQUAL) // BATCH)


def test_two_real_processes_share_a_pass(shards):
    left, right = two_ranks.run(_on_a_rank, shards)
    assert len(left) == len(right) == sum(UNEQUAL) // BATCH
    assert Counter(key for keys in left + right for key in keys) == dict.fromkeys(ALL, 1)


def _schedule(sizes, batch=8, seed=0, **options):
    """A schedule over datasets of one shard each."""
    of = Stream("captions", {name: name for name in sizes}, batch, **options)
    return BatchSchedule({"s": of}, {"s": {name: [size] for name, size in sizes.items()}}, seed)


def _fractions(schedule, steps=20_000):
    counts = Counter(schedule.dataset_of(step) for step in range(steps))
    return {name: count / steps for name, count in counts.items()}


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ("uniform", {"a": 0.5, "b": 0.5}),
        ("size", {"a": 0.25, "b": 0.75}),
        ({"a": 4.0, "b": 1.0}, {"a": 0.8, "b": 0.2}),
    ],
)
def test_datasets_are_drawn_by_their_ratios(ratios, expected):
    fractions = _fractions(_schedule({"a": 100, "b": 300}, dataset_ratios=ratios))
    for name, fraction in expected.items():
        # four standard deviations of a count of 20,000 independent draws
        assert abs(fractions[name] - fraction) < 4 * (fraction * (1 - fraction) / 20_000) ** 0.5


@pytest.mark.parametrize("ratios", [{"a": 1.0}, {"a": 1.0, "b": 0.0}, {"a": 1.0, "b": 1.0, "c": 1.0}, "sizes"])
def test_ratios_must_name_each_dataset(ratios):
    with pytest.raises(ValueError, match=r"Stream 's': dataset_ratios"):
        _schedule({"a": 100, "b": 300}, dataset_ratios=ratios)


def test_with_replacement_each_sample_is_drawn_by_itself():
    schedule = _schedule({"a": 50}, batch=10, replacement=True)
    drawn = [row.row for step in range(1000) for row in schedule.rows(step)]
    counts = np.bincount(drawn, minlength=50)
    chi2 = float(((counts - 200) ** 2 / 200).sum())
    assert 23 < chi2 < 86  # 0.1 % and 99.9 % of 49 degrees of freedom
    assert len(set(drawn[:50])) < 50  # not each once
    again = _schedule({"a": 50}, batch=10, replacement=True)
    assert [row.row for row in again.rows(777)] == drawn[7770:7780]  # any step by itself
    other = _schedule({"a": 50}, batch=10, seed=1, replacement=True)
    assert [row.row for row in other.rows(777)] != drawn[7770:7780]


def test_rows_with_replacement_are_the_eligible_ones():
    of = Stream("captions", {"d": "d"}, 16, replacement=True)
    schedule = BatchSchedule({"s": of}, {"s": {"d": [2, 0, 3]}}, 0)
    found = {(row.shard, row.row) for step in range(600) for row in schedule.rows(step)}  # over two blocks of draws
    assert found == {(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)}


def test_neighbours_stay_together_and_come_once_a_pass():
    of = Stream("captions", {"d": "d"}, 4, neighbours=4)
    sizes = (12, 4, 5)
    schedule = BatchSchedule({"s": of}, {"s": {"d": sizes}}, 3)
    first, second = (
        [(r.shard, r.row) for step in range(100) for r in schedule.rows(step)][k : k + 21] for k in (0, 21)
    )
    together = [
        [(0, 0), (0, 1), (0, 2), (0, 3)],
        [(1, 0), (1, 1), (1, 2), (1, 3)],
        [(2, 0), (2, 1), (2, 2), (2, 3)],
        [(2, 4)],
    ]
    for taken in (first, second):
        assert sorted(taken) == [(shard, row) for shard, size in enumerate(sizes) for row in range(size)]
        for group in together:
            start = taken.index(group[0])
            assert taken[start : start + len(group)] == group
    assert first != second
    taken = [(r.shard, r.row) for step in range(100) for r in schedule.rows(step)]
    followers = {taken[i + 1] for i, place in enumerate(taken[:-1]) if place == (0, 3)}
    assert followers > {(0, 4), (0, 8)}  # whatever comes next: groups are shuffled one by one


@pytest.mark.parametrize("options", [{"neighbours": 0}, {"neighbours": 2, "replacement": True}])
def test_neighbours_are_refused_where_there_are_none(options):
    with pytest.raises(ValueError, match=f"Stream 's': neighbours={options['neighbours']} (must be|needs)"):
        _schedule({"a": 50}, **options)


sizes = st.dictionaries(st.sampled_from("abcd"), st.integers(8, 150), min_size=1)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(sizes, st.integers(1, 8), st.integers(0, 3))
def test_a_run_ends_by_its_rule(sizes, batch, seed):
    schedule = _schedule(sizes, batch, seed)
    assert schedule.end("max_steps") is None
    first, last = schedule.end("first_exhausted"), schedule.end("all_exhausted")
    taken = {name: [] for name in sizes}
    for step in range(last):
        rows = schedule.rows(step)
        taken[rows[0].dataset] += [row.row for row in rows]
        if step == first - 1:
            assert all(len(set(rows)) == len(rows) for rows in taken.values())  # nothing came twice,
            ahead = schedule.dataset_of(first)
            assert len(taken[ahead]) + batch > sizes[ahead]  # and the next step would need more than is left
        if step == last - 2:
            assert any(set(rows) != set(range(sizes[name])) for name, rows in taken.items())
    assert all(set(rows) == set(range(sizes[name])) for name, rows in taken.items())
    assert schedule.taken(last) == {("s", name): len(rows) for name, rows in taken.items()}


def test_an_end_beyond_one_block_of_steps():
    schedule = _schedule({"a": 100_000, "b": 10}, dataset_ratios={"a": 0.99, "b": 0.01})
    end = schedule.end("all_exhausted")
    assert end > 3 * 4096
    assert schedule.taken(end)["s", "a"] >= 100_000 > schedule.taken(end - 1)["s", "a"]
    assert schedule.end("first_exhausted") == min(
        step for step in range(end) if schedule.taken(step + 1)["s", "b"] > 10
    )


def test_plans_without_new_options_are_those_of_before():
    held = {"a": [np.arange(30), np.arange(17), np.arange(5, 25)], "b": [np.arange(40)], "c": [np.arange(9)]}
    streams = {
        "x": Stream("captions", {d: d for d in held}, 8, ratio=2.0),
        "y": Stream("graphs", {d: d for d in ("a", "c")}, 6, ratio=0.7),
        "z": Stream("regions", {"b": "b"}, 5, ratio=0.3),
    }
    counts = {name: {d: list(map(len, held[d])) for d in s.datasets} for name, s in streams.items()}
    schedule = BatchSchedule(streams, counts, 7)
    assert schedule.fingerprint == "19d3675a74600190"  # of version 0.1
    steps = (*range(200), 5000, 20_000)
    rows = [
        (schedule.stream_of(t), [(r.dataset, r.shard, int(held[r.dataset][r.shard][r.row])) for r in schedule.rows(t)])
        for t in steps
    ]
    assert hashlib.sha256(repr(rows).encode()).hexdigest()[:16] == "6d7307e046d8f079"


@pytest.mark.parametrize(
    "change", [{"replacement": True}, {"neighbours": 2}, {"dataset_ratios": "size"}, {"dataset_ratios": {"a": 1.0}}]
)
def test_new_options_change_the_fingerprint(change):
    assert _schedule({"a": 100}, **change).fingerprint != _schedule({"a": 100}).fingerprint
