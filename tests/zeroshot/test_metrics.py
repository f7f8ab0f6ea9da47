import math

import pytest
import torch

from relpretrain.zeroshot.decisions import auroc, calibration_error, pairwise_correct, threshold_correct
from relpretrain.zeroshot.metrics import PairwiseAccuracy, ThresholdAccuracy


def scores(n, seed=0, levels=None):
    values = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values if levels is None else (values * levels).round() / levels


def naive_auroc(values, labels):
    positive = [v for v, label in zip(values, labels, strict=True) if label]
    negative = [v for v, label in zip(values, labels, strict=True) if not label]
    if not positive or not negative:
        return math.nan
    wins = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative]
    return sum(wins) / len(wins)


def naive_calibration(values, labels, bins):
    total = 0.0
    for b in range(bins):
        inside = [
            (v, label)
            for v, label in zip(values, labels, strict=True)
            if b / bins <= v < (b + 1) / bins or (v == 1 and b == bins - 1)
        ]
        if inside:
            gap = sum(v for v, _ in inside) / len(inside) - sum(label for _, label in inside) / len(inside)
            total += len(inside) / len(values) * abs(gap)
    return total


@pytest.mark.parametrize("levels", [None, 4, 1])
def test_pairwise_accuracy_agrees_with_a_loop(levels):
    positive, negative = scores(200, 1, levels), scores(200, 2, levels)
    category = torch.arange(200) % 3 - 1
    metric = PairwiseAccuracy(["a", "b"])
    for part in torch.arange(200).split(7):
        metric.update(positive[part], negative[part], category[part])
    result = metric.compute()
    wins = [p > n for p, n in zip(positive.tolist(), negative.tolist(), strict=True)]
    ties = [p == n for p, n in zip(positive.tolist(), negative.tolist(), strict=True)]
    assert result["accuracy"] == pytest.approx(sum(wins) / 200)
    assert result["ties"] == pytest.approx(sum(ties) / 200)
    for number, name in enumerate("ab"):
        inside = [w for w, c in zip(wins, category.tolist(), strict=True) if c == number]
        assert result[f"accuracy/{name}"] == pytest.approx(sum(inside) / len(inside))
        assert metric.total[number] == len(inside)


def test_ties_are_not_wins():
    same = torch.full((9,), 0.3)
    metric = PairwiseAccuracy()
    metric.update(same, same)
    assert metric.compute() == {"accuracy": 0.0, "ties": 1.0}


@pytest.mark.parametrize("levels", [None, 4, 1])
@pytest.mark.parametrize("positives", [0.0, 0.4, 1.0])
def test_threshold_accuracy_agrees_with_a_loop(levels, positives):
    values = scores(150, 3, levels)
    labels = (scores(150, 4) < positives).long()
    category = torch.arange(150) % 4 - 1
    metric = ThresholdAccuracy(["a", "b", "c"])
    for part in torch.arange(150).split(11):
        metric.update(values[part], labels[part], category[part])
    result = metric.compute()
    right = [(v >= 0.5) == bool(label) for v, label in zip(values.tolist(), labels.tolist(), strict=True)]
    assert result["accuracy"] == pytest.approx(sum(right) / 150)
    assert float(result["auroc"]) == pytest.approx(naive_auroc(values.tolist(), labels.tolist()), nan_ok=True)
    assert result["calibration_error"] == pytest.approx(naive_calibration(values.tolist(), labels.tolist(), 10))
    for number, name in enumerate("abc"):
        inside = [r for r, c in zip(right, category.tolist(), strict=True) if c == number]
        assert result[f"accuracy/{name}"] == pytest.approx(sum(inside) / len(inside))
    assert metric.positives[-1] == labels.sum()
    assert metric.total[-1] == 150  # one in four has no category and still counts


def test_exactly_half_means_true():
    assert threshold_correct(torch.tensor([0.5, 0.5]), torch.tensor([1, 0])).tolist() == [True, False]


def test_auroc_knows_no_scale_and_calibration_does():
    values, labels = scores(100, 5), (scores(100, 6) < 0.5).long()
    assert float(auroc(values**3, labels)) == pytest.approx(float(auroc(values, labels)))
    assert float(auroc(1 - values, labels)) == pytest.approx(1 - float(auroc(values, labels)))
    assert calibration_error(labels.double(), labels) == 0
    assert calibration_error(1 - labels.double(), labels) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_refused(bad):
    values = torch.tensor([0.1, bad, 0.3, bad])
    with pytest.raises(ValueError, match=r"2 of 4 scores are not finite numbers \(first: item 1"):
        pairwise_correct(values, torch.zeros(4))
    with pytest.raises(ValueError, match="not finite"):
        PairwiseAccuracy().update(torch.zeros(4), values)
    with pytest.raises(ValueError, match="not finite"):
        ThresholdAccuracy().update(values, torch.zeros(4))


def test_logits_and_odd_labels_are_refused():
    with pytest.raises(ValueError, match=r"between 0 and 1; found 1\.5"):
        threshold_correct(torch.tensor([1.5]), torch.tensor([1]))
    with pytest.raises(ValueError, match="Labels must be 0 or 1"):
        threshold_correct(torch.tensor([0.5]), torch.tensor([2]))


def test_metrics_reset_and_survive_emptiness():
    for metric, inputs in (
        (PairwiseAccuracy(["a"]), (torch.tensor([0.6]), torch.tensor([0.2]), torch.tensor([0]))),
        (ThresholdAccuracy(["a"]), (torch.tensor([0.6]), torch.tensor([1]), torch.tensor([0]))),
    ):
        metric.update(*inputs)
        assert metric.compute()["accuracy"] == 1
        metric.reset()
        assert metric.total.sum() == 0
        metric.update(*inputs)
        assert metric.total.tolist() == [1, 1]
