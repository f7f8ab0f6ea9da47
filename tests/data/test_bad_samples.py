import json
from types import SimpleNamespace

import pytest

from relpretrain.data.bad_samples import JUDGED_EVERY, BadSampleTracker
from relpretrain.errors import TooManyBadSamples
from tests import two_ranks


def _batch(good, bad, reason="truncated_image", shard="s1"):
    skipped = tuple(("d", reason, f"{shard}/k{i}") for i in range(bad))
    return SimpleNamespace(keys=tuple(f"d/s/{i}" for i in range(good + bad)), skipped=skipped)


def test_counts_by_dataset_and_reason():
    bad_samples = BadSampleTracker(0.5)
    bad_samples.add(_batch(8, 2))
    bad_samples.add(_batch(9, 1, "box_outside_image"))
    bad_samples.add(_batch(9, 1, shard="s2"))
    bad_samples.add_entry("web", SimpleNamespace(shard="web/s0.tar", problems={"missing_image": 1}))
    assert bad_samples.report() == {"d": {"box_outside_image": 1, "truncated_image": 3}, "web": {"missing_image": 1}}
    assert "web: missing_image: 1 times (first: shard s0)" in bad_samples.lines()


def test_run_stops_over_the_share_and_says_where():
    bad_samples = BadSampleTracker(0.05)
    bad_samples.add(_batch(150, 10))  # 6 %, but of too few to tell
    with pytest.raises(TooManyBadSamples) as caught:
        bad_samples.add(_batch(39, 1, "empty_box", "s2"))
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
    bad_samples = BadSampleTracker(0.05)
    for _ in range(20):
        bad_samples.add(_batch(95, 5))


def test_small_dataset_is_judged_after_one_pass():
    bad_samples = BadSampleTracker(0.05, {"d": 20})
    bad_samples.add(_batch(8, 2))
    with pytest.raises(TooManyBadSamples, match="4 of 20"):
        bad_samples.add(_batch(8, 2))


def test_lost_parts_are_reported_but_not_bad():
    bad_samples = BadSampleTracker(0.0, {"d": 4})
    bad_samples.add(SimpleNamespace(keys=("d/s/k",) * 8, skipped=(("d", "part: entity_cropped", "s/k"),) * 8))
    assert bad_samples.report() == {"d": {"part: entity_cropped": 8}}
    assert bad_samples.lines() == ["d: entity_cropped: 8 times, in part (first: s/k)"]


def test_a_bad_sample_that_comes_once_a_pass_is_never_too_many():
    """One of thirty: early in the second epoch it has been two of thirty-one."""
    bad_samples = BadSampleTracker(0.05, {"d": 30})
    bad_samples.add(_batch(29, 1))
    for _ in range(5):
        bad_samples.add(_batch(0, 1))
        bad_samples.add(_batch(29, 0))
    for _ in range(4):
        bad_samples.add(_batch(0, 1))
    with pytest.raises(TooManyBadSamples, match="11 of 185"):
        bad_samples.add(_batch(0, 1))


def _joint(rank):
    """Rank 0 sees no bad sample, rank 1 one in ten: together 5 %, and more when it has two in ten."""
    bad_samples, said = BadSampleTracker(0.05), []
    for bad in (0, rank):
        for _ in range(JUDGED_EVERY):
            try:
                bad_samples.add(_batch(10 - bad - rank, bad + rank))
            except TooManyBadSamples as error:
                said.append((bad_samples.batches, str(error)))
    return said


def test_all_ranks_stop_together_over_the_joint_share():
    first, second = two_ranks.run(_joint)
    assert first == second
    ((batches, message),) = first
    assert batches == 2 * JUDGED_EVERY
    assert "48 of 640 samples are bad (7.5 %)" in message
    assert "'s1' with 48 of truncated_image (such as s1/k0)" in message


def test_a_run_that_goes_on_counts_on():
    before, after, whole = (BadSampleTracker(0.05, {"d": 20}) for _ in range(3))
    for bad_samples in (before, whole):
        bad_samples.add_entry("d", SimpleNamespace(shard="d/s0.tar", problems={"missing_image": 1}))
        bad_samples.add(_batch(8, 2))
    after.add_entry("d", SimpleNamespace(shard="d/s0.tar", problems={"missing_image": 1}))
    after.go_on(json.loads(json.dumps(before.state())))
    assert after.report() == whole.report() == {"d": {"missing_image": 1, "truncated_image": 2}}
    assert after.lines() == whole.lines()
    with pytest.raises(TooManyBadSamples, match="4 of 20"):
        after.add(_batch(8, 2))
