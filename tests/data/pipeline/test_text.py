import pickle
import time
from collections import Counter

import numpy as np
import pytest

from relpretrain.data.pipeline.text import TextEncoder, Tokens, clean_caption, collate_texts, mask_words, text_identity
from relpretrain.data.pipeline.tokenizer import load_tokenizer, write_wordpiece
from relpretrain.types import IGNORE


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    return load_tokenizer(write_wordpiece(["red square", "blue circle", "left of", "a", "and"], folder))


def _read(tokenizer, ids):
    return " ".join(tokenizer.convert_ids_to_tokens(ids))


def test_caption_is_wrapped_and_words_are_numbered(tokenizer):
    tokens = TextEncoder(tokenizer, 20).caption("a red squares")
    assert _read(tokenizer, tokens.ids) == "[CLS] a red square ##s [SEP]"
    assert tokens.words == [-1, 0, 1, 2, 2, -1]


def test_caption_without_separator_is_the_official_form(tokenizer):
    tokens = TextEncoder(tokenizer, 20, separator=False).caption("a red square")
    assert _read(tokenizer, tokens.ids) == "[CLS] a red square"
    assert tokens.words == [-1, 0, 1, 2]


@pytest.mark.parametrize(("separator", "expected"), [(True, "[CLS] a red [SEP]"), (False, "[CLS] a red square")])
def test_caption_is_cut_to_the_limit(tokenizer, separator, expected):
    tokens = TextEncoder(tokenizer, 4, separator).caption("a red square and a blue circle")
    assert _read(tokenizer, tokens.ids) == expected
    assert len(tokens.words) == len(tokens) == 4


def test_triplets_are_separated_and_their_words_stay_apart(tokenizer):
    encoder = TextEncoder(tokenizer, 20)
    tokens = encoder.triplets(["red square left of blue circle", "circles and square"])
    assert _read(tokenizer, tokens.ids) == ("[CLS] red square left of blue circle [SEP] circle ##s and square [SEP]")
    assert tokens.words == [-1, 0, 1, 2, 3, 4, 5, -1, 6, 6, 7, 8, -1]


def test_triplets_fill_the_limit_exactly_and_never_exceed_it(tokenizer):
    texts = ["red square left of blue circle", "blue circle left of red square"]
    assert TextEncoder(tokenizer, 15).triplet_length(texts[0]) == 7
    assert TextEncoder(tokenizer, 15).fits(texts)
    assert len(TextEncoder(tokenizer, 15).triplets(texts)) == 15
    assert not TextEncoder(tokenizer, 14).fits(texts)
    with pytest.raises(ValueError, match="2 triplets take 15 tokens, but the limit is 14"):
        TextEncoder(tokenizer, 14).triplets(texts)


def test_ids_equal_those_of_berts_own_tokenizer(realdata):
    tokenizer = load_tokenizer(realdata / "bert")
    assert TextEncoder(tokenizer, 20).caption("A man's Umbrella, café").ids == [
        101, 1037, 2158, 1005, 1055, 12977, 1010, 7668, 102,
    ]  # fmt: skip


def test_an_encoder_survives_pickling(tokenizer):
    encoder = TextEncoder(tokenizer, 9, separator=False)
    encoder.caption("a red square")
    twin = pickle.loads(pickle.dumps(encoder))
    assert twin.caption("a red square") == encoder.caption("a red square")
    assert (twin.max_tokens, twin.separator) == (9, False)


def test_what_an_encoder_returns_may_be_changed(tokenizer):
    encoder = TextEncoder(tokenizer, 20)
    first = encoder.caption("a red square")
    first.ids[1] = 0
    assert encoder.caption("a red square").ids[1] != 0


LONG = Tokens([2, *range(40, 72), 3], [-1, *sorted([*range(20), 1, 1, 3, 5, 7, 7, 9, 11, 13, 15, 17, 19]), -1])


def test_masking_takes_whole_words(tokenizer):
    for seed in range(50):
        _, labels = mask_words(LONG, 0.25, np.random.default_rng(seed), tokenizer)
        chosen = {w for w, label in zip(LONG.words, labels, strict=True) if label != IGNORE}
        assert -1 not in chosen
        for word, label, original in zip(LONG.words, labels, LONG.ids, strict=True):
            assert label == (original if word in chosen else IGNORE)


@pytest.mark.parametrize("fraction", [0.15, 0.25, 0.5])
def test_masking_reaches_the_fraction_on_average(tokenizer, fraction):
    rng = np.random.default_rng(0)
    counts = [sum(x != IGNORE for x in mask_words(LONG, fraction, rng, tokenizer)[1]) for _ in range(2000)]
    assert np.mean(counts) / 32 == pytest.approx(fraction, rel=0.04)


def test_masking_follows_bert_in_what_it_puts_in_place(tokenizer):
    rng = np.random.default_rng(0)
    kinds = Counter()
    for _ in range(1500):
        ids, labels = mask_words(LONG, 0.5, rng, tokenizer)
        for new, label, old in zip(ids, labels, LONG.ids, strict=True):
            if label == IGNORE:
                assert new == old
            else:
                kinds["mask" if new == tokenizer.mask_token_id else "kept" if new == old else "other"] += 1
                assert new == tokenizer.mask_token_id or new not in tokenizer.all_special_ids
    total = sum(kinds.values())
    assert kinds["mask"] / total == pytest.approx(0.8, abs=0.02)
    assert kinds["other"] / total == pytest.approx(0.1, abs=0.02)


def test_masking_depends_on_its_generator_alone(tokenizer):
    one, same = (mask_words(LONG, 0.25, np.random.default_rng(7), tokenizer) for _ in range(2))
    assert one == same
    assert one != mask_words(LONG, 0.25, np.random.default_rng(8), tokenizer)


def test_a_single_word_is_masked_and_no_word_is_fine(tokenizer):
    rng = np.random.default_rng(0)
    assert mask_words(Tokens([2, 50, 3], [-1, 0, -1]), 0.15, rng, tokenizer)[1] == [IGNORE, 50, IGNORE]
    assert mask_words(Tokens([2, 3], [-1, -1]), 0.15, rng, tokenizer) == ([2, 3], [IGNORE, IGNORE])
    assert mask_words(LONG, 0.0, rng, tokenizer) == (LONG.ids, [IGNORE] * len(LONG))


def test_collation_pads_on_the_right():
    texts = [Tokens([2, 7, 3], [-1, 0, -1]), Tokens([2, 3], [-1, -1])]
    masked = [([2, 4, 3], [IGNORE, 7, IGNORE]), ([2, 3], [IGNORE, IGNORE])]
    batch = collate_texts(texts, pad_id=0, masked=masked)
    assert batch.input_ids.tolist() == [[2, 7, 3], [2, 3, 0]]
    assert batch.attention_mask.tolist() == [[True, True, True], [True, True, False]]
    assert batch.masked_input_ids.tolist() == [[2, 4, 3], [2, 3, 0]]
    assert batch.labels.tolist() == [[IGNORE, 7, IGNORE], [IGNORE] * 3]
    assert batch.positions.tolist() == [1]
    assert collate_texts([], pad_id=0).input_ids.shape == (0, 1)
    assert collate_texts(texts, pad_id=0).labels is None


def test_text_identity_is_stable_and_fits_int64():
    assert text_identity("A red  square ") == text_identity("a red square") == 666931742951634193
    assert text_identity("a red square") != text_identity("a blue square")
    assert all(0 <= text_identity(str(i)) < 2**63 for i in range(200))


def test_captions_are_cleaned_as_in_the_official_code():
    assert clean_caption('A <person>\'s "well-known" dog/cat:  (two) #1!\n', 30) == "a persons well known dog cat two 1"
    assert clean_caption("one two three four", 2) == "one two"
    assert clean_caption(" ?! ", 5) == ""


def test_a_limit_without_room_for_a_token_is_refused(tokenizer):
    with pytest.raises(ValueError, match="max_tokens is 2"):
        TextEncoder(tokenizer, 2)


@pytest.mark.parametrize("clean", [False, True])
def test_of_a_very_long_text_a_beginning_is_tokenised(tokenizer, clean):
    encoder = TextEncoder(tokenizer, 40, clean=clean)
    seen = []
    encode = encoder._encode
    encoder._encode = lambda text: seen.append(len(text)) or encode(text)
    rng = np.random.default_rng(0)
    words = ["a", "cat,", "on", "the", "tree-", "\n", " ", "###", "<person>", "é", "[SEP]", "\t", "猫"]
    for size, seldom in ((200_000, False), (20_000, False), (20_000, True)):
        text = " ".join(np.array(words)[rng.integers(len(words), size=size)])
        text = " " * 20_000 + text if seldom else text
        whole = encode(clean_caption(text) if clean else text)
        seen.clear()
        found = encoder.caption(text)
        assert found.ids[1:-1] == list(whole[0][:38])
        assert found.words[1:-1] == list(whole[1][:38])
        assert encoder.triplet_length(text) == len(whole[0]) + 1 or encoder.triplet_length(text) > 40
        assert max(seen) < len(text) or seldom
        assert max(seen) < 20_000 or seldom
    assert encoder._remembered.cache_info().currsize == 0


@pytest.mark.parametrize(
    "text", ["word " * 9000, "a" * 90_000, "a - b " * 5000, ". " * 20_000 + "x", "\n \n" * 9000 + "b c"]
)
def test_long_texts_are_cleaned_as_short_ones(text, monkeypatch):
    beginning = clean_caption(text)
    monkeypatch.setattr("relpretrain.data.pipeline.text.LONG", 10**9)
    assert beginning == clean_caption(text)


@pytest.mark.parametrize("piece", ["a", "猫", ".", " ", "\u0301", "a\n"], ids=ascii)
def test_ten_megabytes_take_no_time_whatever_they_are(tokenizer, piece):
    encoder = TextEncoder(tokenizer, 40)
    text = piece * (10_000_000 // len(piece.encode()))
    start = time.perf_counter()
    tokens = encoder.caption(text)
    encoder.fits([text])
    assert time.perf_counter() - start < 3  # seconds; it was a minute
    assert tokens == encoder.caption(text[:20_000])
    assert encoder._remembered.cache_info().currsize == 0
