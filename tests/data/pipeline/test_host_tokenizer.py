"""What a host's own tokenizer writes is right: ids, special tokens, padding and length."""

import pickle
import time

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from relpretrain import MRC, VSG, RelationVocabulary, add_relation_objectives, graph_loader
from relpretrain.data.pipeline.host_tokenizer import Padding, SentenceEncoder, text_encoder
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from tests.adapters import test_dual as dual
from tests.adapters.host_checks import adapter_of, padded
from tests.data.small import tokenizer, write_shards

LETTERS = [f"{mark}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz.0123456789" for mark in ("", "##")]
TEXTS = ["a cat", "dogs beside an old tree.", "", "a cat on a mat. dogs beside an old tree. " * 3]
LENGTH = dual.CONTEXT


def made(words, template=None, **options):
    """A small fast tokenizer; `words` come first, then letters, of which it makes all others."""
    vocabulary = {word: number for number, word in enumerate([*words, *LETTERS])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    backend.normalizer, backend.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    if template:
        named = [(token, vocabulary[token]) for token in template.split() if token != "$A"]
        backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=named)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", **options)


GEMMA = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
KINDS = {
    "SigLIP 2, which writes <eos> alone": (["<pad>", "<eos>", "<bos>", "<unk>"], "$A <eos>", GEMMA),
    "SigLIP 2, which writes nothing": (["<pad>", "<eos>", "<bos>", "<unk>"], None, GEMMA),
    "SigLIP 2, padded on the left": (["<pad>", "<eos>", "<bos>", "<unk>"], None, {**GEMMA, "padding_side": "left"}),
    "SigLIP": (["<unk>", "</s>"], "$A </s>", {"eos_token": "</s>", "pad_token": "</s>", "model_max_length": LENGTH}),
    "CLIP": (["<unk>", "<s>", "<e>"], "<s> $A <e>", {"bos_token": "<s>", "eos_token": "<e>", "pad_token": "<e>"}),
}


@pytest.fixture(params=KINDS)
def theirs(request):
    words, template, options = KINDS[request.param]
    return made(words, template, **options)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("shards"), count=8)


def own(tokenizer, text):
    return tokenizer(text, padding="max_length", truncation=True, max_length=LENGTH)


def test_texts_are_the_tokenizers_own(theirs):
    encoder = pickle.loads(pickle.dumps(text_encoder(theirs, LENGTH)))
    assert isinstance(encoder, SentenceEncoder)
    for text in TEXTS:
        tokens, expected = encoder.caption(text), own(theirs, text)
        pairs = zip(expected["input_ids"], expected["attention_mask"], strict=True)
        assert tokens.ids == [number for number, seen in pairs if seen]
        if len(tokens) < LENGTH:
            batch = encoder.padding.text(padded([tokens.ids], pad=77))
            assert batch.input_ids[0].tolist() == expected["input_ids"]
            assert batch.attention_mask[0].long().tolist() == expected["attention_mask"]


def test_triplets_that_fit_are_never_cut(theirs):
    encoder = text_encoder(theirs, LENGTH)
    texts = ["cat on mat", "dogs by tree"]
    count = max(n for n in range(3) if encoder.fits(texts[:n]))
    assert count
    joined = " ".join(f"{text}." for text in texts[:count])
    assert encoder.triplets(texts[:count]).ids == theirs(joined)["input_ids"]
    with pytest.raises(ValueError, match=f"do not fit into {LENGTH} tokens"):
        encoder.triplets(["cat on mat"] * 9)


def test_a_tokenizers_own_limit_counts():
    words, template, options = KINDS["SigLIP"]
    assert text_encoder(made(words, template, **options), 112).max_tokens == LENGTH
    assert text_encoder(made(words, template, **options), 10).max_tokens == 10


def test_the_loader_pads_as_the_tokenizer_does(theirs, shards):
    loader = graph_loader(shards, theirs, 4, 32, max_tokens=40)
    batch = next(iter(loader))
    length = min(40, theirs.model_max_length)
    for text in (batch.pairs.text, batch.entities.text):
        assert text.input_ids.shape[1] == length
        assert torch.all(text.input_ids[~text.attention_mask] == theirs.pad_token_id)
        first = text.attention_mask[:, 0].all() if theirs.padding_side == "right" else text.attention_mask[:, -1].all()
        assert first
        if text.masked_input_ids is not None:
            assert torch.equal(text.masked_input_ids, text.input_ids)
    for row, mask in zip(batch.pairs.text.input_ids, batch.pairs.text.attention_mask, strict=True):
        words = theirs.decode(row[mask], skip_special_tokens=True).replace(" ##", "").replace(" .", ".")
        assert theirs(words, padding="max_length", max_length=length)["input_ids"] == row.tolist()


@pytest.mark.parametrize("config_pad", [0, 1])
def test_siglip_sees_what_its_tokenizer_pads_with(theirs, shards, config_pad):
    """Whatever the configuration says: that of SigLIP 2 says 1, and its tokenizer pads with 0."""
    host = dual.siglip()
    host.text_model.config.pad_token_id = config_pad
    add_relation_objectives(host, [VSG(), MRC(RelationVocabulary(["on"]))])
    batch = next(iter(graph_loader(shards, theirs, 4, 32, max_tokens=40, relations_per_text=1)))
    text = batch.entities.text
    rows = [row[mask].tolist() for row, mask in zip(text.input_ids, text.attention_mask, strict=True)]
    pad = theirs.pad_token_id
    fill = [[pad] * (LENGTH - len(row)) for row in rows]
    left = theirs.padding_side == "left"
    expected = torch.tensor([f + row if left else row + f for row, f in zip(rows, fill, strict=True)])
    given = adapter_of(host).encode_text(text.input_ids, text.attention_mask)[:, 0]
    torch.testing.assert_close(given, dual.pooled(host.get_text_features(expected)))


def test_texts_that_fill_the_limit_still_show_the_padding():
    """SigLIP reads 20 tokens, and every text has the 4 that the loader was given: one column more says what follows."""
    host = add_relation_objectives(dual.siglip(), [VSG()])
    text = Padding(0, 4).text(padded([[5, 6, 7, 8], [9, 5, 6, 7]], pad=77))
    assert text.input_ids.tolist() == [[5, 6, 7, 8, 0], [9, 5, 6, 7, 0]]
    expected = torch.nn.functional.pad(text.input_ids, (0, LENGTH - 5))
    given = adapter_of(host).encode_text(text.input_ids, text.attention_mask)[:, 0]
    torch.testing.assert_close(given, dual.pooled(host.get_text_features(expected)))


def test_clip_is_the_same_with_and_without_the_padding():
    host = add_relation_objectives(dual.clip(), [VSG()])
    text = dual.texts_for("clip")(4)
    long = Padding(dual.EOS, 30).text(text)
    short, full = (adapter_of(host).encode_text(t.input_ids, t.attention_mask) for t in (text, long))
    torch.testing.assert_close(short, full)


def test_openclips_own_siglip_tokenizers():
    open_clip = pytest.importorskip("open_clip")
    wrapper = open_clip.tokenizer.HFTokenizer.__new__(open_clip.tokenizer.HFTokenizer)
    words, template, options = KINDS["SigLIP"]
    clean = open_clip.tokenizer.get_clean_fn("canonicalize")  # lower case, no punctuation
    vars(wrapper).update(tokenizer=made(words, template, **options), context_length=LENGTH, strip_sep_token=False)
    vars(wrapper).update(clean_fn=clean, tokenizer_mode="")
    encoder = text_encoder(wrapper, LENGTH)
    for text in ("A cat!", "a cat on a mat. dogs beside an old tree."):
        tokens = encoder.caption(text)
        row = encoder.padding.text(padded([tokens.ids], pad=77)).input_ids[0].tolist()
        assert row[:LENGTH] == wrapper([text])[0].tolist()
        assert tokens.ids[-1] == 1


def test_a_name_or_folder_is_as_good_as_the_tokenizer(theirs, shards, tmp_path):
    theirs.save_pretrained(tmp_path / "tokenizer")
    assert text_encoder(tmp_path / "tokenizer", LENGTH).caption("a cat") == text_encoder(theirs, LENGTH).caption(
        "a cat"
    )
    with pytest.raises(ValueError, match="has no token for"):
        load_tokenizer(tmp_path / "tokenizer")  # our own models need one of BERT's kind


def test_whether_labels_end_with_a_separator_is_the_tokenizers_affair(tmp_path):
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]", "pad_token": "[PAD]"}
    words = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "<unk>"]
    for template in ("[CLS] $A [SEP]", "[CLS] $A"):  # the official ALBEF and X-VLM write no [SEP]
        theirs = made(words, template, **names)
        encoder = text_encoder(theirs, LENGTH)
        assert type(encoder) is TextEncoder
        assert encoder.caption("a cat").ids == theirs("a cat")["input_ids"]
        assert encoder.triplets(["a cat"]).ids[-1] == 2
    assert text_encoder(theirs, LENGTH, separator=True).caption("a cat").ids[-1] == 2
    assert text_encoder(tokenizer(tmp_path), LENGTH).separator


def test_what_cannot_be_called_is_refused():
    with pytest.raises(ValueError, match="cannot be called"):
        text_encoder(object(), LENGTH)


@pytest.mark.parametrize("piece", ["a", "a ", "."])
def test_of_ten_megabytes_a_beginning_is_tokenised(theirs, piece):
    encoder = text_encoder(theirs, LENGTH)
    text, start = piece * 10_000_000, time.perf_counter()
    assert encoder.caption(text) == encoder.caption(text[:50_000])
    encoder.fits([text])
    assert time.perf_counter() - start < 5  # seconds
    assert encoder._length.cache_info().currsize <= 2
