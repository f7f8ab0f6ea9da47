"""The fast way of `MatchScorer` against one pair at a time, on real tiny backbones."""

import numpy as np
import pytest
import torch
from PIL import Image

from relpretrain.backbones.albef import ALBEF
from relpretrain.backbones.xvlm import XVLM
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.features import patch_mask
from relpretrain.types import Regions
from relpretrain.zeroshot.scorers import EmbeddingScorer, MatchScorer, matching
from relpretrain.zeroshot.scorers.batches import rectangles
from tests.parity.official_files import words_of_golden

WORDS = ["a", "photo", "of", "red", "blue", "green", "cat"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(words_of_golden(tmp_path_factory.mktemp("words")))


@pytest.fixture(params=["albef", "xvlm", "swin"])
def backbone(request, tokenizer):
    torch.manual_seed(1)
    if request.param == "albef":
        return ALBEF(size="tiny", image_size=32, vocab_size=len(tokenizer))
    vision = "swin" if request.param == "swin" else "vit"
    return XVLM(size="tiny", vision=vision, image_size=64, vocab_size=len(tokenizer))


def pictures(n, size=32):
    noise = np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in noise]


def pairs(images, n):
    """Pairs of uneven numbers per image, with repeated texts of uneven lengths."""
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(WORDS, int(length))) for length in rng.integers(1, 12, n // 2)]
    return (rng.integers(0, images, n) ** 2 % images).tolist(), [texts[i] for i in rng.integers(0, len(texts), n)]


@torch.inference_mode()
def one_at_a_time(backbone, preprocess, images, index, texts):
    """Match logits and cosines of pairs, each by itself."""
    logits, cosines = [], []
    for i, text in zip(index, texts, strict=True):
        image = backbone.encode_image(preprocess.images([images[i]]))
        words = preprocess.texts([text])
        states = backbone.encode_text(words.input_ids, words.attention_mask)
        logits.append(backbone.match_logits(backbone.fuse(states, words.attention_mask, image.tokens, image.mask))[0])
        cosines.append((backbone.project_image(image.tokens) * backbone.project_text(states)).sum())
    return torch.stack(logits), torch.stack(cosines)


@pytest.mark.parametrize("batch_size", [3, 32])
def test_every_way_of_scoring_equals_one_pair_at_a_time(backbone, tokenizer, batch_size):
    preprocess = Preprocess(tokenizer, image_size=backbone.config.image_size)
    images = pictures(5)
    index, texts = pairs(5, 60)
    logits, cosines = one_at_a_time(backbone.eval(), preprocess, images, index, texts)
    scaled = cosines / backbone.temperature.item()
    expected = {
        "itm": logits,
        "itc": torch.stack([torch.zeros(60), scaled], 1),
        "both": torch.stack([logits[:, 0], logits[:, 1] + scaled], 1),
    }
    for by, wanted in expected.items():
        scorer = MatchScorer(backbone, preprocess, batch_size=batch_size, by=by)
        assert isinstance(scorer, EmbeddingScorer)
        assert scorer.calibrated == (by == "itm")
        features = scorer.encode_images(images)
        torch.testing.assert_close(scorer.score(features, index, texts), wanted, rtol=1e-5, atol=1e-5)
        matrix = scorer.similarities(features, texts)
        torch.testing.assert_close(matrix[index, range(60)], cosines, rtol=1e-5, atol=1e-5)


def test_images_and_texts_do_their_parts_once(tokenizer):
    backbone = ALBEF(size="tiny", image_size=32, vocab_size=len(tokenizer))
    rows = {"image": 0, "text": 0, "first": 0}

    def count(name):
        def hook(_, given, __):
            rows[name] += len(given[0])

        return hook

    first = backbone.fusion.layers[0]
    first.cross.kv.register_forward_hook(count("image"))
    first.attention.register_forward_hook(count("first"))
    backbone.text.register_forward_hook(count("text"))
    scorer = MatchScorer(backbone, Preprocess(tokenizer, image_size=32))
    scorer.score(scorer.encode_images(pictures(2)), [0] * 64 + [1] * 64, ["a red cat", "a blue cat"] * 64)
    assert rows == {"image": 2, "text": 2, "first": 2}


class Plain:
    """A backbone with nothing but what the protocol asks for."""

    def __init__(self, model):
        for name in ("encode_image", "encode_text", "fuse", "match_logits", "project_image", "project_text"):
            setattr(self, name, getattr(model, name))


@pytest.mark.parametrize("fusion_layers", [1, 2, 4])
def test_a_plain_backbone_scores_the_same(tokenizer, fusion_layers):
    torch.manual_seed(2)
    sizes = {"size": "tiny", "image_size": 32, "vocab_size": len(tokenizer), "fusion_layers": fusion_layers}
    backbone, preprocess = ALBEF(**sizes).eval(), Preprocess(tokenizer, image_size=32)
    index, texts = pairs(5, 40)
    ours, plain = MatchScorer(backbone, preprocess), MatchScorer(Plain(backbone), preprocess)
    expected = plain.score(plain.encode_images(pictures(5)), index, texts)
    found = ours.score(ours.encode_images(pictures(5)), index, texts)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 8, 100])
def test_rectangles_hold_every_pair_once(size):
    rng = np.random.default_rng(2)
    index, lengths = rng.integers(0, 7, 200).tolist(), rng.integers(1, 30, 200).tolist()
    seen = []
    for wide in rectangles(index, lengths, size):
        each = len(wide.rows) // len(wide.images)
        assert len(wide.rows) <= size
        assert [index[row] for row in wide.rows] == [image for image in wide.images for _ in range(each)]
        assert max(lengths[row] for row in wide.rows) == wide.length
        seen += wide.rows
    assert sorted(seen) == list(range(200))


def test_bf16_needs_a_device_that_computes_in_it(tokenizer, monkeypatch):
    backbone = ALBEF(size="tiny", image_size=32, vocab_size=len(tokenizer))
    monkeypatch.setattr(matching, "_cpu_computes_in_bf16", lambda: False)
    with pytest.raises(ValueError, match="bf16 needs CUDA or a CPU with AVX-512 BF16 or AMX; use fp32"):
        MatchScorer(backbone, Preprocess(tokenizer, image_size=32), precision="bf16")
    with pytest.raises(ValueError, match="fp32 or bf16, not 'fp8'"):
        MatchScorer(backbone, Preprocess(tokenizer, image_size=32), precision="fp8")


@torch.inference_mode()
def test_bf16_on_a_cpu_is_autocast_and_gives_nearly_the_scores_of_fp32(tokenizer, monkeypatch):
    torch.manual_seed(0)
    backbone = ALBEF(size="tiny", image_size=32, vocab_size=len(tokenizer))
    monkeypatch.setattr(matching, "_cpu_computes_in_bf16", lambda: True)
    logits = {}
    for precision in ("fp32", "bf16"):
        scorer = MatchScorer(backbone, Preprocess(tokenizer, image_size=32), precision=precision)
        index, texts = pairs(3, 12)
        logits[precision] = scorer.score(scorer.encode_images(pictures(3)), index, texts)
    assert logits["bf16"].dtype == torch.float32
    assert not torch.equal(logits["bf16"], logits["fp32"])  # it was computed in bf16
    torch.testing.assert_close(logits["bf16"], logits["fp32"], rtol=0, atol=0.05)


@torch.inference_mode()
def test_regions_are_those_of_the_backbone_in_the_whole_image(backbone, tokenizer):
    size = 32 if isinstance(backbone, ALBEF) else 64
    scorer = MatchScorer(backbone, Preprocess(tokenizer, image_size=size), batch_size=2)
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)) for _ in range(3)]
    boxes = [(0.0, 0.0, 30.0, 20.0), (30.0, 20.0, 60.0, 40.0), (0.0, 0.0, 60.0, 40.0), (10.0, 5.0, 50.0, 35.0)]
    index = [2, 0, 1, 0]
    found = scorer.encode_regions(images, index, boxes)
    for row, (i, (left, top, right, bottom)) in enumerate(zip(index, boxes, strict=True)):
        centre = [(left + right) / 120, (top + bottom) / 80, (right - left) / 60, (bottom - top) / 40]
        mask = patch_mask(torch.tensor([centre]), backbone.patch_grid)
        pixels = scorer.preprocess.images([images[i]])
        own = backbone.encode_image(pixels, Regions(torch.tensor([0]), mask))
        torch.testing.assert_close(found.tokens[row], own.region_tokens[0], rtol=1e-4, atol=1e-5)
        assert torch.equal(found.mask[row], own.region_mask[0])
    assert scorer.score(found, [0, 1, 2, 3], ["red", "blue", "a cat", "cat"]).shape == (4, 2)
    assert not torch.allclose(found.tokens[1], found.tokens[3])
