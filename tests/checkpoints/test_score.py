"""Own images and texts are scored in one line of Python."""

import pytest
import torch
from PIL import Image

from relpretrain.backbones import ALBEF, XVLM
from relpretrain.checkpoints import scoring
from relpretrain.checkpoints.checkpoint import Loaded
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.data.pipeline.tokenizer import load_tokenizer, write_wordpiece
from relpretrain.zeroshot.scorers.matching import MatchScorer

TEXTS = ["cat on mat", "mat", "mat on cat", "on on"]


@pytest.fixture(params=[ALBEF, XVLM])
def loaded(request, tmp_path):
    preprocess = Preprocess(load_tokenizer(str(write_wordpiece(["cat", "on", "mat"], tmp_path / "tokenizer"))), 32)
    torch.manual_seed(0)
    backbone = request.param(size="tiny", image_size=32, vocab_size=len(preprocess.tokenizer)).eval()
    return Loaded(backbone, preprocess, {}, None)


@pytest.fixture
def photos(tmp_path):
    """Of two modes and sizes; the second one is a file."""
    Image.linear_gradient("L").resize((40, 60)).save(tmp_path / "b.png")
    return [Image.radial_gradient("L").convert("RGB"), tmp_path / "b.png", str(tmp_path / "b.png")]


def test_scores_are_those_of_the_benchmarks(loaded, photos, monkeypatch):
    monkeypatch.setattr(scoring, "_IMAGES", 2)
    monkeypatch.setattr(scoring, "_TEXTS", 3)
    found = loaded.score(photos, TEXTS)
    assert found.shape == (3, 4)
    assert found.dtype == torch.float32
    for by, made in (("itm", found), ("itc", loaded.score(photos, TEXTS, by="itc"))):
        scorer = MatchScorer(loaded.backbone, loaded.preprocess, by=by)
        images = scorer.encode_images(scoring.open_images(photos))
        if by == "itc":
            expected = scorer.similarities(images, TEXTS)
        else:
            index = [i for i in range(3) for _ in TEXTS]
            expected = scorer.score(images, index, TEXTS * 3).softmax(-1)[:, 1].reshape(3, 4)
        torch.testing.assert_close(made, expected)
    assert torch.equal(found[1], found[2])
    assert found.std(0).max() > 0  # images make a difference


def test_nothing_gives_nothing(loaded, photos):
    assert loaded.score([], TEXTS).shape == (0, 4)
    assert loaded.score(photos, []).shape == (3, 0)


def test_what_cannot_be_scored_is_named(loaded, photos, tmp_path):
    with pytest.raises(ValueError, match="by='itn' is unknown: give one of itm, itc"):
        loaded.score(photos, TEXTS, by="itn")
    with pytest.raises(FileNotFoundError, match=r"none\.jpg"):
        loaded.score([tmp_path / "none.jpg"], TEXTS)
    with pytest.raises(TypeError, match=r"not Tensor: use PIL\.Image\.fromarray"):
        loaded.score([torch.zeros(3, 8, 8)], TEXTS)
