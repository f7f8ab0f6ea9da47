"""Maps of the contrastive score."""

import pytest
import torch

from relpretrain.explain import embedding_maps
from tests.explain.conftest import KINDS, make

TEXTS = ["a red square left of a blue square", "the dog"]


def similarity(loaded, pixels, text):
    model, words = loaded.backbone, loaded.preprocess.texts([text])
    image = model.project_image(model.encode_image(pixels).tokens)
    return (image @ model.project_text(model.encode_text(words.input_ids, words.attention_mask)).T)[0, 0] / (
        model.temperature
    )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "swin"])
def test_maps_of_a_vit_are_those_of_a_loop(kind, tokenizer, picture, monkeypatch):
    loaded = make(kind, tokenizer)
    block = loaded.backbone.vision.trunk.blocks[1]
    found = embedding_maps(loaded, picture, TEXTS, block=1)
    kept = []

    def keep(q, k, v, attn_mask=None):
        kept.append((q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1))
        kept[-1].retain_grad()
        return kept[-1] @ v

    for text, own in zip(TEXTS, found, strict=True):
        monkeypatch.setattr(block, "kernel", keep, raising=False)
        score = similarity(loaded, loaded.preprocess.images([picture]), text)
        score.backward()
        monkeypatch.undo()
        heads, gains = kept[-1][0, :, 0, 1:].detach(), kept[-1].grad[0, :, 0, 1:]
        wanted = sum(head * gain.clamp(min=0) for head, gain in zip(heads, gains, strict=True)) / len(heads)
        assert own.score == pytest.approx(score.item(), rel=1e-4)
        assert own.map.max() > 0
        torch.testing.assert_close(own.map.flatten(), wanted, rtol=2e-4, atol=1e-6)
    assert not any("kernel" in vars(m) for m in loaded.backbone.modules())


def test_of_a_swin_it_is_each_patchs_share(tokenizer, picture):
    loaded = make("swin", tokenizer)
    model = loaded.backbone
    model.requires_grad_(False)
    pixels = loaded.preprocess.images([picture])
    for own in embedding_maps(loaded, picture, TEXTS):
        patches = model.encode_image(pixels).tokens[0, 1:].double()
        words = loaded.preprocess.texts([own.text])
        text = model.project_text(model.encode_text(words.input_ids, words.attention_mask))[0].double()
        weight, bias = model.image_projection.weight.double(), model.image_projection.bias.double()

        def score(mean, text=text, weight=weight, bias=bias):
            image = weight @ mean + bias
            return (image @ text) / image.norm() / model.temperature.double()

        mean = patches.mean(0).requires_grad_()
        score(mean).backward()
        shares = (patches @ mean.grad / len(patches)).clamp(min=0)
        torch.testing.assert_close(own.map.flatten().double(), shares, rtol=1e-3, atol=1e-5)


def test_together_or_alone_and_none(loaded, picture):
    for own in embedding_maps(loaded, picture, TEXTS):
        (alone,) = embedding_maps(loaded, picture, [own.text])
        torch.testing.assert_close(own.map, alone.map, rtol=1e-4, atol=1e-6)
    assert embedding_maps(loaded, picture, []) == []


@pytest.mark.parametrize("kind", KINDS)
def test_modes_of_the_caller_change_nothing(kind, tokenizer, picture):
    loaded = make(kind, tokenizer)
    wanted = embedding_maps(loaded, picture, TEXTS)
    for context in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16)):
        with context:
            found = embedding_maps(loaded, picture, TEXTS)
        for own, other in zip(found, wanted, strict=True):
            assert torch.equal(own.map, other.map)
            assert own.score == other.score
    assert all(p.grad is None for p in loaded.backbone.parameters())
