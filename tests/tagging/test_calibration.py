import json

import numpy as np
import pytest

from relpretrain.tagging.calibration import Calibration, beside, fit, reliability

RNG = np.random.default_rng(0)


def drawn(a, b, n=20000):
    """Scores whose true probability is the logistic function of a * logit(score) + b."""
    scores = RNG.uniform(0.02, 0.98, n)
    chance = 1 / (1 + np.exp(-(a * np.log(scores / (1 - scores)) + b)))
    return scores, RNG.random(n) < chance, chance


def error(scores, truth):
    return sum(b.size * abs(b.mean - b.share) for b in reliability(scores, truth)) / len(scores)


def test_platt_finds_the_numbers_of_a_logistic_distortion():
    scores, truth, chance = drawn(0.5, -1.0)
    found = fit(scores, truth)
    assert found.scores == pytest.approx((0.5, -1.0), abs=0.06)
    np.testing.assert_allclose(found(scores), chance, atol=0.03)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_the_error_falls_on_other_data_and_no_order_changes(method):
    found = fit(*drawn(2.0, -1.5)[:2], method)
    scores, truth, _ = drawn(2.0, -1.5)
    assert error(found(scores), truth) < 0.02 < error(scores, truth)
    line = found(np.linspace(0, 1, 200))
    assert (np.diff(line) >= 0).all()
    assert ((line >= 0) & (line <= 1)).all()
    assert np.isnan(found([np.nan])).all()


def test_isotonic_is_the_best_rising_fit():
    """Against all divisions of the levels into neighbours that share a value."""
    scores = np.array([0.1, 0.2, 0.3, 0.3, 0.4, 0.5])
    truth = np.array([1, 0, 0, 1, 1, 0], bool)
    levels = np.unique(scores)
    best = (np.inf, None)
    for cutting in range(2 ** (len(levels) - 1)):
        blocks = np.cumsum([0, *((cutting >> i) & 1 for i in range(len(levels) - 1))])
        value = np.array([truth[np.isin(scores, levels[blocks == b])].mean() for b in blocks])
        if (np.diff(value) >= 0).all():
            loss = ((value[np.searchsorted(levels, scores)] - truth) ** 2).sum()
            best = min(best, (loss, value.tolist()))
    np.testing.assert_allclose(fit(scores, truth, "isotonic")(levels), best[1])


def test_scores_that_separate_stay_finite():
    found = fit([0.0, 0.1, 0.9, 1.0], [False, False, True, True])
    assert np.isfinite(found([0.0, 0.5, 1.0])).all()


def test_reliability_by_a_loop():
    scores, truth, _ = drawn(1.0, 0.0, 300)
    bins = reliability(scores, truth, 5)
    for b in bins:
        inside = [(s, t) for s, t in zip(scores, truth, strict=True) if b.low <= s < b.high]
        assert b.size == len(inside)
        assert b.mean == pytest.approx(np.mean([s for s, _ in inside]))
        assert b.share == pytest.approx(np.mean([t for _, t in inside]))
    assert sum(b.size for b in bins) == 300
    assert reliability([1.0], [True])[0].high == 1


@pytest.mark.parametrize("truth", [[True, True], [False, False]])
def test_one_sided_truth_is_refused(truth):
    with pytest.raises(ValueError, match="needs true and false ones"):
        fit([0.1, 0.2], truth)


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"method": "platt", "scores": [1], "values": [], "about": {}}',
                '{"method": "magic", "scores": [1, 2], "values": [], "about": {}}'],
)  # fmt: skip
def test_files_that_are_none(tmp_path, content):
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(ValueError, match=r"c\.json is no calibration of a tagger"):
        Calibration.load(tmp_path / "c.json")


def test_a_file_gives_the_same_back(tmp_path):
    for method in ("platt", "isotonic"):
        found = fit(*drawn(1.0, 1.0, 500)[:2], method)
        (tmp_path / "c.json").write_text(json.dumps(found.to_json()))
        scores = RNG.random(50)
        np.testing.assert_array_equal(Calibration.load(tmp_path / "c.json")(scores), found(scores))


def test_it_lies_beside_its_checkpoint(tmp_path):
    assert beside(tmp_path / "last.ckpt") == tmp_path / "last.calibration.json"
    assert beside(tmp_path / "folder") == tmp_path / "folder.calibration.json"
