from types import SimpleNamespace

import pytest

from relpretrain.data.bad_samples import JUDGED_EVERY, Ledger
from relpretrain.data.shards.row_index import Problem
from relpretrain.errors import TooManyBadSamples
from tests import two_ranks


def _batch(good, bad, reason="truncated_image", shard="s1"):
    skipped = tuple(("d", reason, f"{shard}/k{i}") for i in range(bad))
    return SimpleNamespace(keys=tuple(f"d/s/{i}" for i in range(good + bad)), skipped=skipped)


def test_counts_by_dataset_and_reason():
    ledger = Ledger(0.5)
    ledger.add(_batch(8, 2))
    ledger.add(_batch(9, 1, "box_outside_image"))
    ledger.add(_batch(9, 1, shard="s2"))
    ledger.add_index("web", SimpleNamespace(name="s0", problems=[Problem("missing_image", "k9")]))
    assert ledger.report() == {"d": {"box_outside_image": 1, "truncated_image": 3}, "web": {"missing_image": 1}}
    assert "web: missing_image: 1 times (first: s0/k9)" in ledger.lines()


def test_run_stops_over_the_share_and_says_where():
    ledger = Ledger(0.05)
    ledger.add(_batch(150, 10))  # 6 %, but of too few to tell
    with pytest.raises(TooManyBadSamples) as caught:
        ledger.add(_batch(39, 1, "empty_box", "s2"))
    message = str(caught.value)
    for part in (
        "'d'",
        "11 of 200",
        "5.5 %",
        "max_bad_fraction=0.05",
        "truncated_image 10, empty_box 1",
        "'s1'",
        "s1/k0",
    ):
        assert part in message


def test_share_that_is_allowed_goes_on():
    ledger = Ledger(0.05)
    for _ in range(20):
        ledger.add(_batch(95, 5))


def test_small_dataset_is_judged_after_one_pass():
    ledger = Ledger(0.05, {"d": 20})
    ledger.add(_batch(8, 2))
    with pytest.raises(TooManyBadSamples, match="4 of 20"):
        ledger.add(_batch(8, 2))


def test_lost_parts_are_reported_but_not_bad():
    ledger = Ledger(0.0, {"d": 4})
    ledger.add(SimpleNamespace(keys=("d/s/k",) * 8, skipped=(("d", "part: entity_cropped", "s/k"),) * 8))
    assert ledger.report() == {"d": {"part: entity_cropped": 8}}
    assert ledger.lines() == ["d: entity_cropped: 8 times, in part (first: s/k)"]


def test_a_bad_sample_that_comes_once_a_pass_is_never_too_many():
    """One of thirty: early in the second pass it has been two of thirty-one."""
    ledger = Ledger(0.05, {"d": 30})
    ledger.add(_batch(29, 1))
    for _ in range(5):
        ledger.add(_batch(0, 1))
        ledger.add(_batch(29, 0))
    for _ in range(4):
        ledger.add(_batch(0, 1))
    with pytest.raises(TooManyBadSamples, match="11 of 185"):
        ledger.add(_batch(0, 1))


def _joint(rank):
    """Rank 0 sees no bad sample, rank 1 one in ten: together 5 %, and more when it has two in ten."""
    ledger, said = Ledger(0.05), []
    for bad in (0, rank):
        for _ in range(JUDGED_EVERY):
            try:
                ledger.add(_batch(10 - bad - rank, bad + rank))
            except TooManyBadSamples as error:
                said.append((ledger.batches, str(error)))
    return said


def test_all_ranks_stop_together_over_the_joint_share():
    first, second = two_ranks.run(_joint)
    assert first == second
    ((batches, message),) = first
    assert batches == 2 * JUDGED_EVERY
    assert "48 of 640 samples are bad (7.5 %)" in message
    assert "'s1' with 48 of truncated_image (such as s1/k0)" in message
