"""A step never makes the host wait for the device: of every stream, on every backbone, on device "cuda" without one."""

import contextlib
import dataclasses

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from relpretrain.backbones import ALBEF, XVLM
from relpretrain.objectives import BOX, ITC, ITM, MLM, MRC, VMA, VSG, MultiPositive, RelationUnits, TextFoil
from relpretrain.objectives.text_foil import SITES
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.training import RelationModule, micro_batch
from relpretrain.training.metric_buffer import MetricBuffer
from relpretrain.training.survival import finite
from relpretrain.types import Normalisation, send
from relpretrain.types.normalisation import _colours
from tests.objectives.standin import captions, graphs, regions, with_foils, with_units
from tests.syncs import SyncLog, fake

SIDE, WORDS = 32, 20
SMALL = {"size": "tiny", "image_size": SIDE, "vocab_size": WORDS, "text_layers": 1, "fusion_layers": 1}
"""Operations on fake tensors are slow, and what a layer does, a second does again."""
VIT = {**SMALL, "patch_size": 16, "vision_depth": 2}  # a block of the whole image, and one of regions
SWIN = {**SMALL, "vision": "swin", "patch_size": 4, "vision_depth": (2, 1), "vision_heads": (1, 2)}  # one shifted block
BACKBONES = {
    "albef": lambda: ALBEF(**VIT, momentum=0.9, queue_size=16),
    "xvlm, vit": lambda: XVLM(**VIT),
    "xvlm, swin": lambda: XVLM(**SWIN),
}


def with_a_caption():
    """Regions, of which one row is its whole image."""
    batch = regions()
    batch.pairs.whole = torch.tensor([True, False, False, False])
    return batch


def with_foils_and_units():
    return with_units(with_foils(captions(4)))


STREAMS = {
    "captions": captions,
    "captions with foils and units": with_foils_and_units,
    "regions": with_a_caption,
    "graphs": graphs,
    "graphs outside the vocabulary": lambda: graphs(relations=("unheard of",)),
}


def module(backbone, more=False):
    objectives = {"itc": ITC(), "itm": ITM(), "mlm": MLM(), "vma": VMA(), "vsg": VSG()}
    objectives["mrc"] = MRC(RelationVocabulary(["on", "under"]))
    if hasattr(backbone, "boxes"):
        objectives["box"] = BOX()
    if more:
        objectives["foils"] = TextFoil(sites=dict.fromkeys(SITES, 1.0), loss="adaptive_rank")
        objectives |= {"focal": TextFoil(loss="focal"), "units": RelationUnits(), "positives": MultiPositive()}
    return RelationModule(backbone, objectives)


@pytest.fixture(autouse=True)
def _no_fake_colours():
    """What a step keeps on its device must not outlive the fake one."""
    _colours.cache_clear()
    yield
    _colours.cache_clear()


def has_fake_device():
    """The oldest torch looks for a driver when it makes a fake CUDA tensor."""
    try:
        with FakeTensorMode():
            torch.zeros(1).to("cuda")
    except (RuntimeError, AssertionError):
        return False
    return True


needs_fake_device = pytest.mark.skipif(not has_fake_device(), reason="this torch makes no fake CUDA tensors")


def waits(monkeypatch, name, stream, device, micro_batch=None):
    """Run a step (on a CPU also its backward pass: autograd needs the device itself); what the host waited for."""
    if device == "cpu":  # there the verdict on a step is read at once
        monkeypatch.setattr(finite.FiniteGuard, "passes", lambda *_, **__: True)
    else:  # page-locked memory and events need a driver
        monkeypatch.setattr(finite, "_to_host", lambda value: (value, None))
    mode, log = FakeTensorMode(), SyncLog()
    batch = STREAMS[stream]()
    images = torch.zeros(len(batch.images), 3, SIDE, SIDE, dtype=torch.uint8)
    pairs = dataclasses.replace(batch.pairs, text=batch.pairs.text.located())  # as `collate` leaves them
    shown = Normalisation((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    plain = module(BACKBONES[name](), batch.foils is not None)
    plain.micro_batch = micro_batch
    batch = dataclasses.replace(batch, images=images, pairs=pairs, normalisation=shown)
    batch = plain.on_before_batch_transfer(batch, 0)
    batch = batch._map(mode.from_tensor)
    trained = fake(plain, mode, device)
    with mode, log:
        loss = trained.training_step(batch.to(device))  # as Lightning moves it
        MetricBuffer().add(0, stream, *trained.last)
        if device == "cpu":
            loss.backward()
        else:
            for parameter in trained.parameters():  # of which the guard takes the norm
                parameter.grad = torch.zeros_like(parameter)
        trained.on_before_optimizer_step(None)
    return log.found


OF_TEXTS = ("captions with foils and units", "graphs outside the vocabulary")
"""What these have beside the others does not reach the image encoder: one encoder of X-VLM is enough."""


@needs_fake_device
@pytest.mark.parametrize(
    ("name", "stream"), [(n, s) for n in BACKBONES for s in STREAMS if n != "xvlm, swin" or s not in OF_TEXTS]
)
def test_no_step_waits_for_the_device(monkeypatch, name, stream):
    assert waits(monkeypatch, name, stream, "cuda") == []


@needs_fake_device
@pytest.mark.parametrize("stream", ["captions", "regions", "graphs"])
def test_no_part_of_a_batch_waits_for_the_device(monkeypatch, stream):
    # What a part keeps of the random state needs a driver, and is copied in any case (`torch.utils.checkpoint`).
    monkeypatch.setattr(micro_batch, "checkpoint", lambda function, *given, **_: function(*given))
    assert waits(monkeypatch, "xvlm, vit", stream, "cuda", micro_batch=1) == []


@pytest.mark.parametrize("name", BACKBONES)
def test_no_backward_pass_reads_a_value(monkeypatch, name):
    assert waits(monkeypatch, name, "regions", "cpu") == []


@needs_fake_device
@pytest.mark.parametrize(
    ("waiting", "found"),
    [
        (lambda x: torch.tensor([1.0], device=x.device), "cpu to cuda, blocking"),
        (lambda x: x.cpu(), "cuda to cpu, blocking"),
        (lambda x: x[x > 0], "by a mask"),
        (lambda x: x[torch.tensor([1])], "by an index on another device"),
        (lambda x: x.sum().item(), "_local_scalar_dense"),
        (lambda x: bool((x > 0).any()), "_local_scalar_dense"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x + torch.ones(3), "FakeTensorDeviceMismatchError"),
    ],
)
def test_the_log_sees(waiting, found):
    log = SyncLog()
    with FakeTensorMode(), log:
        x = send(torch.zeros(3), torch.device("cuda"))
        assert log.found == []
        with contextlib.suppress(RuntimeError):  # a value or a shape that a fake tensor cannot have
            waiting(x)
    assert len(log.found) == 1
    assert found in log.found[0]
