"""Scorers that do not look."""

import pytest
import torch
from PIL import Image

from relpretrain.zeroshot.scorers import ConstantScorer, EmbeddingScorer
from relpretrain.zeroshot.scorers.blind import BlankImageScorer, LanguageModelScorer, LengthScorer
from tests.zeroshot import foreign
from tests.zeroshot.helpers import COLOURS

TEXTS = ["a red cat", "a dog", "a red cat", "x"]


@pytest.mark.parametrize("begin", [True, False])
@pytest.mark.parametrize("batch_size", [1, 32])
def test_likelihoods_are_those_of_one_text_at_a_time(tmp_path, begin, batch_size):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name = foreign.write_language_model(tmp_path, begin)
    scorer = LanguageModelScorer(name, batch_size=batch_size)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(name).eval(), AutoTokenizer.from_pretrained(name)
    texts = TEXTS if begin else TEXTS[:3]
    found = scorer.score(scorer.encode_images([None]), [0] * len(texts), texts)
    for text, row in zip(texts, found, strict=True):
        start = [tokenizer.bos_token_id] if begin else []
        ids = torch.tensor([start + tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.inference_mode():
            logs = model(ids).logits[0].log_softmax(-1)
        total = sum(logs[i, ids[0, i + 1]] for i in range(ids.shape[1] - 1))
        torch.testing.assert_close(row[1], total / (ids.shape[1] - 1), rtol=1e-5, atol=1e-5)
    if not begin:
        with pytest.raises(ValueError, match="The text 'x' has too few tokens"):
            scorer.rate(["x"])


def test_shorter_texts_score_higher():
    scorer = LengthScorer()
    assert isinstance(scorer, EmbeddingScorer)
    assert not scorer.calibrated
    logits = scorer.score(scorer.encode_images([None] * 2), [0, 1, 1, 0], TEXTS)
    assert logits[:, 1].argsort(descending=True, stable=True).tolist() == [3, 1, 0, 2]
    assert torch.equal(logits[0], logits[2])
    similar = scorer.similarities(scorer.encode_images([None] * 2), TEXTS)
    assert torch.equal(similar, logits[None, :, 1].expand(2, 4))
    assert scorer.score([], [], []).shape == (0, 2)


class Red(ConstantScorer):
    """Scores how red an image is."""

    def encode_images(self, images):
        return torch.tensor([[image.convert("RGB").getpixel((0, 0))[0] / 255] for image in images])

    def embed_images(self, image_features):
        return image_features

    def score(self, image_features, index, texts):
        values = image_features[list(index), 0]
        return torch.stack([torch.zeros_like(values), values], 1)

    def similarities(self, image_features, texts):
        return image_features @ self.embed_texts(texts).T


def test_a_grey_image_stands_for_every_image():
    photos = [Image.new("RGB", (4, 4), colour) for colour in COLOURS.values()]
    seeing, blank = Red(), BlankImageScorer(Red())
    assert isinstance(blank, EmbeddingScorer)
    assert seeing.score(seeing.encode_images(photos), [0, 1], ["a", "b"])[:, 1].tolist() == [1, 0]
    features = blank.encode_images(photos)
    assert blank.score(features, [0, 1], ["a", "b"])[:, 1].unique().tolist() == [pytest.approx(123 / 255)]
    assert blank.embed_images(features).shape == (3, 1)
    assert blank.similarities(features, ["a", "b"]).unique().tolist() == [pytest.approx(123 / 255)]
    assert blank.notes() == ("every image was replaced by a grey one",)
    assert blank.calibrated
