"""On attaching, and from the first batches: relations outside MRC's vocabulary are told."""

import copy
import pickle
import warnings
from types import SimpleNamespace

import pytest
from lightning import LightningModule

from relpretrain import add_relation_objectives
from relpretrain.adapters.outside import ENOUGH
from relpretrain.objectives import MRC, VSG
from relpretrain.scene_graph import RelationVocabulary
from tests.objectives.standin import StandIn, graphs


class Host(LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone = StandIn()

    def training_step(self, batch, batch_idx):
        return self.backbone.text_layer.weight.square().sum()


def chosen():
    return [VSG(), MRC(RelationVocabulary(["on", "under"]))]


def test_a_loaders_shards_are_judged_at_once(capsys):
    loader = SimpleNamespace(relation_counts={"vrd": {"on": 3, "wear": 4, "has": 1}})
    with pytest.warns(UserWarning, match="MRC never learns 62 % of the relations of vrd"):
        model = add_relation_objectives(Host(), chosen(), loader=loader)
    assert capsys.readouterr().out.splitlines() == [
        "vrd: 5 of 8 relations (62 %) outside MRC's vocabulary: wear 4, has 1",
        "MRC never learns these: give it a vocabulary that has them (relations.json of packed shards), or aliases.",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(ENOUGH):
            model.relation_attachment.drawn.look(("wear",))


def test_the_first_triplets_are_judged_once(capsys):
    model = add_relation_objectives(StandIn(), chosen())
    batch = graphs(relations=("on", "wear", "has"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(ENOUGH // 3):
            model.relation_losses(batch)
    with pytest.warns(UserWarning, match="MRC never learns 67 % of the relations of the graphs' first triplets"):
        model.relation_losses(batch)
    assert "68 of 102 relations (67 %) outside MRC's vocabulary: has 34, wear 34" in capsys.readouterr().out
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.relation_losses(batch)


def test_few_outside_need_no_word(capsys):
    model = add_relation_objectives(StandIn(), chosen())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(ENOUGH):
            model.relation_losses(graphs())  # a third is outside, not more
    assert capsys.readouterr().out == ""


def test_without_mrc_nothing_is_counted():
    model = add_relation_objectives(StandIn(), [VSG()])
    assert model.relation_attachment.drawn.judged


def test_copies_and_pickles_go_on():
    model = add_relation_objectives(StandIn(), chosen())
    model.relation_losses(graphs())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.relation_attachment.drawn.counts.total() == 3
