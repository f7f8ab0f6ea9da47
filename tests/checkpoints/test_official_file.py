"""Official weights are found whatever wraps them, and what was taken off is told."""

import argparse
import collections

import pytest
import torch
from PIL import Image

import relpretrain
from relpretrain.backbones import ALBEF, XVLM
from relpretrain.checkpoints.official.back import to_official
from relpretrain.checkpoints.official.file import official_file
from relpretrain.errors import CheckpointError
from relpretrain.objectives import ITC
from relpretrain.training import RelationModule
from tests.parity.official_files import words_of_golden

NUMBERS = {"size": "tiny", "image_size": 32, "vocab_size": 200}
HEADS = {"text_heads": 4, "vision_heads": 4}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return ALBEF(**NUMBERS, momentum=0.9, queue_size=8)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return words_of_golden(tmp_path_factory.mktemp("words"))


def official(model):
    return to_official(model.state_dict(), model.config, isinstance(model, ALBEF))


def under(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def changed(state, function):
    return {key: function(value) if value.is_floating_point() else value for key, value in state.items()}


WRAPPED = {
    "bare": (lambda s: s, ()),
    "net": (lambda s: {"net": s}, ("taken from net.*",)),
    "state_dict": (lambda s: {"state_dict": s, "epoch": 3}, ("taken from state_dict.*",)),
    "model_state_dict": (lambda s: {"model_state_dict": s}, ("taken from model_state_dict.*",)),
    "only an average": (lambda s: {"model_ema": s}, ("taken from model_ema.*",)),
    "an average beside": (lambda s: {"ema": changed(s, torch.zeros_like), "model": s}, ("other copies", "ema.*")),
    "DDP": (lambda s: {"model": under("module.", s)}, ("taken from model.module.*",)),
    "compiled": (lambda s: {"model": under("_orig_mod.", s)}, ("taken out of _orig_mod",)),
    "DDP, compiled": (lambda s: {"model": under("module._orig_mod.", s)}, ("taken from model.module.*", "_orig_mod")),
    "Lightning": (
        lambda s: {"state_dict": under("model.", s) | {"accuracy.total": torch.zeros(1)}, "callbacks": {}},
        ("taken from state_dict.model.*", "not the model's, accuracy.total"),
    ),
    "Lightning, DDP and a teacher": (
        lambda s: {"state_dict": under("teacher.", changed(s, torch.zeros_like)) | under("net.module.", s)},
        ("taken from state_dict.net.module.*", "state_dict.teacher.*"),
    ),
    "entries": (lambda s: {"checkpoint": {"model": s}}, ("taken from checkpoint.model.*",)),
    "compiled parts": (
        lambda s: {"model": {k.replace("visual_encoder.", "visual_encoder._orig_mod."): v for k, v in s.items()}},
        ("taken out of _orig_mod",),
    ),
    "settings": (lambda s: {"model": s, "args": argparse.Namespace(lr=1, names=["a"])}, ()),
    "ordered": (lambda s: {"model": collections.OrderedDict(s), "optimizer": {"state": {0: {"step": 1}}}}, ()),
    "numbers between": (lambda s: {"model": {**s, "epoch": 3}}, ("left aside: not the model's, epoch",)),
    "parameters": (lambda s: {"model": {k: torch.nn.Parameter(v, requires_grad=False) for k, v in s.items()}}, ()),
    "double": (lambda s: {"model": changed(s, torch.Tensor.double)}, ("stored as float64, now float32",)),
    "no pointer": (lambda s: {"model": {k: v for k, v in s.items() if k != "queue_ptr"}}, ("queue begins at 0",)),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_are_taken_off_and_told(name, model, tokenizer, tmp_path):
    wrap, notes = WRAPPED[name]
    torch.save(wrap(official(model)), tmp_path / "c.pth")
    loaded = relpretrain.load(tmp_path / "c.pth", tokenizer=tokenizer, arguments=HEADS)
    own = loaded.backbone.state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(own[key], value) or key == "teacher._extra_state", key
    assert bool(loaded.report.notes) == bool(notes)
    for note in notes:
        assert note in str(loaded.report)
    other = ALBEF(**NUMBERS)
    module = RelationModule(other, {"itc": ITC()}, weights=str(tmp_path / "c.pth"))
    assert module.starts_official
    assert all(torch.equal(value, own[key]) for key, value in other.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("vision", ["albef", "vit", "swin"])
def test_half_precision_files_become_fp32(dtype, vision, tokenizer, tmp_path):
    numbers = NUMBERS | ({"image_size": 128} if vision == "swin" else {})
    model = ALBEF(**numbers) if vision == "albef" else XVLM(**numbers, vision=vision)
    torch.save({"model": changed(official(model), lambda value: value.to(dtype))}, tmp_path / "c.pth")
    arguments = {"text_heads": 4} | ({} if vision == "swin" else {"vision_heads": 4})
    loaded = relpretrain.load(tmp_path / "c.pth", tokenizer=tokenizer, image_size=64, arguments=arguments)
    assert {value.dtype for value in loaded.backbone.parameters()} == {torch.float32}
    assert f"stored as {str(dtype)[6:]}, now float32" in str(loaded.report)
    assert loaded.backbone.encode_image(loaded.preprocess.images([Image.new("RGB", (9, 9))])).tokens.isfinite().all()
    assert torch.equal(loaded.backbone.text_projection.weight, model.text_projection.weight.to(dtype).float())


@pytest.mark.parametrize("lost", ["image_queue", "text_queue"])
def test_half_a_queue_is_none(lost, model, tokenizer, tmp_path):
    torch.save({k: v for k, v in official(model).items() if k != lost}, tmp_path / "c.pth")
    loaded = relpretrain.load(tmp_path / "c.pth", tokenizer=tokenizer, arguments=HEADS)
    assert loaded.backbone.teacher.queue is None or loaded.backbone.teacher.queue.image.shape[1] == 0
    assert "skipped: of a queue that is not whole" in str(loaded.report)
    start = ALBEF(**NUMBERS, momentum=0.9, queue_size=8)
    queue = start.teacher.queue.image.clone()
    RelationModule(start, {"itc": ITC()}, weights=str(tmp_path / "c.pth"))
    assert torch.equal(start.teacher.queue.image, queue)


def test_weights_of_a_diverged_run_are_refused(model, tokenizer, tmp_path):
    state = official(model)
    torch.save({**state, "vision_proj.weight": torch.full_like(state["vision_proj.weight"], torch.nan)}, tmp_path / "c")
    with pytest.raises(CheckpointError, match=r"1 not finite .*: image_projection.weight") as caught:
        relpretrain.load(tmp_path / "c", tokenizer=tokenizer, arguments=HEADS)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match=r"model.weights=.* not finite"):
        RelationModule(ALBEF(**NUMBERS), {"itc": ITC()}, weights=str(tmp_path / "c"))


def _nothing(path):
    path.write_bytes(b"")


def _text(path):
    path.write_text("name,score\na,1\n")


def _picture(path):
    Image.new("RGB", (8, 8)).save(path, format="PNG")


def _tensor(path):
    torch.save(torch.zeros(3), path)


def _list(path):
    torch.save([torch.zeros(3)], path)


def _empty(path):
    torch.save({}, path)


def _foreign(path):
    torch.save({"model": {"conv.weight": torch.zeros(3)}}, path)


def _cut(path):
    torch.save({"model": {"conv.weight": torch.zeros(3000)}}, path)
    path.write_bytes(path.read_bytes()[:5000])


def _scripted(path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)


def _module(path):
    torch.save(torch.nn.Linear(2, 2), path)


@pytest.mark.parametrize(
    "write", [_nothing, _text, _picture, _tensor, _list, _empty, _foreign, _cut, _scripted, _module]
)
@pytest.mark.filterwarnings("ignore")
def test_whatever_else_a_file_is_takes_one_line(write, tmp_path):
    write(tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"c\.pth") as caught:
        relpretrain.load(tmp_path / "c.pth")
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match=r"c\.pth") as caught:
        RelationModule(ALBEF(**NUMBERS), {"itc": ITC()}, weights=str(tmp_path / "c.pth"))
    assert "\n" not in str(caught.value)


def test_relation_heads_lie_beside_the_state(model):
    state = official(model) | {"relation_objectives.mrc.head.0.bias": torch.zeros(2)}
    outside = under("model.", official(model)) | {
        "relation_objectives.mrc.head.0.bias": torch.zeros(2),
        "relation_stream._extra_state": torch.tensor(7),
    }
    for content in (state, {"model": under("module.", state)}, {"state_dict": outside}):
        found = official_file(content)
        assert list(found.relations) == ["mrc.head.0.bias"]
        assert list(found.state) == list(official(model))
    assert "relation_stream._extra_state" in " ".join(found.notes)
