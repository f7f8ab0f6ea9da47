"""Which models are served, what the others lack, adapters of one's own, and what came before attaching."""

import copy
import gc

import pytest
import timm
import torch
import torch.nn.functional as F
import transformers
from torch import nn
from torch.distributed.fsdp import FSDPModule

from relpretrain import HostAdapter, add_relation_objectives, relation_parameters, remove_relation_objectives
from relpretrain.adapters.find import find
from relpretrain.objectives import MRC, VSG
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.types import ImageFeatures
from tests import two_ranks
from tests.objectives.standin import StandIn, graphs


class Mine(nn.Module):
    """A model of one's own: two encoders that meet in a cosine."""

    def __init__(self):
        super().__init__()
        self.see, self.read, self.scale = nn.Linear(48, 8), nn.Embedding(20, 8), nn.Parameter(torch.tensor(10.0))

    def forward(self, images, ids):
        return F.normalize(self.see(images.flatten(1)), dim=-1) @ F.normalize(self.read(ids).mean(1), dim=-1).T


class MyAdapter(HostAdapter):
    name = "my model"
    needs = {"see": "image encoder", "read": "text encoder"}  # noqa: RUF012
    provides = frozenset(["contrast"])
    note = "Texts are means of their words."

    @property
    def temperature(self):
        return 1 / self.host.scale

    def encode_image(self, images, regions=None):
        tokens = self.host.see(images.flatten(1))[:, None]
        return ImageFeatures(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))

    def encode_text(self, ids, mask):
        return (self.host.read(ids) * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]

    def project_image(self, tokens):
        return F.normalize(tokens[:, 0], dim=-1)

    def project_text(self, tokens):
        return F.normalize(tokens[:, 0], dim=-1)


def chosen():
    return [VSG(), MRC(RelationVocabulary(["on", "under"]))]


def test_an_adapter_of_ones_own(capsys):
    model = Mine()
    add_relation_objectives(model, [VSG()], adapter=MyAdapter)
    losses = model.relation_losses(graphs())
    assert set(losses) == {"vsg_itc"}
    losses["vsg_itc"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    assert capsys.readouterr().out.splitlines() == [
        "Relation objectives on my model: VSG (ITC).",
        "  Texts are means of their words.",
    ]


def test_an_adapter_finds_its_host_inside():
    model = nn.ModuleDict({"net": Mine()})
    assert find(model, MyAdapter).path == "net"


def test_an_adapter_without_needs_takes_the_model_itself():
    class Any(MyAdapter):
        needs = {}  # noqa: RUF012

    assert find(Mine(), Any).path == ""


def test_mrc_without_regions_is_refused_and_nothing_is_touched():
    model = Mine()
    before, state = dict(vars(model)), copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"MRC cannot be computed on my model: it has no regions"):
        add_relation_objectives(model, chosen(), adapter=MyAdapter)
    assert vars(model).keys() == before.keys()
    assert list(model._modules) == ["see", "read"]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("adapter", [MyAdapter(None), object, "mine"])
def test_an_adapter_is_a_class_of_ours(adapter):
    with pytest.raises(TypeError, match=r"must be a class that derives from relpretrain\.adapters\.HostAdapter"):
        add_relation_objectives(Mine(), [VSG()], adapter=adapter)


def test_what_the_adapters_host_lacks_is_named():
    model = Mine()
    del model.see
    with pytest.raises(TypeError, match=r"taken as my model, lacks see \(image encoder\)"):
        add_relation_objectives(model, [VSG()], adapter=MyAdapter)


def bert():
    config = transformers.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=30)
    return transformers.BertForMaskedLM(config)


@pytest.mark.parametrize(
    ("make", "name"), [(lambda: timm.create_model("resnet18"), "ResNet"), (bert, "BertForMaskedLM"), (Mine, "Mine")]
)
def test_a_model_that_is_no_host_is_refused_in_one_line(make, name):
    model = make().eval()
    attributes, modules = set(vars(model)), {key: id(module) for key, module in model.named_modules()}
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(TypeError) as refusal:
        add_relation_objectives(model)
    message = str(refusal.value)
    assert message.startswith(f"{name} cannot be served: ")
    assert "lacks" in message
    assert "\n" not in message
    assert set(vars(model)) == attributes
    assert {key: id(module) for key, module in model.named_modules()} == modules
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_a_frozen_copy_does_not_count():
    model = nn.ModuleDict({"trained": StandIn(), "average": StandIn().requires_grad_(False)})
    add_relation_objectives(model, chosen())
    assert model.relation_attachment.found.path == "trained"


def test_relation_parameters_are_the_new_ones():
    model = StandIn()
    before = list(model.parameters())
    with pytest.raises(ValueError, match="StandIn has no relation objectives"):
        relation_parameters(model)
    add_relation_objectives(model, chosen())
    new = relation_parameters(model)
    assert len(new) == 4
    assert {id(p) for p in model.parameters()} == {id(p) for p in [*before, *new]}


def test_an_optimizer_from_before_is_told_what_to_add():
    model = StandIn()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(UserWarning, match=r"optimizer already \(SGD\).*add_param_group.*relation_parameters\(model\)"):
        add_relation_objectives(model, chosen())
    head = relation_parameters(model)
    optimizer.add_param_group({"params": head})
    before = [parameter.detach().clone() for parameter in head]
    model.relation_losses(graphs())["mrc"].backward()
    optimizer.step()
    assert all(not torch.equal(one, two) for one, two in zip(before, head, strict=True))


@pytest.mark.filterwarnings("error")
def test_no_warning_without_need():
    torch.optim.SGD(StandIn().parameters(), lr=0.1)  # of another model
    kept = torch.optim.SGD(StandIn().parameters(), lr=0.1)
    model = StandIn()
    add_relation_objectives(model, chosen())
    vsg_only, optimizer = StandIn(), None
    optimizer = torch.optim.SGD(vsg_only.parameters(), lr=0.1)
    add_relation_objectives(vsg_only, [VSG()])  # brings no parameters
    assert kept is not None
    assert optimizer is not None


def _wrapped(rank):
    model = StandIn()
    wrapper = nn.parallel.DistributedDataParallel(model)
    try:
        add_relation_objectives(model, chosen())
    except ValueError as error:
        return str(error), hasattr(model, "relation_objectives"), wrapper.module is model
    return "", True, True


def test_a_wrapped_model_is_refused():
    for message, attached, same in two_ranks.run(_wrapped):
        assert "wrapped in DistributedDataParallel already" in message
        assert not attached
        assert same


@pytest.mark.parametrize("part", ["the model", "a part of it"])
def test_a_sharded_model_is_refused(part):
    model = StandIn()
    sharded = model if part == "the model" else next(iter(model.children()))
    kind = type(sharded)
    sharded.__class__ = type(f"FSDP{kind.__name__}", (FSDPModule, kind), {})  # as `fully_shard` does
    with pytest.raises(ValueError, match=r"is sharded over processes \(FSDP\) already"):
        add_relation_objectives(model, chosen())
    assert not hasattr(model, "relation_objectives")


def test_removed_and_attached_again():
    model = StandIn()
    attributes, state = set(vars(model)), list(model.state_dict())
    for _ in range(2):
        add_relation_objectives(model, chosen())
        assert remove_relation_objectives(model) is model
        assert set(vars(model)) == attributes
        assert list(model.state_dict()) == state
        assert model.forward.__func__ is StandIn.forward
    with pytest.raises(ValueError, match="has no relation objectives"):
        remove_relation_objectives(model)
    gc.collect()


def test_a_forward_that_the_model_itself_has_comes_back():
    model = Mine()
    own = model.forward = lambda images, ids: "patched"
    add_relation_objectives(model, [VSG()], adapter=MyAdapter)
    assert model(None, None) == "patched"
    remove_relation_objectives(model)
    assert model.forward is own


def test_new_parameters_go_where_the_model_is():
    model = StandIn().double()
    add_relation_objectives(model, chosen())
    assert {parameter.dtype for parameter in relation_parameters(model)} == {torch.float64}
    assert not add_relation_objectives(StandIn().eval(), chosen()).relation_objectives.training
