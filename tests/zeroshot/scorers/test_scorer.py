import pytest
import torch
from PIL import Image
from torch import nn

from relpretrain.types import ImageFeatures, PairScorer, TextBatch
from relpretrain.zeroshot.scorers import ConstantScorer, MatchScorer, match_probability


class Preprocess:
    """Images to their mean colour, texts to their letters."""

    def images(self, images):
        return torch.stack([torch.tensor(image.getpixel((0, 0)), dtype=torch.float) for image in images])

    def texts(self, texts):
        length = max(map(len, texts))
        ids = torch.tensor([[ord(c) for c in text.ljust(length, "\0")] for text in texts])
        return TextBatch(ids, ids > 0)


class Backbone(nn.Module):
    """Adds up everything visible, and remembers the sizes of what it was given."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.9)
        self.images, self.padding = [], 0

    def encode_image(self, images, regions=None):
        self.images.append(len(images))
        return ImageFeatures(images[:, :, None], torch.ones(len(images), 3, dtype=torch.bool))

    def encode_text(self, ids, mask):
        self.padding += int((~mask).sum())
        return (ids * mask)[..., None].float()

    def fuse(self, text, text_mask, image, image_mask):
        return self.dropout(text.sum((1, 2)) + 1000 * image.sum((1, 2)))

    def match_logits(self, fused):
        return torch.stack([-fused, fused], dim=1)


def images(n):
    return [Image.new("RGB", (2, 2), (i, 0, 0)) for i in range(n)]


def test_batches_do_not_change_scores_and_images_are_encoded_once():
    texts = ["a" * (1 + i * 7 % 5) for i in range(23)]
    index = [i % 5 for i in range(23)]
    results = []
    for batch_size in (1, 2, 64):
        backbone = Backbone()
        scorer = MatchScorer(backbone, Preprocess(), batch_size=batch_size)
        results.append(scorer.score(scorer.encode_images(images(5)), index, texts))
        assert sum(backbone.images) == 5
        assert max(backbone.images) <= batch_size
    expected = torch.tensor([97.0 * len(t) + 1000 * i for t, i in zip(texts, index, strict=True)])
    for result in results:
        assert torch.equal(result, torch.stack([-expected, expected], dim=1))


def test_texts_are_batched_by_length():
    backbone = Backbone()
    scorer = MatchScorer(backbone, Preprocess(), batch_size=1)
    texts = ["a", "bbbbbbbb", "c", "dddddddd"]
    scorer.score(scorer.encode_images(images(1)), [0] * 4, texts)
    assert backbone.padding == 0


def test_the_model_is_put_into_evaluation_mode():
    backbone = Backbone().train()
    MatchScorer(backbone, Preprocess())
    assert not backbone.training


def test_clean_texts_are_those_of_the_official_code():
    scorer = MatchScorer(Backbone(), Preprocess(), clean=True)
    features = scorer.encode_images(images(1))
    cleaned = scorer.score(features, [0, 0], ["A dog, left-of the CAT?", "a dog left of the cat"])
    assert torch.equal(cleaned[0], cleaned[1])
    raw = MatchScorer(Backbone(), Preprocess()).score(features, [0, 0], ["A dog, left-of", "a dog left of"])
    assert not torch.equal(raw[0], raw[1])


def test_probability_keeps_apart_what_fp32_would_tie():
    logits = torch.tensor([[0.0, 18.0], [0.0, 19.0]])
    low, high = match_probability(logits)
    assert low < high < 1
    assert torch.softmax(logits, 1)[0, 1] == torch.softmax(logits, 1)[1, 1]


def test_nothing_to_score():
    scorer = MatchScorer(Backbone(), Preprocess())
    assert scorer.score(scorer.encode_images([]), [], []).shape == (0, 2)
    assert ConstantScorer().score([], [], []).shape == (0, 2)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="at least 1, not 0"):
        MatchScorer(Backbone(), Preprocess(), batch_size=0)
    with pytest.raises(ValueError, match="got 1 texts, 2 indices"):
        MatchScorer(Backbone(), Preprocess()).score([], [0, 0], ["a"])


def test_scorers_satisfy_the_protocol():
    assert isinstance(ConstantScorer(), PairScorer)
    assert isinstance(MatchScorer(Backbone(), Preprocess()), PairScorer)
