"""Groups: every sample once an epoch, batches that no number of machines changes, and spans of shards of their own."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relpretrain.data.sampling.order import WINDOW, EpochOrder
from relpretrain.data.sampling.schedule import BatchSchedule, differences, groups_of
from relpretrain.data.sampling.stream import Stream


def _schedule(sizes, batch, groups, seed=0, **options):
    of = Stream("captions", {"d": "d"}, batch, **options)
    return BatchSchedule({"s": of}, {"s": {"d": sizes}}, seed, groups=groups)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=30), st.integers(1, 13), st.data())
def test_every_sample_once_an_epoch_in_any_number_of_groups(sizes, batch, data):
    sizes[0] += 1
    groups = data.draw(st.integers(1, batch))
    schedule, size = _schedule(sizes, batch, groups), sum(sizes)
    rows = [row for step in range(3 * size // batch + 2) for row in schedule.rows(step)]
    for epoch in range(3):
        counts = Counter(rows[epoch * size : (epoch + 1) * size])
        assert len(counts) == size == counts.total()
    for step in (0, 1, 7):
        order = schedule.orders["s", "d"]
        assert [row for slot in range(batch) for row in schedule.rows(step, range(slot, slot + 1))] == schedule.rows(
            step
        )
        for group in range(groups):  # what is needed is said before
            places = range(order.bounds[group], order.bounds[group + 1])
            needed = {need.shard for need in schedule.needs(step, [group]) if need.open}
            assert needed >= {row.shard for row in schedule.rows(step, places)}


@pytest.mark.parametrize("neighbours", [1, 4])
def test_a_machine_reads_its_span_and_shares_only_the_shards_at_its_ends(neighbours):
    shards, groups, batch = 50, 4, 16
    schedule = _schedule([40] * shards, batch, groups, neighbours=neighbours)
    steps = range(50 * 40 // batch)
    read = [set() for _ in range(groups)]
    for step in steps:
        for slot, row in enumerate(schedule.rows(step)):
            read[slot * groups // batch].add(row.shard)
    for group, mine in enumerate(read):
        assert len(mine) <= shards / groups + 1.5
        others = set().union(*(other for number, other in enumerate(read) if number != group))
        assert len(mine & others) <= 2
    assert sum(map(len, read)) <= shards + groups - 1


@pytest.mark.parametrize(("group", "window"), [(0, WINDOW), (1, 4)])  # the second span begins in a window's middle
def test_a_window_is_shuffled_and_no_more(group, window):
    schedule = _schedule([20] * 40, 8, 2)
    taken = [row for step in range(50) for row in schedule.rows(step, range(4 * group, 4 * group + 4))]
    first = taken[: window * 20]
    assert len({row.shard for row in first}) == window == len({row.shard for row in first[:40]})
    assert [row.row for row in first] != sorted(row.row for row in first)
    assert not {row.shard for row in first} & {row.shard for row in taken[window * 20 :]}


def test_one_group_is_no_groups():
    plain, one, two = (_schedule([9, 4, 7], 4, groups) for groups in (1, 1, 2))
    of = Stream("captions", {"d": "d"}, 4)
    before = BatchSchedule({"s": of}, {"s": {"d": np.array([9, 4, 7])}}, 0)
    assert plain.fingerprint == one.fingerprint == before.fingerprint != two.fingerprint
    assert [one.rows(t) for t in range(20)] == [before.rows(t) for t in range(20)] != [two.rows(t) for t in range(20)]
    assert [two.in_groups(1).rows(t) for t in range(20)] == [one.rows(t) for t in range(20)]
    assert differences(one.description(), two.description()) == ["groups: 1 before, 2 now"]


@pytest.mark.parametrize("groups", [1, 3])
def test_a_substitute_is_at_hand(groups):
    schedule = _schedule([10] * 30, 6, groups)
    order = schedule.orders["s", "d"]
    for step in (0, 17, 49):
        for slot in range(6):
            group = slot * groups // 6
            draws = schedule.substitutes(step, slot)
            near = {next(draws).shard for _ in range(400)}
            position = order.windows(step, group)
            assert near <= set(next(position).shards) | set(next(position).shards)
            assert len(near) > 1
            far = {next(draws).shard for _ in range(1000)} - near
            assert 1 <= len(far) <= 20  # where the window has nothing good: from a few others, each tried many times
    again = schedule.substitutes(17, 3)
    assert [next(again) for _ in range(5)] == [next(s) for s in [schedule.substitutes(17, 3)] for _ in range(5)]


def test_the_places_of_a_machine():
    assert [list(groups_of(part, 2, 4)) for part in (0, 1)] == [[0, 1], [2, 3]]
    assert [list(groups_of(part, 4, 2)) for part in range(4)] == [[0], [0], [1], [1]]
    assert [list(groups_of(part, 2, 3)) for part in (0, 1)] == [[0, 1], [1, 2]]
    with pytest.raises(ValueError, match="Stream 's': groups=7 must be from 1 to batch_size=6"):
        _schedule([10], 6, 7)


def test_what_is_needed_soon_comes_first():
    streams = {"fast": Stream("captions", {"d": "d"}, 8, ratio=9.0), "slow": Stream("captions", {"d": "d"}, 8)}
    sizes = {"d": [16] * 40}
    schedule = BatchSchedule(streams, {"fast": sizes, "slow": sizes}, 0)
    needs = schedule.needs(5, [0], 2, windows=1)
    assert [need.open for need in needs] == [True] * 16 + [False] * 16
    assert {need.stream for need in needs[:16]} == {"fast", "slow"}
    assert [need.stream for need in needs[16:]] == ["fast"] * 8 + ["slow"] * 8  # the fast stream's window ends sooner
    assert len({(need.stream, need.shard) for need in needs}) == 32


def test_memory_and_time_do_not_grow_with_the_samples():
    order = EpochOrder([10_000] * 40_000, [0], 4096, groups=8)  # 400 million samples
    assert order.size == 400_000_000
    places = order.take(4096 * 90_000, 512)
    assert len(set(places)) == 512
    held = sum(samples.nbytes for _, samples in order._shuffled.values())
    assert held <= 16 * WINDOW * 10_000
