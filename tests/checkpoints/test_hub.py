"""To the Hugging Face hub and back, through huggingface_hub's own mixin; no network is asked."""

import shutil

import pytest
import torch
from huggingface_hub import HfApi, ModelHubMixin
from PIL import Image

import relpretrain
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.data.pipeline.tokenizer import load_tokenizer, write_wordpiece
from relpretrain.errors import CheckpointError
from relpretrain.objectives import MRC
from relpretrain.scene_graph import RelationVocabulary

COMMIT = "0123456789012345678901234567890123456789"


@pytest.fixture
def loaded(tmp_path):
    tokenizer = load_tokenizer(str(write_wordpiece(["cat", "on", "mat"], tmp_path / "tokenizer")))
    backbone = relpretrain.XVLM(size="tiny", image_size=32, vocab_size=len(tokenizer)).eval()
    objective = MRC(RelationVocabulary(("on", "under")))
    objective.attach(backbone)
    preprocess = Preprocess(tokenizer, 32, max_tokens=20, separator=False, clean=True)
    return relpretrain.Loaded(backbone, preprocess, {"mrc": objective}, objective.vocabulary, name="my-rex")


def answers(loaded):
    images = loaded.preprocess.images([Image.new("RGB", (20, 30), "red")])
    texts = loaded.preprocess.texts(["A cat, on the mat!"])
    model = loaded.backbone
    with torch.no_grad():
        image, text = model.encode_image(images), model.encode_text(texts.input_ids, texts.attention_mask)
        return model.match_logits(model.fuse(text, texts.attention_mask, image.tokens, image.mask))


def same(one, other):
    heads = one.objectives["mrc"].state_dict(), other.objectives["mrc"].state_dict()
    return torch.equal(answers(one), answers(other)) and all(torch.equal(heads[0][k], heads[1][k]) for k in heads[0])


def test_a_folder_gives_the_same_model(loaded, tmp_path):
    assert isinstance(loaded, ModelHubMixin)
    for _ in range(2):  # the second time it replaces what is there
        loaded.save_pretrained(tmp_path / "saved")
        again = relpretrain.Loaded.from_pretrained(tmp_path / "saved")
        assert same(loaded, again)
        assert same(loaded, relpretrain.load(tmp_path / "saved"))
    assert again.vocabulary.names == ("on", "under")
    assert "# my-rex" in (tmp_path / "saved" / "README.md").read_text()


def test_names_are_no_html_in_the_model_card(loaded, tmp_path):
    """A checkpoint names its objectives as it likes."""
    loaded.name = "<img src=x onerror=alert(1)>"
    loaded.objectives = {"<b>": loaded.objectives["mrc"]}
    loaded.save_pretrained(tmp_path / "saved")
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "<" not in card
    assert "# &lt;img src=x onerror=alert(1)>\n" in card
    assert "| objectives | &lt;b> |" in card


def test_what_is_pushed_is_what_comes_back(loaded, tmp_path, monkeypatch):
    pushed = tmp_path / "cache" / "models--me--rex" / "snapshots" / COMMIT

    class Url(str):
        repo_id = "me/rex"

    def upload(self, *, folder_path, repo_id, **options):
        assert repo_id == "me/rex"
        shutil.copytree(folder_path, pushed)

    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **options: Url(repo_id))
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    loaded.push_to_hub("me/rex")
    assert {"model.safetensors", "config.json", "README.md", "tokenizer.json"} <= {p.name for p in pushed.iterdir()}

    refs = pushed.parent.parent / "refs"  # as a download leaves it
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    again = relpretrain.Loaded.from_pretrained("me/rex", cache_dir=tmp_path / "cache", local_files_only=True)
    assert same(loaded, again)
    assert not again.backbone.training


def test_a_damaged_folder_is_told(loaded, tmp_path):
    folder = tmp_path / "out"
    loaded.save_pretrained(folder)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged or was replaced"):
        relpretrain.load(folder)
    weights.write_bytes(whole)
    assert same(relpretrain.load(folder), loaded)
    assert not list(folder.glob(".*.unfinished"))
