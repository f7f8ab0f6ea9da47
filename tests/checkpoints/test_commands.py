"""`relpretrain weights`: there and back without a bit lost, and a folder that is all it takes."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import relpretrain
from relpretrain import cli
from relpretrain.checkpoints import checkpoint as checkpoints
from relpretrain.checkpoints.official.back import to_official
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.objectives import MRC, VSG
from relpretrain.scene_graph import RelationVocabulary
from tests.parity.official_files import NAMES, official, words_of_golden


@pytest.fixture
def tokenizer(tmp_path):
    return words_of_golden(tmp_path / "words")


@pytest.fixture(params=NAMES)
def source(request, golden):
    return official(golden / request.param)


def weights(*arguments):
    return cli.main(["weights", *map(str, arguments)])


def settings(arguments):
    return [part for name, value in arguments.items() for part in ("--set", f"{name}={json.dumps(value)}")]


def answers(loaded):
    """Match logits and embeddings of two images and texts."""
    images = loaded.preprocess.images([Image.new("RGB", (20, 30), colour) for colour in ("red", "blue")])
    texts = loaded.preprocess.texts(["A photo of a red cat!", "blue"])
    model = loaded.backbone
    with torch.no_grad():
        image = model.encode_image(images)
        text = model.encode_text(texts.input_ids, texts.attention_mask)
        fused = model.fuse(text, texts.attention_mask, image.tokens, image.mask)
        return torch.cat([model.match_logits(fused), model.project_image(image.tokens), model.project_text(text)], 1)


def test_names_of_weights_are_no_commands_for_the_terminal(golden, tokenizer, tmp_path, capsys):
    path, arguments = official(golden / NAMES[0])
    content = torch.load(path, weights_only=True)
    content["model"]["text_encoder.bert.pooler.\x1b[2J.position_ids"] = torch.arange(3)
    torch.save(content, tmp_path / "odd.pth")
    given = ("--tokenizer", tokenizer, *settings(arguments))
    assert weights("convert", tmp_path / "odd.pth", tmp_path / "ours", *given) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "bert.pooler.\\x1b[2J.position_ids" in printed


def test_official_to_ours_and_back_is_equal_in_every_byte(source, tokenizer, tmp_path, capsys):
    path, arguments = source
    assert weights("convert", path, tmp_path / "ours", "--tokenizer", tokenizer, *settings(arguments)) == 0
    printed = capsys.readouterr().out
    assert "loaded" in printed
    assert "skipped: counts positions" in printed
    assert weights("convert", tmp_path / "ours", tmp_path / "back.pth") == 0
    before = torch.load(path, weights_only=True)["model"]
    after = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    assert list(after) == list(before)
    for key, value in before.items():
        assert (after[key].dtype, after[key].shape) == (value.dtype, value.shape), key
        assert after[key].numpy().tobytes() == value.numpy().tobytes(), key


def test_the_folder_gives_the_same_outputs(source, tokenizer, tmp_path):
    path, arguments = source
    expected = answers(relpretrain.load(path, tokenizer=tokenizer, arguments=arguments))
    assert weights("export", path, tmp_path / "hub", "--tokenizer", tokenizer, *settings(arguments)) == 0
    files = {file.name for file in (tmp_path / "hub").iterdir()}
    assert {"model.safetensors", "config.json", "README.md", "tokenizer.json"} <= files
    assert len({file.stat().st_mode for file in (tmp_path / "hub").iterdir()}) == 1
    assert torch.equal(answers(relpretrain.load(tmp_path / "hub")), expected)
    assert len(load_tokenizer(tmp_path / "hub")) == 200
    card = (tmp_path / "hub" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: relpretrain\n")
    assert "[CLS] without [SEP], cleaned" in card


def test_an_exported_training_checkpoint_keeps_heads_and_vocabulary(tokenizer, tmp_path):
    backbone = relpretrain.XVLM(size="tiny", image_size=32, vocab_size=200)
    objectives = {"vsg": VSG(), "mrc": MRC(RelationVocabulary(("on", "under")))}
    for objective in objectives.values():
        objective.attach(backbone)
    preprocess = Preprocess(load_tokenizer(tokenizer), 32)
    state = {f"backbone.{key}": value for key, value in backbone.state_dict().items()}
    state |= {f"objectives.{key}": v for key, v in torch.nn.ModuleDict(objectives).state_dict().items()}
    described = checkpoints.describe(backbone, objectives, preprocess)
    torch.save({checkpoints.KEY: described, "state_dict": state}, tmp_path / "c.ckpt")
    assert weights("export", tmp_path / "c.ckpt", tmp_path / "hub") == 0
    before, after = relpretrain.load(tmp_path / "c.ckpt"), relpretrain.load(tmp_path / "hub")
    assert torch.equal(answers(before), answers(after))
    assert after.vocabulary.names == ("on", "under")
    assert after.preprocess.separator
    for key, value in before.objectives["mrc"].state_dict().items():
        assert torch.equal(after.objectives["mrc"].state_dict()[key], value)
    assert load_file(tmp_path / "hub" / "model.safetensors").keys() == state.keys()
    assert weights("convert", tmp_path / "c.ckpt", tmp_path / "given.th") == 0  # back to the official code
    again = relpretrain.load(tmp_path / "given.th", tokenizer=tokenizer, arguments={"text_heads": 4, "vision_heads": 4})
    for key, value in before.backbone.state_dict().items():
        assert torch.equal(again.backbone.state_dict()[key], value), key


def test_the_list_names_the_known_checkpoints(capsys):
    assert weights("list") == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()[1:]] == [
        "ALBEF_4M.pth",
        "ALBEF.pth",
        "4m_base_model_state_step_199999.th",
        "16m_base_model_state_step_199999.th",
    ]
    assert "66.6     63.0      72.4" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "SOURCE", "FULL"], "exists already"),
        (["export", "SOURCE", "new.pth"], "export writes a folder"),
        (["convert", "SOURCE", "new", "--set", "text_heads"], "expected NAME=NUMBER"),
        (["convert", "nowhere.pth", "new"], "nowhere.pth does not exist"),
        (["convert", "SOURCE", "new", "--tokenizer", "./nowhere"], "give one by `tokenizer`"),
        (["convert", "EMPTY", "new"], "is a folder"),
        (["copy"], "invalid choice"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, message, golden, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, _ = official(golden / "albef_tiny")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "empty").mkdir()
    places = {"SOURCE": path, "FULL": tmp_path / "full", "EMPTY": tmp_path / "empty"}
    assert weights(*(places.get(argument, argument) for argument in arguments)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_spoiled_folder_is_refused(golden, tokenizer, tmp_path, capsys):
    path, arguments = official(golden / "xvlm_vit_tiny")
    assert weights("convert", path, tmp_path / "ours", "--tokenizer", tokenizer, *settings(arguments)) == 0
    whole = (tmp_path / "ours" / "model.safetensors").read_bytes()
    (tmp_path / "ours" / "model.safetensors").write_bytes(whole[:1000])
    assert weights("convert", tmp_path / "ours", tmp_path / "back.th") == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_relation_head_beside_official_weights_comes_along(tokenizer, tmp_path, capsys):
    """What a host's own script saves after `add_relation_objectives`."""
    model, relations = relpretrain.ALBEF(size="tiny", image_size=32, vocab_size=200), RelationVocabulary(("on", "in"))
    relations.save(tmp_path / "relations.json")
    mrc = MRC(relations)
    mrc.attach(model)
    state = to_official(model.state_dict(), model.config, True)
    state |= {f"relation_objectives.mrc.{key}": value for key, value in mrc.state_dict().items()}
    torch.save({"model": state}, tmp_path / "c.pth")
    common = ("--tokenizer", tokenizer, "--set", "text_heads=4", "--set", "vision_heads=4")
    assert weights("convert", tmp_path / "c.pth", tmp_path / "without", *common) == 0
    assert "relation_objectives.mrc: left aside, a head of 2 relations" in capsys.readouterr().out
    assert relpretrain.load(tmp_path / "without").objectives == {}
    given = ("--relations", tmp_path / "relations.json")
    assert weights("convert", tmp_path / "c.pth", tmp_path / "with", *common, *given) == 0
    assert "relation_objectives.mrc: loaded, a head of 2 relations" in capsys.readouterr().out
    loaded = relpretrain.load(tmp_path / "with")
    assert loaded.vocabulary.names == ("on", "in")
    assert torch.equal(loaded.objectives["mrc"].head[0].weight, mrc.head[0].weight)
    assert weights("convert", tmp_path / "with", tmp_path / "back.pth") == 0
    assert "left out: the heads of mrc" in capsys.readouterr().out
    assert not [key for key in torch.load(tmp_path / "back.pth", weights_only=True)["model"] if "relation" in key]
    assert weights("convert", tmp_path / "with", tmp_path / "again", *given) == 2
    assert "leave out tokenizer, image_size, arguments and vocabulary" in capsys.readouterr().err
