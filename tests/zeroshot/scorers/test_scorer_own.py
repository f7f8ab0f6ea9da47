"""Models of today, of random weights with their real configuration, tokenizer and processor classes."""

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from relpretrain.zeroshot.scorers import EmbeddingScorer
from relpretrain.zeroshot.scorers.hugging_face import hugging_face_scorer
from relpretrain.zeroshot.scorers.memory import fitting
from relpretrain.zeroshot.scorers.vqa import VQAScorer
from relpretrain.zeroshot.tasks.common.base import Item, score_items
from tests.zeroshot import foreign

pytestmark = pytest.mark.skipif(
    int(transformers.__version__.partition(".")[0]) < 5, reason="made with the classes of transformers 5"
)

TEXTS = ["a red cat", "A Dog.", "a", "", "the cat is to the left of a small red dog"]
INDEX = [0, 2, 1, 1, 0]
KINDS = ["clip", "siglip2", "siglip2_fixed", "blip", "blip2"]


def pictures(n=3):
    noise = np.random.default_rng(0).integers(0, 256, (n, 40, 50, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in noise]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {kind: foreign.write_own(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


def padding(kind):
    return {"padding": "max_length" if kind.startswith("siglip") else True, "truncation": True, "max_length": 24}


@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_masks_are_those_of_the_models_own_processor(folders, kind):
    scorer = hugging_face_scorer(folders[kind])
    processor = transformers.AutoProcessor.from_pretrained(folders[kind])
    if kind == "blip2":  # its processor takes the queries off the limit that it is given
        expected = processor.tokenizer(TEXTS, return_tensors="pt", **padding(kind))
    else:
        expected = processor(text=TEXTS, return_tensors="pt", **padding(kind))
    found = scorer.tokens(list(TEXTS))
    assert set(found) == {"input_ids", "attention_mask"} & set(expected)
    for name, values in found.items():
        assert torch.equal(values, expected[name]), name
    begins = {"clip": "<|startoftext|>", "blip": "[CLS]", "blip2": "[CLS]"}
    ends = {"clip": "<|endoftext|>", "blip": "[SEP]", "blip2": "[SEP]"}
    words = processor.tokenizer.convert_ids_to_tokens(found["input_ids"][2])
    assert words[: 2 if kind in begins else 1] == ([begins[kind], words[1]] if kind in begins else ["a"])
    assert ends.get(kind, "<eos>") in words
    assert found["input_ids"].shape[1] == 24


@torch.inference_mode()
def own_values(name, kind, by):
    """What the model's own forward says of each pair, by itself, of what its own processor makes."""
    processor = transformers.AutoProcessor.from_pretrained(name)
    classes = {"blip": transformers.BlipForImageTextRetrieval, "blip2": transformers.Blip2ForImageTextRetrieval}
    model = classes.get(kind, transformers.AutoModel).from_pretrained(name).eval()
    values = []
    for i, text in zip(INDEX, TEXTS, strict=True):
        keywords = {"padding": "max_length", "truncation": True, "max_length": 24} if kind.startswith("siglip") else {}
        if kind in ("clip", "blip"):
            keywords = {"truncation": True}
        words = text[:18] if kind == "blip2" else text
        inputs = processor(images=[pictures()[i]], text=[words], return_tensors="pt", **keywords)
        if kind == "blip":
            out = model(**inputs, use_itm_head=by == "itm").itm_score
            values.append(out[0, 1] - out[0, 0] if by == "itm" else out[0, 0])
        elif kind == "blip2":
            out = model(**inputs, use_image_text_matching_head=by == "itm").logits_per_image
            values.append(out[0, 1] - out[0, 0] if by == "itm" else out.flatten()[0])
        else:
            out = model(**inputs)
            values.append((out.logits_per_image - getattr(model, "logit_bias", 0))[0, 0])
    return torch.stack(values)


@pytest.mark.parametrize(("kind", "by"), [*((kind, None) for kind in KINDS), ("blip", "itc"), ("blip2", "itc")])
@pytest.mark.parametrize("batch_size", [1, 32])
def test_scores_are_those_of_the_model_itself(folders, kind, by, batch_size):
    scorer = hugging_face_scorer(folders[kind], batch_size=batch_size, by=by)
    texts = [text[:18] for text in TEXTS] if kind == "blip2" else TEXTS
    features = scorer.encode_images(pictures())
    logits = scorer.score(features, INDEX, texts)
    found = logits[:, 1] - logits[:, 0]
    expected = own_values(folders[kind], kind, by or "itm")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert len(set(found.tolist())) > 3
    assert scorer.calibrated == (kind.startswith("blip") and by is None)
    assert isinstance(scorer, EmbeddingScorer) == (kind != "blip2")


def test_what_is_cut_or_keeps_its_proportions_is_told(folders):
    scorer = hugging_face_scorer(folders["siglip2"])
    scorer.score(scorer.encode_images(pictures()), INDEX, TEXTS)
    assert scorer.texts_at_limit == {TEXTS[-1]}
    assert scorer.notes() == (
        "texts are cut to 24 tokens; 1 different text reaches that",
        "NaFlex: images keep their proportions, in up to 256 patches",
    )
    assert len(hugging_face_scorer(folders["siglip2_fixed"]).notes()) == 1


def test_heads_that_are_not_there_are_refused(folders, tmp_path):
    with pytest.raises(ValueError, match="has no matching head: leave --by itm out"):
        hugging_face_scorer(folders["clip"], by="itm")
    config = transformers.AutoConfig.from_pretrained(folders["blip"])
    config.architectures = ["BlipForConditionalGeneration"]
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"no matching head: give one for retrieval .* or ask it with --model vqa"):
        hugging_face_scorer(str(tmp_path))


@torch.inference_mode()
def test_regions_of_clip_are_means_of_its_projected_patches(folders):
    scorer = hugging_face_scorer(folders["clip"])
    images = [Image.new("RGB", (64, 32), "red"), *pictures(1)]
    boxes = [(0.0, 0.0, 64.0, 32.0), (16.0, 0.0, 32.0, 16.0), (0.0, 0.0, 50.0, 40.0)]
    found = scorer.encode_regions(images, [0, 0, 1], boxes)
    square = scorer.processor.image_processor(images=[i.resize((32, 32)) for i in images], return_tensors="pt")
    hidden = scorer.model.vision_model(**square).last_hidden_state[:, 1:]
    patches = scorer.model.visual_projection(scorer.model.vision_model.post_layernorm(hidden)).unflatten(1, (4, 4))
    whole = torch.nn.functional.normalize(patches[1].mean(dim=(0, 1)), dim=-1)
    assert found.shape == (3, 12)
    assert torch.cosine_similarity(found[2], whole, dim=0) > 0.9  # bilinear samples, not the patches themselves
    assert not torch.allclose(found[0], found[1])


@torch.inference_mode()
def test_vqa_score_is_the_probability_of_yes(tmp_path):
    name = foreign.write_llava(tmp_path)
    scorer = VQAScorer(name, batch_size=2)
    texts = ["a red cat", "a dog", "a"]
    logits = scorer.score(scorer.encode_images(pictures()), [0, 1, 1], texts)
    found = torch.softmax(logits.double(), dim=-1)[:, 1]
    model = transformers.LlavaForConditionalGeneration.from_pretrained(name).eval()
    processor = transformers.AutoProcessor.from_pretrained(name)
    for i, text, value in zip([0, 1, 1], texts, found, strict=True):
        prompt = f'<image>Does this figure show "{text}"? Please answer yes or no.'
        inputs = processor(images=[pictures()[i]], text=[prompt], return_tensors="pt")
        said = model(**inputs).logits[0, -1].softmax(dim=-1)
        yes = processor.tokenizer.convert_tokens_to_ids("Yes")
        assert float(value) == pytest.approx(float(said[yes]), rel=1e-4)
    assert scorer.calibrated
    assert scorer.notes() == ("score: P('Yes') after 'Does this figure show \"TEXT\"? Please answer yes or no.'",)
    (note,) = VQAScorer(name, question="Is it {}, or not {}? {yes} or {no}").notes()
    assert note == "score: P('Yes') after 'Is it TEXT, or not TEXT? {yes} or {no}'"
    with pytest.raises(ValueError, match=r"needs \{\} in the place of the text"):
        VQAScorer(name, question="yes or no?")


@torch.inference_mode()
def test_a_batch_of_questions_about_images_of_several_sizes_is_as_one_at_a_time(tmp_path):
    name = foreign.write_qwen(tmp_path)
    images = [pictures(1)[0].resize(size) for size in ((48, 48), (64, 32), (40, 60))]
    index, texts = [0, 1, 1, 2], ["a red cat", "a dog", "a", "the cat is to the left of a dog"]
    found = {}
    for batch_size in (1, 3):
        scorer = VQAScorer(name, batch_size=batch_size)
        logits = scorer.score(scorer.encode_images(images), index, texts)
        found[batch_size] = torch.softmax(logits.double(), dim=-1)[:, 1]
    torch.testing.assert_close(found[1], found[3], rtol=1e-4, atol=0)
    model = transformers.Qwen2VLForConditionalGeneration.from_pretrained(name).eval()
    processor = transformers.AutoProcessor.from_pretrained(name)
    for i, text, value in zip(index, texts, found[3], strict=True):
        prompt = f'<|vision_start|><|image_pad|><|vision_end|>Does this figure show "{text}"? Please answer yes or no.'
        inputs = processor(images=[images[i]], text=[prompt], return_tensors="pt")
        said = model(**inputs).logits[0, -1].softmax(dim=-1)
        yes = processor.tokenizer.convert_tokens_to_ids("Yes")
        assert float(value) == pytest.approx(float(said[yes]), rel=1e-4)


class Tight:
    """A scorer whose memory holds two images at a time."""

    calibrated = True
    batch_size = 16

    def encode_images(self, images):
        if self.batch_size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return images

    def score(self, features, index, texts):
        return torch.zeros(len(texts), 2)


def test_batches_are_halved_until_they_fit(tmp_path, capsys):
    pictures(1)[0].save(tmp_path / "a.png")
    scorer = Tight()
    items = [Item(str(tmp_path / "a.png"), ("a", "b"), ({"label": "a"}, {"label": "b"}))]
    assert len(score_items(scorer, items)) == 2
    assert scorer.batch_size == 2
    assert capsys.readouterr().err.count("out of memory") == 3
    scorer.batch_size = 1

    def fail():
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(ValueError, match="not suffice for one image at a time"):
        fitting(scorer, fail)
