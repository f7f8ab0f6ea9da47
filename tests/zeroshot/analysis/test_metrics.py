import math

import pytest
import torch

from relpretrain.zeroshot.analysis.decisions import (
    auroc,
    calibration_error,
    pairwise_correct,
    threshold_correct,
)
from relpretrain.zeroshot.analysis.metrics import (
    ChoiceAccuracy,
    PairwiseAccuracy,
    RecallAtK,
    SquareAccuracy,
    ThresholdAccuracy,
)
from tests import two_ranks


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
    assert result["macro"] == pytest.approx((result["accuracy/a"] + result["accuracy/b"]) / 2)
    for number, name in enumerate("ab"):
        inside = [w for w, c in zip(wins, category.tolist(), strict=True) if c == number]
        assert result[f"accuracy/{name}"] == pytest.approx(sum(inside) / len(inside))
        assert metric.total[number] == len(inside)


def test_ties_are_not_wins():
    same = torch.full((9,), 0.3)
    metric = PairwiseAccuracy()
    metric.update(same, same)
    result = metric.compute()
    assert (result["accuracy"], result["ties"]) == (0, 1)
    assert math.isnan(result["macro"])


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


@pytest.mark.parametrize("levels", [None, 3, 1])
@pytest.mark.parametrize("ties_win", [False, True])
@pytest.mark.parametrize("options", [2, 5])
def test_choice_accuracy_agrees_with_a_loop(levels, ties_win, options):
    values = scores(120 * options, 7, levels).reshape(120, options)
    category = torch.arange(120) % 3 - 1
    metric = ChoiceAccuracy(["a", "b", "empty"], ties_win)
    for part in torch.arange(120).split(13):
        metric.update(values[part], category[part])
    result = metric.compute()
    right, tied = [], []
    for row in values.tolist():
        best = max(row[1:])
        right.append(row[0] > best or (ties_win and row[0] == best))
        tied.append(row[0] == best)
    assert result["accuracy"] == pytest.approx(sum(right) / 120)
    assert result["ties"] == pytest.approx(sum(tied) / 120)
    shares = []
    for number, name in enumerate("ab"):
        inside = [r for r, c in zip(right, category.tolist(), strict=True) if c == number]
        shares.append(sum(inside) / len(inside))
        assert result[f"accuracy/{name}"] == pytest.approx(shares[-1])
    assert math.isnan(result["accuracy/empty"])
    assert result["macro"] == pytest.approx(sum(shares) / 2)  # of the categories that have items


def test_micro_and_macro_by_hand():
    metric = PairwiseAccuracy(["often", "seldom"])
    metric.update(torch.tensor([1.0, 1, 1, 0]), torch.tensor([0.0, 0, 0, 1]), torch.tensor([0, 0, 0, 1]))
    result = metric.compute()
    assert (result["accuracy"], result["macro"]) == (0.75, 0.5)


def naive_winoground(rows):
    """As the benchmark's authors put it; rows of c0_i0, c0_i1, c1_i0, c1_i1."""
    text = [a > c and d > b for a, b, c, d in rows]
    image = [a > b and d > c for a, b, c, d in rows]
    return text, image, [t and i for t, i in zip(text, image, strict=True)]


@pytest.mark.parametrize("levels", [None, 2, 1])
def test_square_accuracy_agrees_with_a_loop(levels):
    values = scores(400, 8, levels).reshape(100, 4)
    metric = SquareAccuracy()
    for part in values.split(9):
        metric.update(part)
    expected = [sum(hits) / 100 for hits in naive_winoground(values.tolist())]
    assert [float(v) for v in metric.compute().values()] == pytest.approx(expected)


def test_square_accuracy_by_hand():
    metric = SquareAccuracy()
    metric.update(torch.tensor([[0.9, 0.8, 0.1, 0.85], [0.9, 0.1, 0.95, 0.99], [0.5, 0.5, 0.5, 0.5]]))
    assert {name: float(v) for name, v in metric.compute().items()} == pytest.approx(
        {"text": 1 / 3, "image": 2 / 3, "group": 1 / 3}
    )


def test_recall_agrees_with_a_loop():
    ranks = torch.randint(0, 15, (200,), generator=torch.Generator().manual_seed(0))
    metric = RecallAtK()
    for part in ranks.split(33):
        metric.update(part)
    for k in (1, 5, 10):
        assert metric.compute()[f"R@{k}"] == pytest.approx(sum(1 <= r <= k for r in ranks.tolist()) / 200)


@pytest.mark.parametrize("positives", [0.0, 1.0])
def test_one_class_has_accuracy_and_no_auroc(positives):
    values, labels = scores(50, 9), torch.full((50,), int(positives))
    metric = ThresholdAccuracy()
    metric.update(values, labels)
    result = metric.compute()
    assert result["accuracy"] == pytest.approx(float(((values >= 0.5) == labels.bool()).double().mean()))
    assert math.isnan(result["auroc"])


def filled(shares):
    """Every metric after the updates with these slices of fixed scores."""
    a, b, labels = scores(90, 10, 8), scores(90, 11, 8), (scores(90, 12) < 0.4).long()
    category = torch.arange(90) % 4 - 1
    square, ranks = torch.stack([a, b, b.flip(0), a.flip(0)], dim=1), (8 * a).round().long()
    metrics = [PairwiseAccuracy("xyz"), ThresholdAccuracy("xyz"), ChoiceAccuracy("xyz"), SquareAccuracy(), RecallAtK()]
    for part in shares:
        inputs = [(a, b, category), (a, labels, category), (torch.stack([a, b], 1), category), (square,), (ranks,)]
        for metric, given in zip(metrics, inputs, strict=True):
            metric.update(*(value[part] for value in given))
    return [{name: float(value) for name, value in metric.compute().items()} for metric in metrics]


CUTS = {"uneven": ([(0, 20), (20, 31)], [(31, 90)]), "idle": ([], [(0, 50), (50, 90)])}
"""What each of two ranks updates with; one of them may have nothing."""


def on_ranks(rank):
    return {name: filled([slice(*cut) for cut in cuts[rank]]) for name, cuts in CUTS.items()}


def test_ranks_sync_to_the_figures_of_one_process():
    alone = filled([slice(0, 90)])
    for found in two_ranks.run(on_ranks):
        for name in CUTS:
            for mine, expected in zip(found[name], alone, strict=True):
                assert mine == pytest.approx(expected, nan_ok=True), name
