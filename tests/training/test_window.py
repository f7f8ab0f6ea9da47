import pytest
import torch

from relpretrain.training.window import Window, log_name
from relpretrain.types import ObjectiveOutput


def output(value, count=1, metrics=None):
    return ObjectiveOutput(torch.tensor(value), {"mrc": torch.tensor(value)}, count, metrics or {})


def test_means_are_over_the_steps_that_happened():
    window = Window()
    window.add(0, "graphs", torch.tensor(1.0), {"mrc": output(1.0, 2, {"mrc_accuracy": torch.tensor(0.5)})})
    window.add(1, "graphs", torch.tensor(3.0), {"mrc": output(3.0)})
    window.add(2, "graphs", torch.tensor(0.0), {"mrc": output(0.0, count=0)})
    means = window.means()
    assert means == pytest.approx({"loss": 2.0, "graphs_loss": 2.0, "mrc": 2.0, "mrc_accuracy": 0.5})
    assert window.means() == {}


def test_nothing_happened_means_nothing_is_said():
    window = Window()
    window.add(0, "", torch.tensor(0.0), {"mrc": output(0.0, count=0)})
    assert window.means() == {}


@pytest.mark.parametrize(
    ("objective", "part", "name"),
    [("itc", "itc", "itc"), ("vsg", "itc", "vsg_itc"), ("mrc", "mrc_accuracy", "mrc_accuracy")],
)
def test_log_names(objective, part, name):
    assert log_name(objective, part) == name


def test_a_process_without_samples_does_not_spoil_a_mean():
    window = Window()
    for value, count in ((float("nan"), 0), (0.25, 2)):  # the same step on two processes
        window.add(0, "", torch.tensor(1.0), {"mrc": output(1.0, count, {"mrc_accuracy": torch.tensor(value)})})
    assert window.means()["mrc_accuracy"] == 0.25
