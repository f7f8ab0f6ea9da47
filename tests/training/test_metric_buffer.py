import pytest
import torch

from relpretrain.objectives.base import log_name
from relpretrain.training import metric_buffer as buffer_file
from relpretrain.training.metric_buffer import MetricBuffer
from relpretrain.types import ObjectiveOutput


def output(value, count=1, metrics=None):
    return ObjectiveOutput(torch.tensor(value), {"mrc": torch.tensor(value)}, count, metrics or {})


def test_means_are_over_the_steps_that_happened():
    window = MetricBuffer()
    window.add(0, "graphs", torch.tensor(1.0), {"mrc": output(1.0, 2, {"mrc_accuracy": torch.tensor(0.5)})})
    window.add(1, "graphs", torch.tensor(3.0), {"mrc": output(3.0)})
    window.add(2, "graphs", torch.tensor(0.0), {"mrc": output(0.0, count=0)})
    means = window.means()
    assert means == pytest.approx({"loss": 2.0, "graphs_loss": 2.0, "mrc": 2.0, "mrc_accuracy": 0.5})
    assert window.means() == {}


def test_nothing_happened_means_nothing_is_said():
    window = MetricBuffer()
    window.add(0, "", torch.tensor(0.0), {"mrc": output(0.0, count=0)})
    assert window.means() == {}


@pytest.mark.parametrize(
    ("objective", "part", "name"),
    [("itc", "itc", "itc"), ("vsg", "itc", "vsg_itc"), ("mrc", "mrc_accuracy", "mrc_accuracy")],
)
def test_log_names(objective, part, name):
    assert log_name(objective, part) == name


def test_a_process_without_samples_does_not_spoil_a_mean():
    window = MetricBuffer()
    for value, count in ((float("nan"), 0), (0.25, 2)):  # the same step on two processes
        window.add(0, "", torch.tensor(1.0), {"mrc": output(1.0, count, {"mrc_accuracy": torch.tensor(value)})})
    assert window.means()["mrc_accuracy"] == 0.25


def words(accuracy, count, loss=0.0):
    """VSG of eight pairs with `count` masked words."""
    parts = {"itc": torch.tensor(1.0), "mlm": torch.tensor(loss)}
    metrics = {"mlm_accuracy": torch.tensor(accuracy)} if count else {}
    counts = {"mlm": count, "mlm_accuracy": torch.tensor(count)}
    return {"vsg": ObjectiveOutput(torch.tensor(1.0), parts, 8, metrics, counts)}


def test_accuracies_are_over_all_that_was_counted_in_the_window():
    window = MetricBuffer()
    window.add(0, "", torch.tensor(1.0), words(1.0, 1, loss=4.0))
    window.add(1, "", torch.tensor(1.0), words(0.2, 10, loss=2.0))
    window.add(2, "", torch.tensor(1.0), words(0.0, 0))
    means = window.means()
    assert means["vsg_mlm_accuracy"] == pytest.approx(3 / 11)
    assert means["vsg_mlm"] == 3.0  # a loss is a mean over the steps that had any masked word


def test_a_class_counts_once_however_frequent_it_is():
    window = MetricBuffer()
    for labels, right in (([0, 0, 0, 2], [1, 1, 0, 0]), ([0, -100, 2, 7], [1, 1, 0, 1])):
        output = ObjectiveOutput(torch.tensor(1.0), {"mrc": torch.tensor(1.0)}, 3)
        output.classes["mrc_macro_accuracy"] = torch.tensor(labels), torch.tensor(right).bool()
        window.add(len(window), "", torch.tensor(1.0), {"mrc": output})
    assert window.means()["mrc_macro_accuracy"] == pytest.approx((3 / 4 + 0 + 1) / 3)
    assert window.means() == {}


def test_processes_are_weighted_by_what_they_counted(monkeypatch):
    other = MetricBuffer()
    other.add(0, "", torch.tensor(3.0), words(0.0, 3, loss=4.0))
    by_class = ObjectiveOutput(torch.tensor(0.0), {}, 1)
    by_class.classes["mrc_macro_accuracy"] = torch.tensor([1, 2]), torch.tensor([False, True])
    other.add(0, "", torch.tensor(0.0), {"mrc": by_class})
    theirs = buffer_file._read(other._rows), buffer_file._read(other._classes)

    def gather(everyone, mine):
        everyone[:] = [mine, theirs]

    monkeypatch.setattr(buffer_file, "is_distributed", lambda: True)
    monkeypatch.setattr(buffer_file, "world_size", lambda: 2)
    monkeypatch.setattr(buffer_file.dist, "all_gather_object", gather)
    window = MetricBuffer()
    window.add(0, "", torch.tensor(1.0), words(1.0, 1, loss=1.0))
    own = ObjectiveOutput(torch.tensor(0.0), {}, 1)
    own.classes["mrc_macro_accuracy"] = torch.tensor([1]), torch.tensor([True])
    window.add(0, "", torch.tensor(0.0), {"mrc": own})
    means = window.means()
    assert means["vsg_mlm_accuracy"] == pytest.approx(1 / 4)
    assert means["vsg_mlm"] == 2.5  # (1 + 4) / 2: each is its process's share of the joint mean
    assert means["mrc_macro_accuracy"] == pytest.approx((1 / 2 + 1) / 2)
