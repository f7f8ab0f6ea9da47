"""BERT in two halves: against Hugging Face's, naive attention, padding, the batch."""

import math

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertModel

from relpretrain.backbones import XVLM
from relpretrain.backbones.text import CrossAttention, FusionEncoder, SelfAttention, TextEncoder

LENGTH = 9


def model(**numbers) -> XVLM:
    return XVLM("tiny", image_size=32, vocab_size=60, **numbers).eval()


def texts(n: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([LENGTH, 5, 2])[:n]
    return torch.randint(4, 60, (n, LENGTH)), torch.arange(LENGTH) < lengths[:, None]


def naive(q, k, v, mask, heads):
    """One query, one head, one text at a time."""
    out = torch.zeros_like(q)
    size = q.shape[-1] // heads
    for n in range(len(q)):
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            for i in range(q.shape[1]):
                visible = mask[n].nonzero()[:, 0]
                scores = (k[n, visible, part] @ q[n, i, part]) / math.sqrt(size)
                out[n, i, part] = scores.softmax(0) @ v[n, visible, part]
    return out


def test_self_attention_equals_a_loop():
    attention, x, mask = SelfAttention(16, 4, 0.1).eval(), torch.randn(3, LENGTH, 16), texts()[1]
    q, k, v = attention.qkv(x).chunk(3, dim=-1)
    expected = attention.out(naive(q, k, v, mask, 4))
    torch.testing.assert_close(attention(x, mask[:, None, None]), expected)


def test_cross_attention_equals_a_loop():
    attention, x, image = CrossAttention(16, 24, 4, 0.1).eval(), torch.randn(3, LENGTH, 16), torch.randn(3, 5, 24)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 0, 1, 0], [1, 0, 0, 0, 0]]).bool()
    k, v = attention.kv(image).chunk(2, dim=-1)
    expected = attention.out(naive(attention.q(x), k, v, mask, 4))
    torch.testing.assert_close(attention(x, attention.kv(image), mask[:, None, None]), expected)


def test_padding_changes_nothing():
    backbone, (ids, mask) = model(), texts()
    image, image_mask = backbone.encode_image(torch.randn(3, 3, 32, 32))[:2]
    text = backbone.encode_text(ids, mask)
    fused = backbone.fuse(text, mask, image, image_mask)
    for i, length in enumerate(mask.sum(1).tolist()):
        short, seen = ids[i : i + 1, :length], mask[i : i + 1, :length]
        alone = backbone.encode_text(short, seen)
        torch.testing.assert_close(alone[0], text[i, :length])
        one = backbone.fuse(alone, seen, image[i : i + 1], image_mask[i : i + 1])
        torch.testing.assert_close(one[0], fused[i, :length])


def test_hidden_image_tokens_change_nothing():
    backbone, (ids, mask) = model(), texts(1)
    text, image = backbone.encode_text(ids, mask), torch.randn(1, 6, 64)
    visible = torch.tensor([[True, True, False, True, False, False]])
    other = image.clone()
    other[~visible] = 100.0
    fused = backbone.fuse(text, mask, image, visible)
    torch.testing.assert_close(backbone.fuse(text, mask, other, visible), fused)
    assert not torch.allclose(backbone.fuse(text, mask, other, torch.ones_like(visible)), fused)


def test_a_text_too_long_is_refused():
    with pytest.raises(ValueError, match=r"9 tokens .*max_positions=8"):
        model(max_positions=8).encode_text(*texts())


def test_dropout_acts_in_training_only():
    backbone, (ids, mask) = model(dropout=0.5), texts()
    torch.testing.assert_close(backbone.encode_text(ids, mask), backbone.encode_text(ids, mask))
    backbone.train()
    assert not torch.allclose(backbone.encode_text(ids, mask), backbone.encode_text(ids, mask))


@pytest.mark.parametrize("matches", [False, True])
def test_checkpointing_changes_no_gradient(matches):
    plain, (ids, mask) = model(), texts()
    saving = model(checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    images = torch.randn(3, 3, 32, 32)
    for backbone in (plain, saving):
        image, image_mask = backbone.encode_image(images)[:2]
        text = backbone.encode_text(ids, mask)
        if matches:
            found = backbone.match(
                backbone.precompute_text(text, mask), mask, backbone.precompute_image_kv(image), image_mask
            )
        else:
            found = backbone.word_logits(backbone.fuse(text, mask, image, image_mask)[mask])
        found.square().mean().backward()
    for (name, own), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, msg=name)


@pytest.fixture
def bert(tmp_path):
    """A small BERT of transformers, saved in a folder."""
    config = BertConfig(
        vocab_size=60,
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=128,
    )
    theirs = BertForMaskedLM(config).eval()
    theirs.cls.predictions.bias.data.normal_()
    theirs.save_pretrained(tmp_path)
    return theirs, tmp_path


def test_pretrained_bert_gives_the_logits_of_transformers(bert):
    theirs, folder = bert
    ours, (ids, mask) = model(pretrained_text=str(folder)), texts()
    x = ours.encode_text(ids, mask)
    for layer in ours.fusion.layers:  # without images, both halves together are BERT
        x = layer(x, mask[:, None, None])
    logits = theirs(input_ids=ids, attention_mask=mask.long()).logits
    torch.testing.assert_close(ours.word_logits(x[mask]), logits[mask], rtol=1e-4, atol=1e-5)


def test_word_head_runs_at_given_positions_and_is_tied():
    backbone = model()
    assert backbone.word_logits(torch.randn(0, 64)).shape == (0, 60)
    backbone.word_logits(torch.randn(2, 64)).sum().backward()
    assert backbone.text.words.weight.grad.abs().sum() > 0
    assert "mlm_head.weight" not in backbone.state_dict()


def test_pretrained_bert_that_does_not_fit_is_refused(bert, tmp_path):
    _, folder = bert
    with pytest.raises(ValueError, match=r"12 missing: fusion\.layers\.2\."):
        model(pretrained_text=str(folder), fusion_layers=3)
    with pytest.raises(ValueError, match=r"text\.words\.weight \(60, 64\) instead of \(70, 64\)"):
        XVLM("tiny", image_size=32, vocab_size=70, pretrained_text=str(folder))
    with pytest.raises(ValueError, match="4 attention heads"):
        model(pretrained_text=str(folder), text_heads=8)
    BertModel(BertConfig.from_pretrained(folder)).save_pretrained(tmp_path / "headless")
    with pytest.raises(ValueError, match=r"lacks .*cls\.predictions"):
        model(pretrained_text=str(tmp_path / "headless"))


def test_halves_have_the_layers_asked_for():
    config = model(text_layers=3, fusion_layers=1).config
    assert len(TextEncoder(config).layers) == 3
    assert len(FusionEncoder(config).layers) == 1
