import copy
import dataclasses

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from relpretrain import add_relation_objectives
from relpretrain.adapters.steps import laid_out
from relpretrain.backbones import XVLM, encoders
from relpretrain.objectives import BOX, ITC, MRC, VSG
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.types import Movable
from tests.objectives.standin import WORDS, StandIn, graphs


def chosen():
    return [VSG(), MRC(RelationVocabulary(["on", "under"]))]


class Host(LightningModule):
    """Somebody's own training of one of our backbones."""

    def __init__(self):
        super().__init__()
        self.backbone = StandIn()
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch_idx)
        return {"loss": self.backbone.text_layer.weight.square().sum(), "kept": 1}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def test_three_lines():
    model = StandIn()
    before = set(model.state_dict())
    assert add_relation_objectives(model, chosen()) is model
    losses = model.relation_losses(graphs())
    assert set(losses) == {"vsg_itc", "vsg_itm", "vsg_mlm", "mrc"}
    sum(losses.values()).backward()
    assert model.patch.weight.grad.abs().sum() > 0
    new = set(model.state_dict()) - before
    assert before <= set(model.state_dict())
    assert all(key.startswith("relation_objectives.") for key in new)


def test_the_papers_defaults():
    model = add_relation_objectives(StandIn())
    assert model.relation_objectives["vsg"].max_relations == 8
    assert len(model.relation_objectives["mrc"].vocabulary) == 310


def test_weights_are_applied():
    model, heavier = StandIn(), StandIn()
    add_relation_objectives(model, [VSG()])
    add_relation_objectives(heavier, [VSG(weight=2.0, itm=0.0)])
    one, two = model.relation_losses(graphs()), heavier.relation_losses(graphs())
    assert float(two["vsg_itc"]) == pytest.approx(2 * float(one["vsg_itc"]), rel=1e-6)
    assert float(two["vsg_itm"]) == 0


@pytest.mark.parametrize("batch", [graphs(), {"captions": 1, "graphs": graphs()}, (1, [graphs()])])
def test_a_lightning_module_needs_no_other_change(batch):
    model = add_relation_objectives(Host(), chosen())
    expected = sum(float(v) for v in model.relation_losses(graphs()).values())
    logged = {}
    model.log_dict = lambda values: logged.update(values)
    output = model.training_step(batch, 0)
    host = (
        0.0
        if batch is graphs or isinstance(batch, type(graphs()))
        else float(model.backbone.text_layer.weight.square().sum())
    )
    loss = output["loss"] if isinstance(output, dict) else output
    assert float(loss) == pytest.approx(expected + host, rel=1e-5)
    assert set(logged) == {"relation/vsg_itc", "relation/vsg_itm", "relation/vsg_mlm", "relation/mrc"}
    assert bool(model.seen) == bool(host)


def test_a_step_without_graphs_is_the_hosts_own():
    model = add_relation_objectives(Host(), chosen())
    output = model.training_step({"captions": 1}, 3)
    assert output["kept"] == 1
    assert model.seen == [3]


def test_every_parameter_is_tied_to_every_step():
    """DDP waits for all of them, whether or not a step carries graphs."""
    model = add_relation_objectives(Host(), chosen())
    model.log_dict = lambda values: None
    for batch in ({"captions": 1}, graphs()):
        output = model.training_step(batch, 0)
        reached, front = set(), [(output["loss"] if isinstance(output, dict) else output).grad_fn]
        while front:
            node = front.pop()
            reached.add(getattr(node, "variable", None))
            front += [following for following, _ in node.next_functions if following is not None]
        assert all(parameter in reached for parameter in model.parameters())


def test_it_trains_under_the_trainer(tmp_path):
    model = add_relation_objectives(Host(), chosen())
    loader = DataLoader([{"graphs": graphs(seed)} for seed in range(8)], batch_size=None)
    start = sum(float(v) for v in model.relation_losses(graphs()).values())
    trainer = Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, loader)
    assert sum(float(v) for v in model.relation_losses(graphs()).values()) < start


def test_a_copy_computes_its_own_losses():
    model = add_relation_objectives(StandIn(), chosen())
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert float(model.relation_losses(graphs())["mrc"]) != pytest.approx(float(twin.relation_losses(graphs())["mrc"]))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(2, 2), r"Linear cannot be served: .*lacks .*encode_image"),
        (nn.Sequential(StandIn(), StandIn()), "2 backbones"),
    ],
)
def test_a_model_that_cannot_be_served_is_refused_and_left_alone(model, message):
    before = set(model.state_dict())
    with pytest.raises(TypeError, match=message):
        add_relation_objectives(model)
    assert set(model.state_dict()) == before
    assert not hasattr(model, "relation_losses")


def test_a_half_built_model_is_told_what_it_lacks():
    class NoFusion(StandIn):
        fuse = None

    model = NoFusion()
    with pytest.raises(TypeError, match=r"NoFusion cannot be served: .*lacks fuse\."):
        add_relation_objectives(model, chosen())
    assert not hasattr(model, "relation_objectives")


@pytest.mark.parametrize(
    ("objectives", "message"),
    [([ITC()], "ITC does not consume"), ([BOX()], "BOX does not"), ([VSG(), VSG()], "given twice: vsg")],
)
def test_wrong_objectives_are_refused(objectives, message):
    with pytest.raises(ValueError, match=message):
        add_relation_objectives(StandIn(), objectives)


def test_twice_is_refused():
    with pytest.raises(ValueError, match="already"):
        add_relation_objectives(add_relation_objectives(StandIn(), chosen()), chosen())


def test_texts_and_regions_are_laid_out_before_they_are_used(monkeypatch):
    """On the CPU, where no device is waited for; then nothing of a model of ours runs over padding."""
    monkeypatch.setattr(encoders, "NARROW", 0)  # texts of tiny models, too
    model = add_relation_objectives(XVLM("tiny", image_size=16, vocab_size=WORDS, dropout=0.0), chosen())
    batch = graphs()
    batch.images = torch.randn(2, 3, 16, 16)
    laid = laid_out(model, batch)
    assert [isinstance(p, Movable) for p in (laid.pairs.text.packing, laid.entities.text.packing)] == [True, True]
    assert laid.regions is not None
    assert laid_out(model, laid) is laid
    seen = []
    model.text.layers[0].up.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    losses = model.relation_losses(batch)
    real = int(batch.pairs.text.attention_mask.sum())
    assert seen[0] == real < batch.pairs.text.attention_mask.numel()
    elsewhere = model.relation_losses(dataclasses.replace(laid, pairs=batch.pairs, entities=batch.entities))
    for name, loss in losses.items():
        torch.testing.assert_close(elsewhere[name], loss, msg=name)
