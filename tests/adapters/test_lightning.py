"""Other people's LightningModules: automatic and manual steps, batches with graphs and a loader of graphs."""

import copy
import inspect
import pickle

import pytest
import torch
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from relpretrain import add_relation_objectives, remove_relation_objectives
from relpretrain.objectives import MRC, VSG
from relpretrain.scene_graph import RelationVocabulary
from tests.objectives.standin import StandIn, graphs


class Host(LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone = StandIn()
        self.seen = []

    def own_loss(self, batch):
        return self.backbone.text_layer.weight.square().sum() * batch["factor"]

    def training_step(self, batch, number):
        self.seen.append(number)
        return self.own_loss(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


class ByHand(Host):
    """Steps an optimizer of its own, twice in each training step, with two backward passes each."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.gradients = []

    def training_step(self, batch, number):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.own_loss(batch))
        self.manual_backward(self.own_loss(batch))
        self.gradients.append({n: p.grad.clone() for n, p in self.named_parameters() if p.grad is not None})
        optimizer.step()


class Loader:
    """Graph batches by step, that can be begun anywhere."""

    def __init__(self, count=4):
        self.count, self.start, self.opened = count, 0, 0

    def seek(self, step):
        self.start = step

    def __iter__(self):
        self.opened += 1
        for step in range(self.start, self.count):
            batch = graphs(step)
            batch.step = step
            yield batch
        self.start = 0


def chosen():
    return [VSG(), MRC(RelationVocabulary(["on", "under"]))]


def trainer(folder, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    options = {"max_epochs": 1, "enable_checkpointing": False} | options
    return Trainer(default_root_dir=folder, **quiet, **options)


def loader(count=3):
    return DataLoader([{"factor": float(number + 1)} for number in range(count)], batch_size=None)


def silent(model):
    model.log_dict = lambda values: None
    return model


def test_a_loader_joins_every_step(tmp_path):
    model = add_relation_objectives(Host(), chosen(), loader=Loader())
    steps, losses = [], model.relation_losses
    model.relation_losses = lambda batch: steps.append(batch.step) or losses(batch)
    run = trainer(tmp_path, max_epochs=2)
    run.fit(model, loader())
    assert model.seen == [0, 1, 2, 0, 1, 2]
    assert steps == [0, 1, 2, 3, 0, 1]  # four in an epoch of the loader, which goes round
    assert {"relation/vsg_itc", "relation/vsg_itm", "relation/vsg_mlm", "relation/mrc"} <= set(run.callback_metrics)


def test_the_loss_is_the_hosts_and_the_graphs():
    model = silent(add_relation_objectives(Host(), chosen(), loader=Loader()))
    expected = model.own_loss({"factor": 2.0}) + sum(model.relation_losses(graphs(0)).values())
    assert model.training_step({"factor": 2.0}, 0).item() == pytest.approx(expected.item(), rel=1e-6)


def test_signatures_are_the_hosts():
    model = add_relation_objectives(Host(), chosen())
    assert inspect.signature(model.training_step) == inspect.signature(Host().training_step)


def test_the_position_is_part_of_the_state():
    model = silent(add_relation_objectives(Host(), chosen(), loader=Loader()))
    for number in range(2):
        model.training_step({"factor": 1.0}, number)
    state = copy.deepcopy(model.state_dict())
    third = model.training_step({"factor": 1.0}, 2).item()
    other = silent(add_relation_objectives(Host(), chosen(), loader=Loader()))
    other.load_state_dict(state)
    assert other.relation_stream.next_step == 2
    assert other.training_step({"factor": 1.0}, 2).item() == pytest.approx(third, rel=1e-6)


def test_a_resumed_run_goes_on_with_the_next_graphs(tmp_path):
    whole = add_relation_objectives(Host(), chosen(), loader=Loader(9))
    trainer(tmp_path / "whole", max_epochs=2).fit(whole, loader())
    first = add_relation_objectives(Host(), chosen(), loader=Loader(9))
    half = trainer(tmp_path / "half", max_epochs=1, enable_checkpointing=True)
    half.fit(first, loader())
    second = add_relation_objectives(Host(), chosen(), loader=Loader(9))
    trainer(tmp_path / "rest", max_epochs=2).fit(second, loader(), ckpt_path=half.checkpoint_callback.best_model_path)
    assert second.relation_stream.next_step == 6
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_keep_position_and_parameters_of_their_own(copied):
    model = silent(add_relation_objectives(Host(), chosen(), loader=Loader()))
    model.training_step({"factor": 1.0}, 0)
    del model.log_dict
    twin = copied(model)
    assert twin.relation_stream.next_step == 1
    with torch.no_grad():
        twin.backbone.patch.weight.zero_()
    losses = [module.relation_losses(graphs())["mrc"].item() for module in (model, twin)]
    assert losses[0] != losses[1]


def test_by_hand_they_join_the_first_backward_pass(tmp_path):
    model = add_relation_objectives(ByHand(), chosen(), loader=Loader())
    alone = add_relation_objectives(ByHand(), chosen())
    alone.load_state_dict({key: value for key, value in model.state_dict().items() if "stream" not in key})
    optimizer = torch.optim.SGD(alone.parameters(), lr=0.05)
    expected = []
    for number in range(2):
        optimizer.zero_grad()
        (2 * alone.own_loss({"factor": number + 1.0}) + sum(alone.relation_losses(_at(number)).values())).backward()
        expected.append({name: p.grad.clone() for name, p in alone.named_parameters() if p.grad is not None})
        optimizer.step()
    run = trainer(tmp_path)
    run.fit(model, loader(2))
    for own, others in zip(model.gradients, expected, strict=True):
        assert own.keys() == others.keys()
        for name, gradient in others.items():
            torch.testing.assert_close(own[name], gradient, rtol=1e-5, atol=1e-7)
    assert "relation/mrc" in run.callback_metrics


def _at(step):
    batch = graphs(step)
    batch.step = step
    return batch


def test_by_hand_without_a_backward_pass_is_an_error():
    class Idle(ByHand):
        def training_step(self, batch, number):
            return None

    model = silent(add_relation_objectives(Idle(), chosen(), loader=Loader()))
    with pytest.raises(RuntimeError, match=r"without calling self\.manual_backward"):
        model.training_step({"factor": 1.0}, 0)
    assert "relation_waiting" not in vars(model)


def test_by_hand_a_batch_of_graphs_alone_is_an_error():
    model = silent(add_relation_objectives(ByHand(), chosen()))
    with pytest.raises(RuntimeError, match="only a GraphBatch has no step to join"):
        model.training_step(graphs(), 0)


def test_an_empty_loader_is_an_error():
    model = silent(add_relation_objectives(Host(), chosen(), loader=[]))
    with pytest.raises(ValueError, match="loader of graph batches is empty"):
        model.training_step({"factor": 1.0}, 0)


def test_a_loader_needs_a_training_step():
    model = StandIn()
    with pytest.raises(ValueError, match=r"loader= is for modules with a training_step, which StandIn has not"):
        add_relation_objectives(model, chosen(), loader=Loader())
    assert not hasattr(model, "relation_objectives")


@pytest.mark.parametrize("kind", [Host, ByHand])
def test_everything_is_taken_away_again(kind):
    model, plain = kind(), kind()
    attributes, state = set(vars(model)), list(model.state_dict())
    add_relation_objectives(model, chosen(), loader=Loader())
    remove_relation_objectives(model)
    assert set(vars(model)) == attributes
    assert list(model.state_dict()) == state
    assert model.training_step.__func__ is plain.training_step.__func__
    assert model.manual_backward.__func__ is plain.manual_backward.__func__
