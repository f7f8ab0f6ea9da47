"""`relpretrain.load` on official checkpoints: the golden ones, whose outputs were recorded."""

import pickle
import typing

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import relpretrain
from relpretrain.checkpoints.official.back import to_official
from relpretrain.data.pipeline.tokenizer import write_wordpiece
from relpretrain.errors import CheckpointError
from tests.parity.check_golden import relative_error
from tests.parity.official_files import NAMES, official, words_of_golden


@pytest.fixture
def tokenizer(tmp_path):
    return words_of_golden(tmp_path / "words")


@pytest.fixture(params=NAMES)
def folder(request, golden):
    return golden / request.param


def test_one_line_gives_the_recorded_outputs(folder, tokenizer):
    path, arguments = official(folder)
    loaded = relpretrain.load(path, tokenizer=tokenizer, arguments=arguments)
    io = load_file(folder / "io.safetensors")
    recorded = {name.rpartition(".")[2]: value for name, value in io.items() if name.startswith("outputs.")}
    with torch.no_grad():
        text = loaded.backbone.encode_text(io["inputs.input_ids"], io["inputs.attention_mask"].bool())
        tokens = loaded.backbone.encode_image(io["inputs.image"]).tokens
    image = io.get("outputs.full.image_embeds", recorded["image_embeds"])
    assert relative_error(text, recorded["text_embeds"]) < 1e-5
    assert relative_error(tokens, image) < 1e-5
    assert not loaded.backbone.training
    assert len(loaded.report.names) + len(loaded.report.skipped) == len(loaded.report.keys)
    assert f"{len(loaded.report.names)} loaded" in str(loaded.report)


def test_texts_are_prepared_as_in_the_published_evaluations(folder, tokenizer):
    path, _ = official(folder)
    preprocess = relpretrain.load(path, tokenizer=tokenizer).preprocess
    batch = preprocess.texts(["A photo, of a RED-cat!", "cat"])
    words = preprocess.tokenizer.convert_ids_to_tokens(batch.input_ids[0])
    assert words == ["[CLS]", "a", "photo", "of", "a", "red", "cat"]
    assert batch.attention_mask.sum(1).tolist() == [7, 2]
    assert int(preprocess.texts(["cat " * 50]).attention_mask.sum()) == 41
    assert preprocess.images([Image.new("RGB", (9, 7))]).shape[-1] == preprocess.image_size
    assert preprocess.from_state(preprocess.state()).clean


def test_weights_go_there_and_back_unchanged(folder, tokenizer):
    path, arguments = official(folder)
    loaded = relpretrain.load(path, tokenizer=tokenizer, arguments=arguments)
    state = torch.load(path, weights_only=True)["model"]
    backbone = loaded.backbone
    back = to_official(backbone.state_dict(), backbone.config, isinstance(backbone, relpretrain.ALBEF), state)
    assert list(back) == list(state)
    for key, value in state.items():
        assert back[key].dtype == value.dtype, key
        assert torch.equal(back[key], value), key


def test_bare_states_old_files_and_fine_tuned_names_are_read(folder, tokenizer, tmp_path):
    path, arguments = official(folder)
    state = torch.load(path, weights_only=True)["model"]
    torch.save(state, tmp_path / "bare.pth")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"model": {key.replace("bert.", "", 1): v for key, v in state.items()}}, tmp_path / "short.th")
    expected = relpretrain.load(path, tokenizer=tokenizer, arguments=arguments).backbone.state_dict()
    for name in ("bare.pth", "old.pth", "short.th"):
        loaded = relpretrain.load(tmp_path / name, tokenizer=tokenizer, arguments=arguments)
        for key, value in loaded.backbone.state_dict().items():
            assert torch.equal(value, expected[key]), (name, key)


def retrieval_class(state):
    """The names of the official retrieval models: a bare BERT, and no heads but matching."""
    own = {key.replace("bert.", "", 1): v for key, v in state.items() if ".cls." not in key and "bbox" not in key}
    return own | ({"idx_queue": torch.full((1, own["image_queue"].shape[1]), -100)} if "image_queue" in own else {})


def test_retrieval_classes_have_fewer_heads(folder, tokenizer, tmp_path):
    path, arguments = official(folder)
    state = torch.load(path, weights_only=True)["model"]
    given = retrieval_class(state)
    torch.save({"model": given}, tmp_path / "retrieval.pth")
    loaded = relpretrain.load(tmp_path / "retrieval.pth", tokenizer=tokenizer, arguments=arguments)
    heads = ("mlm_head",) if isinstance(loaded.backbone, relpretrain.ALBEF) else ("mlm_head", "box_head")
    assert loaded.report.new == heads
    assert "mlm_head: new weights" in str(loaded.report)
    own = loaded.backbone.state_dict()
    expected = relpretrain.load(path, tokenizer=tokenizer, arguments=arguments).backbone.state_dict()
    for key, value in expected.items():
        assert torch.equal(own[key], value) or any(head in key for head in heads), key
    assert all(own[key].isfinite().all() for key in own if "head" in key)
    back = to_official(own, loaded.backbone.config, isinstance(loaded.backbone, relpretrain.ALBEF), given)
    assert all(torch.equal(back[key], value) for key, value in given.items())


@pytest.mark.parametrize("lost", ["text_proj.weight", "text_encoder.encoder.layer.0.output.dense.bias"])
def test_a_retrieval_class_may_lack_nothing_else(folder, tokenizer, tmp_path, lost):
    path, _ = official(folder)
    given = retrieval_class(torch.load(path, weights_only=True)["model"])
    given.pop(lost)
    torch.save(given, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match="missing"):
        relpretrain.load(tmp_path / "c.pth", tokenizer=tokenizer)


def test_a_pretraining_class_may_not_lack_its_word_head(folder, tokenizer, tmp_path):
    path, _ = official(folder)
    state = torch.load(path, weights_only=True)["model"]
    torch.save({k: v for k, v in state.items() if ".cls." not in k}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"missing.*mlm_head"):
        relpretrain.load(tmp_path / "c.pth", tokenizer=tokenizer)


def test_another_image_size_resizes(folder, tokenizer):
    path, arguments = official(folder)
    plain = relpretrain.load(path, tokenizer=tokenizer, arguments=arguments)
    size = plain.preprocess.image_size * 3 // 2
    loaded = relpretrain.load(path, tokenizer=tokenizer, image_size=size, arguments=arguments)
    pixels = loaded.preprocess.images([Image.new("RGB", (30, 40), (200, 10, 10))])
    assert loaded.backbone.encode_image(pixels).tokens.isfinite().all()
    assert loaded.report.resized
    assert all(key.endswith(("pos_embed", "bias_table")) for key in loaded.report.resized)
    resized = {loaded.report.names[key] for key in loaded.report.resized}
    before = plain.backbone.state_dict()
    for key, value in loaded.backbone.state_dict().items():
        assert key in resized or torch.equal(value, before[key]), key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("vision_proj.bias"), "1 missing: image_projection.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "1 unknown weights.*extra"),
        (lambda s: s.update({"vision_proj.bias": torch.zeros(3)}), r"of another shape: image_projection.bias \(3,\)"),
        (lambda s: s.pop("vision_proj.weight"), "no weights of an official.*vision_proj.weight missing"),
        (lambda s: s.update({"text_encoder.bert.pooler.dense.bias": torch.zeros(1)}), "no place.*pooler"),
    ],
)
def test_whatever_is_missing_or_unexpected_is_an_error(folder, tokenizer, tmp_path, change, message):
    path, _ = official(folder)
    state = torch.load(path, weights_only=True)["model"]
    change(state)
    torch.save({"model": state}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=message) as caught:
        relpretrain.load(tmp_path / "c.pth", tokenizer=tokenizer)
    assert "\n" not in str(caught.value)


def test_an_index_table_of_another_kind_is_an_error(golden, tokenizer, tmp_path):
    path, _ = official(golden / "xvlm_swin_tiny")
    state = torch.load(path, weights_only=True)["model"]
    state["vision_encoder.layers.2.blocks.1.attn_mask"] *= 2
    torch.save(state, tmp_path / "c.th")
    with pytest.raises(CheckpointError, match="attn_mask is not what window and image size give"):
        relpretrain.load(tmp_path / "c.th", tokenizer=tokenizer)


def test_pickled_code_is_refused_in_one_line(folder, tmp_path):
    path, _ = official(folder)
    state = torch.load(path, weights_only=True)["model"]
    with (tmp_path / "plain.pth").open("wb") as file:
        pickle.dump({"model": state, "config": Harm()}, file, protocol=2)
    torch.save({"model": state, "config": Harm()}, tmp_path / "torch.pth")
    for name in ("plain.pth", "torch.pth"):
        with pytest.raises(CheckpointError, match=r"Python objects.*was not loaded.*run any code") as caught:
            relpretrain.load(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not Harm.done


class Harm:
    done: typing.ClassVar[list[int]] = []

    def __reduce__(self):
        return Harm.done.append, (1,)


def test_tokenizers_of_another_length_and_unknown_arguments_are_refused(folder, tokenizer, tmp_path):
    path, _ = official(folder)
    other = str(write_wordpiece(["cat"], tmp_path / "other"))
    with pytest.raises(CheckpointError, match=r"words, but .* has embeddings of 200"):
        relpretrain.load(path, tokenizer=other)
    with pytest.raises(CheckpointError, match="text_head"):
        relpretrain.load(path, tokenizer=tokenizer, arguments={"text_head": 4})
    with pytest.raises(CheckpointError, match="give one by `tokenizer`"):
        relpretrain.load(path, tokenizer=str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match=r"image_size=65 is not a multiple|does not scale"):
        relpretrain.load(path, tokenizer=tokenizer, image_size=65)
