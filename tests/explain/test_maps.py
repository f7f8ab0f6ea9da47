"""Maps of words: equal to a loop written from the recipe, one at a time or together, and the model stays as it was."""

import copy

import pytest
import torch
from torch.nn import functional as F

from relpretrain.backbones import ALBEF
from relpretrain.backbones.text import CrossAttention
from relpretrain.explain import embedding_maps, text_maps
from relpretrain.explain.maps.watching import fusion_layer, image_block
from tests.explain.conftest import KINDS, make

TEXTS = ["a red square left of a blue square", "the dog", "a green square on the sofa above the dog"]


def naive(loaded, image, text, number):
    """The recipe, head by head and token by token, with probabilities inside the graph of all weights."""
    model = loaded.backbone
    pixels, words = loaded.preprocess.images([image]), loaded.preprocess.texts([text])
    features, mask = model.encode_image(pixels), words.attention_mask
    x, tokens = model.encode_text(words.input_ids, mask), features.tokens
    if model.early is not None:
        x, tokens = model.early(x, mask, tokens, features.mask, model.text, model.vision)
    for i, layer in enumerate(model.fusion.layers):
        x = layer.attend(x, mask[:, None, None])
        if i == number:
            cross, found, kept = layer.cross, [], []
            q, (k, v) = cross.q(x)[0], cross.kv(tokens)[0].chunk(2, -1)
            for h in range(cross.heads):
                part = slice(h * q.shape[1] // cross.heads, (h + 1) * q.shape[1] // cross.heads)
                a = torch.softmax(q[:, part] @ k[:, part].T / (part.stop - part.start) ** 0.5, -1)
                a.retain_grad()
                kept.append(a)
                found.append(a @ v[:, part])
            x = layer.cross_norm(x + cross.out(torch.cat(found, -1))[None])
            x = layer.ffn_norm(x + layer.down(F.gelu(layer.up(x))))
        else:
            x = layer.finish(x, None, layer.keys_values(tokens), features.mask)
    logit = model.match_logits(x)[0, 1]
    logit.backward()
    rows, columns = model.patch_grid
    maps = torch.zeros(x.shape[1], rows, columns)
    probabilities, gains = ([t.tolist() for t in ts] for ts in ([a.detach() for a in kept], [a.grad for a in kept]))
    for t in range(x.shape[1]):
        for p in range(rows * columns):
            for a, gain in zip(probabilities, gains, strict=True):
                maps[t, p // columns, p % columns] += a[t][1 + p] * max(gain[t][1 + p], 0.0) / len(kept)
    model.zero_grad()
    return maps, logit.item()


@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_those_of_a_loop(kind, tokenizer, picture):
    loaded = make(kind, tokenizer)
    number = 0 if kind == "xvlm" else 1
    found = text_maps(loaded, picture, TEXTS[:2], layer=2 + number)
    for text, own in zip(TEXTS, found, strict=False):
        maps, logit = naive(loaded, picture, text, number)
        assert own.score == pytest.approx(logit, rel=1e-4)
        assert own.maps.shape == (len(own.tokens), *loaded.backbone.patch_grid)
        assert own.maps.max() > 0
        torch.testing.assert_close(own.maps, maps, rtol=2e-4, atol=1e-6)


def test_texts_together_are_texts_one_by_one(loaded, picture, monkeypatch):
    images, encode = [], loaded.backbone.encode_image
    monkeypatch.setattr(loaded.backbone, "encode_image", lambda pixels: images.append(1) or encode(pixels))
    together = text_maps(loaded, picture, TEXTS * 20)  # in several batches
    assert len(images) == 1
    for i, text in enumerate(TEXTS):
        (alone,) = text_maps(loaded, picture, [text])
        for own in together[i :: len(TEXTS)]:
            assert own.score == pytest.approx(alone.score, rel=1e-4)
            torch.testing.assert_close(own.maps, alone.maps, rtol=1e-4, atol=1e-6)
    assert text_maps(loaded, picture, []) == []


def test_the_model_stays_as_it_was(loaded, picture, monkeypatch):
    model = loaded.backbone
    model.train()
    model.text.eval()
    before = copy.deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    hooks = {name: len(value) for m in model.modules() for name, value in vars(m).items() if name.endswith("hooks")}
    kernels = []
    own = CrossAttention.kernel
    monkeypatch.setattr(CrossAttention, "kernel", staticmethod(lambda *given: kernels.append(1) or own(*given)))
    text_maps(loaded, picture, TEXTS)
    assert len(kernels) == len(model.fusion.layers) - 1  # all other layers have used theirs
    assert [m.training for m in model.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert {n: len(v) for m in model.modules() for n, v in vars(m).items() if n.endswith("hooks")} == hooks
    assert not any("kernel" in vars(m) for m in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    # Likewise where it fails.
    monkeypatch.setattr(model, "match_logits", lambda fused: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        text_maps(loaded, picture, TEXTS)
    assert [m.training for m in model.modules()] == modes
    assert not any("kernel" in vars(m) for m in model.modules())


def test_frozen_weights_other_modes_and_types_change_nothing(loaded, picture):
    (wanted,) = text_maps(loaded, picture, TEXTS[:1])
    assert wanted.maps.dtype == torch.float32
    loaded.backbone.requires_grad_(False)
    for context in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16)):
        with context:
            (found,) = text_maps(loaded, picture, TEXTS[:1])
        assert torch.equal(found.maps, wanted.maps)
        assert not found.maps.requires_grad
        assert not any(p.requires_grad for p in loaded.backbone.parameters())


def test_checkpointing_changes_nothing(loaded, picture):
    wanted = text_maps(loaded, picture, TEXTS)
    for part in (loaded.backbone.fusion, loaded.backbone.text, loaded.backbone.vision):
        part.checkpointing = True
    for own, other in zip(wanted, text_maps(loaded, picture, TEXTS), strict=True):
        torch.testing.assert_close(other.maps, own.maps)


def test_layers_are_counted_as_in_bert(tokenizer):
    model = make("albef", tokenizer).backbone  # two text layers, three with cross-attention
    layers = model.fusion.layers
    assert fusion_layer(model) is layers[1].cross
    assert fusion_layer(model, 2) is layers[0].cross
    assert fusion_layer(model, 4) is layers[2].cross
    with pytest.raises(ValueError, match="layer=1 has no cross-attention: this model's layers 2 to 4 have it"):
        fusion_layer(model, 1)
    with pytest.raises(ValueError, match=r"layer=4 is the last one, .* reads \[CLS\] alone, .* choose one from 2 to 3"):
        fusion_layer(model, 4, words=True)
    assert image_block(model) is model.vision.trunk.blocks[2]
    with pytest.raises(ValueError, match="block=3: the image encoder has blocks 0 to 2"):
        image_block(model, 3)
    assert image_block(make("swin", tokenizer).backbone) is None
    with pytest.raises(ValueError, match="block=1: a Swin"):
        image_block(make("swin", tokenizer).backbone, 1)


def test_albefs_own_layer_and_block_are_the_defaults():
    model = ALBEF(size="tiny", text_layers=6, fusion_layers=6, vision_depth=12)
    assert fusion_layer(model) is fusion_layer(model, 8)
    assert image_block(model) is image_block(model, 8)


def test_other_models_are_told(loaded, picture):
    loaded.backbone = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="ALBEF and XVLM, not of Linear: load a checkpoint"):
        text_maps(loaded, picture, TEXTS)


def test_a_planted_model_looks_at_the_colours_that_it_was_given(planted, picture):
    (found,) = text_maps(planted, picture, ["a red square left of a blue square"])
    assert found.of("red").argmax() == 0
    assert found.of("blue").argmax() == 15
    assert found.of("red square").argmax() == 0
    assert found.of("red").flatten()[0] > 0.9 * found.of("red").sum()
    assert found.of("left of").max() < 0.1 * found.of("red").max()
    # It matches what is there better than what is not, and the whole text's map has both places.
    there, gone = text_maps(planted, picture, ["red", "green"])
    assert there.score > gone.score + 1
    assert there.sentence.argmax() == 0
    assert set(found.sentence.flatten().topk(2).indices.tolist()) == {0, 15}


@pytest.mark.parametrize("kind", KINDS)
def test_maps_tell_the_numbers_of_score_beside_those_that_they_explain(kind, tokenizer, picture):
    loaded = make(kind, tokenizer)
    texts = TEXTS[:2]
    for text, probability in zip(text_maps(loaded, picture, texts), loaded.score([picture], texts)[0], strict=True):
        assert text.probability == pytest.approx(probability.item(), abs=1e-4)
        assert text.score != pytest.approx(text.probability, abs=1e-3)  # a logit of one class alone
    cosines = loaded.score([picture], texts, "itc")[0]
    for text, cosine in zip(embedding_maps(loaded, picture, texts), cosines, strict=True):
        assert text.cosine == pytest.approx(cosine.item(), abs=1e-4)
        assert text.cosine == pytest.approx(text.score * loaded.backbone.temperature.item(), abs=1e-6)
