"""Models of Hugging Face and OpenCLIP, tiny and random, against what their own code says of one pair at a time."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from relpretrain import MRC, VSG, RelationVocabulary, add_relation_objectives
from relpretrain.zeroshot.scorers import EmbeddingScorer
from relpretrain.zeroshot.scorers.hugging_face import hugging_face_scorer
from tests.zeroshot import foreign

TEXTS = ["a red cat", "a photo of a dog.", "a", "a red cat", "the cat is to the left of a small red dog"]
INDEX = [0, 2, 1, 1, 0]


def pictures(n=3):
    noise = np.random.default_rng(0).integers(0, 256, (n, 40, 50, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in noise]


@torch.inference_mode()
def own_logits(name, kind):
    """What the model's own forward says of each pair, by itself."""
    from transformers import AutoModel, AutoProcessor, BlipForImageTextRetrieval

    processor = AutoProcessor.from_pretrained(name)
    model = (BlipForImageTextRetrieval if kind == "blip" else AutoModel).from_pretrained(name).eval()
    values, cosines = [], []
    for i, text in zip(INDEX, TEXTS, strict=True):
        padding = {"padding": "max_length"} if kind == "siglip" else {}
        given = {"images": [pictures()[i]], "return_tensors": "pt"}
        inputs = dict(processor(text=[text], truncation=True, **given, **padding))
        kept = {key: inputs[key] for key in ("pixel_values", "input_ids", "attention_mask") if key in inputs}
        if kind == "blip":
            values.append(model(**kept, use_itm_head=True).itm_score[0])
            cosines.append(model(**kept, use_itm_head=False).itm_score[0, 0])
        else:
            out = model(**kept)
            bias = model.logit_bias if kind == "siglip" else 0
            values.append(torch.stack([torch.zeros(()), (out.logits_per_image - bias)[0, 0]]))
            cosines.append((out.image_embeds * out.text_embeds).sum())
    return torch.stack(values), torch.stack(cosines)


@pytest.mark.parametrize("kind", ["clip", "siglip", "blip"])
@pytest.mark.parametrize("batch_size", [1, 32])
def test_scores_are_those_of_the_model_itself(kind, batch_size, tmp_path):
    name = getattr(foreign, f"write_{kind}")(tmp_path)
    scorer = hugging_face_scorer(name, batch_size=batch_size)
    assert isinstance(scorer, EmbeddingScorer)
    assert (scorer.calibrated, scorer.fuses) == (kind == "blip", kind == "blip")
    features = scorer.encode_images(pictures())
    logits, cosines = own_logits(name, kind)
    assert logits.unique(dim=0).shape[0] == 5
    torch.testing.assert_close(scorer.score(features, INDEX, TEXTS), logits, rtol=1e-5, atol=1e-5)
    matrix = scorer.similarities(features, TEXTS)
    torch.testing.assert_close(matrix[INDEX, range(5)], cosines, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "blip"])
def test_long_texts_are_cut_and_counted(kind, tmp_path):
    name = getattr(foreign, f"write_{kind}")(tmp_path)
    scorer = hugging_face_scorer(name, max_tokens=8)
    features = scorer.encode_images(pictures())
    long = scorer.score(features, [0, 0], ["abcdefgh", "abcdefzz"])
    assert torch.equal(long[0], long[1])
    assert scorer.notes() == ("texts are cut to 8 tokens; 2 different texts reach that",)
    assert "; none reaches that" in scorer.notes()[0]
    with pytest.raises(ValueError, match="reads at most 32 tokens; --max-tokens asks for 99"):
        hugging_face_scorer(name, max_tokens=99)


def test_what_cannot_be_loaded_gets_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"The folder .* holds no model that can be read"):
        hugging_face_scorer(str(tmp_path))
    foreign.write_language_model(tmp_path)
    with pytest.raises(ValueError, match="is a gpt2 model, which does not embed images and texts"):
        hugging_face_scorer(str(tmp_path))
    (tmp_path / "siglip").mkdir()
    with pytest.raises(ValueError, match="reads exactly 24 tokens; --max-tokens asks for 8"):
        hugging_face_scorer(foreign.write_siglip(tmp_path / "siglip"), max_tokens=8)


def test_openclip_scores_are_those_of_the_model_itself(tmp_path):
    open_clip = pytest.importorskip("open_clip")
    from relpretrain.zeroshot.scorers.openclip import OpenCLIPScorer

    name = foreign.write_openclip(tmp_path)
    scorer = OpenCLIPScorer(name, batch_size=2)
    model, transform = open_clip.create_model_from_pretrained("letters", str(tmp_path / "weights.pt"))
    tokenizer = open_clip.get_tokenizer("letters")
    with torch.inference_mode():
        pixels, ids = torch.stack([transform(p) for p in pictures()]), tokenizer(TEXTS)
        images, texts, scale = model.eval()(pixels, ids)[:3]
    cosines = images @ texts.T
    features = scorer.encode_images(pictures())
    torch.testing.assert_close(scorer.similarities(features, TEXTS), cosines, rtol=1e-5, atol=1e-5)
    logits = scorer.score(features, INDEX, TEXTS)
    torch.testing.assert_close(logits[:, 1], scale * cosines[INDEX, range(5)], rtol=1e-5, atol=1e-4)
    assert not logits[:, 0].any()
    with pytest.raises(ValueError, match="is NAME/PRETRAINED"):
        OpenCLIPScorer("ViT-B-32")
    with pytest.raises(ValueError, match="OpenCLIP cannot load 'letters/nothing'"):
        OpenCLIPScorer("letters/nothing")
    with pytest.raises(ValueError, match="reads exactly 77 tokens; --max-tokens asks for 30"):
        OpenCLIPScorer(name, max_tokens=30)


def test_openclip_counts_texts_at_the_limit_where_padding_is_the_end_of_a_text():
    """As SigLIP's tokenizer has it: the last token of a cut text is a padding token."""
    pytest.importorskip("open_clip")
    from relpretrain.zeroshot.scorers.openclip import OpenCLIPScorer

    class Tokenizer:
        tokenizer = SimpleNamespace(pad_token_id=1, eos_token_id=1)

        def __call__(self, texts):
            return torch.tensor([[*([7] * len(text) + [1] * 4)[:3], 1] for text in texts])

    scorer = OpenCLIPScorer.__new__(OpenCLIPScorer)
    scorer.__dict__.update(_at_limit=set(), batch_size=8, precision=None, device="cpu", max_tokens=4)
    scorer.tokenizer, scorer.model = Tokenizer(), SimpleNamespace(encode_text=lambda ids: ids.float())
    scorer.embed_texts(["a", "ab", "abc", "abcdef"])
    assert scorer.texts_at_limit == {"abc", "abcdef"}


def attached(model):
    return add_relation_objectives(model, [VSG(), MRC(RelationVocabulary(["on", "under"]))])


@pytest.mark.parametrize("kind", ["clip", "siglip", "blip"])
def test_a_folder_with_a_relation_head_scores_as_without(kind, tmp_path):
    """What `save_pretrained` writes after `add_relation_objectives`."""
    name = getattr(foreign, f"write_{kind}")(tmp_path)
    expected = hugging_face_scorer(name)
    attached(hugging_face_scorer(name).model).save_pretrained(name)
    assert any("relation_objectives" in key for key in load_file(tmp_path / "model.safetensors"))
    features, scorer = expected.encode_images(pictures()), hugging_face_scorer(name)
    assert torch.equal(scorer.encode_images(pictures()), features)
    assert torch.equal(scorer.score(features, INDEX, TEXTS), expected.score(features, INDEX, TEXTS))


def test_an_openclip_file_with_a_relation_head_scores_as_without(tmp_path):
    """What OpenCLIP's training script saves after `add_relation_objectives`."""
    pytest.importorskip("open_clip")
    from relpretrain.zeroshot.scorers.openclip import OpenCLIPScorer

    expected = OpenCLIPScorer(foreign.write_openclip(tmp_path))
    state = attached(OpenCLIPScorer(f"letters/{tmp_path / 'weights.pt'}").model).state_dict()
    torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "epoch_1.pt")
    scorer = OpenCLIPScorer(f"letters/{tmp_path / 'epoch_1.pt'}")
    assert torch.equal(scorer.encode_images(pictures()), expected.encode_images(pictures()))
    assert torch.equal(scorer.embed_texts(TEXTS), expected.embed_texts(TEXTS))
    assert expected.loaded == ""
    assert scorer.loaded == "left aside: 5 weights of relation objectives"
