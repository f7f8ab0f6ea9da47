import io
import os
import sys
import zipfile

import pytest
import torch
from torch import nn

import relpretrain
from relpretrain.backbones import ALBEF, XVLM
from relpretrain.checkpoints import checkpoint as checkpoints
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.data.pipeline.tokenizer import load_tokenizer, write_wordpiece
from relpretrain.errors import CheckpointError
from relpretrain.objectives import BOX, ITC, MRC, VSG
from relpretrain.scene_graph import RelationVocabulary

VOCABULARY = RelationVocabulary(("on", "under"), aliases={"atop": "on"})


@pytest.fixture
def preprocess(tmp_path):
    return Preprocess(load_tokenizer(str(write_wordpiece(["cat", "on", "mat"], tmp_path / "tokenizer"))), 32)


def made(preprocess, backbone, objectives):
    for objective in objectives.values():
        objective.attach(backbone)
    parts = nn.ModuleDict({"backbone": backbone, "objectives": nn.ModuleDict(objectives)})
    return {"state_dict": parts.state_dict(), checkpoints.KEY: checkpoints.describe(backbone, objectives, preprocess)}


@pytest.mark.parametrize(("cls", "options"), [(XVLM, {"text_width": 32}), (ALBEF, {"momentum": 0.9, "queue_size": 8})])
def test_the_file_is_all_it_takes(cls, options, preprocess, tmp_path):
    backbone = cls(size="tiny", image_size=32, vocab_size=len(preprocess.tokenizer), **options)
    vocabulary = tmp_path / "relations.json"
    VOCABULARY.save(vocabulary)
    objectives = {"itc": ITC(0.5), "vsg": VSG(4), "mrc": MRC(str(vocabulary), hidden=16)}
    torch.save(made(preprocess, backbone, objectives), tmp_path / "c.ckpt")
    vocabulary.unlink()
    (tmp_path / "tokenizer" / "vocab.txt").unlink()

    loaded = relpretrain.load(tmp_path / "c.ckpt")
    assert type(loaded.backbone) is cls
    assert not loaded.backbone.training
    assert loaded.vocabulary == VOCABULARY
    assert loaded.objectives["itc"].weight == 0.5
    assert loaded.objectives["vsg"].max_relations == 4
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, loaded.backbone.state_dict()[name]), name
    assert torch.equal(objectives["mrc"].head[0].weight, loaded.objectives["mrc"].head[0].weight)
    assert torch.equal(loaded.preprocess.texts(["cat on mat"]).input_ids, preprocess.texts(["cat on mat"]).input_ids)


def text_file(path):
    path.write_text("not a checkpoint\n")


def pipe(path):
    os.mkfifo(path)
    os.write(os.open(path, os.O_RDWR), b"text")  # who reads it all the same need not wait


def pickled_code(path):
    torch.save({"state_dict": {}, "relpretrain": nn.Linear(1, 1)}, path)


def somebody_elses(path):
    torch.save({"model": {"w": torch.zeros(1)}}, path)


def cut_off(path):
    buffer = io.BytesIO()
    torch.save({"state_dict": {"w": torch.zeros(1000)}}, buffer)
    path.write_bytes(buffer.getvalue()[:1500])


def other_zip(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.txt", "a")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "is not a checkpoint"),
        (pipe, "is not a file"),
        (text_file, "is not a checkpoint|Python objects"),
        (cut_off, "is not a checkpoint"),
        (other_zip, "is not a checkpoint"),
        (pickled_code, "Python objects.*not loaded"),
        (somebody_elses, "lacks the entry 'relpretrain' .*model"),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_one_line(write, message, tmp_path):
    path = tmp_path / "c.ckpt"
    write(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        relpretrain.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_are_refused(preprocess, tmp_path):
    backbone = XVLM(size="tiny", image_size=32, vocab_size=len(preprocess.tokenizer))
    content = made(preprocess, backbone, {"box": BOX()})
    del content["state_dict"]["backbone.itm_head.0.weight"]
    torch.save(content, tmp_path / "c.ckpt")
    with pytest.raises(CheckpointError, match=r"does not fit.*itm_head\.0\.weight"):
        relpretrain.load(tmp_path / "c.ckpt")


def test_weights_of_a_run_that_had_diverged_are_refused(preprocess, tmp_path):
    backbone = XVLM(size="tiny", image_size=32, vocab_size=len(preprocess.tokenizer))
    content = made(preprocess, backbone, {"box": BOX()})
    content["state_dict"]["backbone.itm_head.0.weight"].fill_(float("nan"))
    torch.save(content, tmp_path / "c.ckpt")
    with pytest.raises(CheckpointError, match=r"not finite .*in 1 weights: itm_head\.0\.weight"):
        relpretrain.load(tmp_path / "c.ckpt")


@pytest.mark.parametrize(
    "path",
    [
        *("os.system", "subprocess.Popen", "relpretrain.cli.main", "nowhere.Model"),
        "relpretrain.__main__.main",  # which runs the command line when it is imported
        "relpretrain.backbones.nothing.Model",
        "relpretrain.inspect.run_report.__main__.main",
        "torch.nn.modules.linear.Linear",  # a module, and no model
        "relpretrain.objectives.language.MLM",
    ],
)
def test_a_checkpoint_cannot_name_any_code(path, preprocess, tmp_path):
    backbone = XVLM(size="tiny", image_size=32, vocab_size=len(preprocess.tokenizer))
    content = made(preprocess, backbone, {"box": BOX()})
    content[checkpoints.KEY]["backbone"] = {"class_path": path, "init_args": {"args": "true"}}
    torch.save(content, tmp_path / "c.ckpt")
    before = set(sys.modules)
    with pytest.raises(CheckpointError, match=r"which is no backbone|before loading"):
        relpretrain.load(tmp_path / "c.ckpt")
    assert not [name for name in set(sys.modules) - before if name.endswith("__main__")]


@pytest.mark.parametrize("place", ["objective", "argument"])
def test_no_part_of_a_checkpoint_names_any_code(place, preprocess, tmp_path):
    backbone = XVLM(size="tiny", image_size=32, vocab_size=len(preprocess.tokenizer))
    content = made(preprocess, backbone, {"box": BOX()})
    code = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(tmp_path / "ran")]}}
    objectives = content[checkpoints.KEY]["objectives"]
    if place == "objective":
        objectives["box"] = code
    else:
        objectives["box"]["init_args"] = {"weight": code}
    torch.save(content, tmp_path / "c.ckpt")
    with pytest.raises(CheckpointError, match=r"names subprocess\.Popen, which is no (Objective|RelationVocabulary)"):
        relpretrain.load(tmp_path / "c.ckpt")
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_asks_for_no_weights_from_elsewhere(preprocess, tmp_path, monkeypatch):
    from relpretrain.backbones import encoders, vision

    for module, name in ((vision, "load_pretrained"), (encoders, "_hugging_face_bert")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("asks for weights"))
    backbone = XVLM(size="tiny", image_size=32, vocab_size=len(preprocess.tokenizer))
    content = made(preprocess, backbone, {"box": BOX()})
    asked = content[checkpoints.KEY]["backbone"]["init_args"]
    asked["pretrained_image"], asked["pretrained_text"] = "vit_base_patch16_224.augreg_in21k", "bert-base-uncased"
    torch.save(content, tmp_path / "c.ckpt")
    assert relpretrain.load(tmp_path / "c.ckpt").backbone.config == backbone.config


def test_vocabularies_are_compared_by_number_of_each_name():
    described = checkpoints.describe(nn.Linear(1, 1), {"mrc": MRC(VOCABULARY)}, None)
    checkpoints.check_vocabulary(described, VOCABULARY)
    checkpoints.check_vocabulary(described, None)
    with pytest.raises(
        CheckpointError, match=r"has 2 relations, this model's has 3.*0: 'on' / 'under', 1: 'under' / 'on'"
    ):
        checkpoints.check_vocabulary(described, RelationVocabulary(("under", "on", "near")))
    with pytest.raises(CheckpointError, match="aliases differ"):
        checkpoints.check_vocabulary(described, RelationVocabulary(("on", "under")))


@pytest.mark.parametrize(
    ("name", "number", "message"),
    [
        ("vocab_size", 2_000_000, r"describes a model of [\d,]+ numbers, but holds [\d,]+: it was not built"),
        ("queue_size", 2_000_000, r"describes a model of [\d,]+ numbers, but holds [\d,]+: it was not built"),
        ("image_size", 32 * 400, r"describes a model of [\d,]+ numbers, but holds [\d,]+: it was not built"),
        ("text_layers", 5_000, r"describes a model of 5,\d+ layers, but holds \d+ tensors"),
    ],
)
def test_a_small_file_gets_no_large_model(preprocess, tmp_path, name, number, message):
    backbone = ALBEF(size="tiny", image_size=32, vocab_size=len(preprocess.tokenizer), momentum=0.9, queue_size=8)
    content = made(preprocess, backbone, {"itc": ITC()})
    content[checkpoints.KEY]["backbone"]["init_args"][name] = number
    torch.save(content, tmp_path / "c.ckpt")
    with pytest.raises(CheckpointError, match=message):
        relpretrain.load(tmp_path / "c.ckpt")


def test_a_head_is_no_larger_than_its_weights_either(preprocess, tmp_path):
    backbone = XVLM(size="tiny", image_size=32, vocab_size=len(preprocess.tokenizer))
    content = made(preprocess, backbone, {"mrc": MRC(VOCABULARY, hidden=16)})
    content[checkpoints.KEY]["objectives"]["mrc"]["init_args"]["hidden"] = 2_000_000
    torch.save(content, tmp_path / "c.ckpt")
    with pytest.raises(CheckpointError, match="it was not built"):
        relpretrain.load(tmp_path / "c.ckpt")


def test_images_are_prepared_for_the_model(preprocess, tmp_path):
    backbone = XVLM(size="tiny", image_size=32, vocab_size=len(preprocess.tokenizer))
    content = made(preprocess, backbone, {"itc": ITC()})
    content[checkpoints.KEY]["preprocess"]["image_size"] = 10**6
    torch.save(content, tmp_path / "c.ckpt")
    with pytest.raises(CheckpointError, match="prepares images of 1000000 pixels for a model of 32"):
        relpretrain.load(tmp_path / "c.ckpt")
