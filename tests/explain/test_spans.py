"""Words, phrases and parts of triplets among wordpieces."""

import pytest
import torch

from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.tokenizer import load_tokenizer, write_wordpiece
from relpretrain.explain import relation_maps, text_maps
from relpretrain.explain.maps.spans import differing, find, triplet_spans, words_of
from relpretrain.scene_graph import Entity, Relation, SceneGraph


@pytest.fixture(scope="module")
def encoder(tokenizer):
    return TextEncoder(tokenizer, 40, True, True)


def pieces(encoder, tokens, places):
    return encoder.tokenizer.convert_ids_to_tokens([tokens.ids[i] for i in places])


def test_words_have_all_their_pieces(encoder):
    tokens = encoder.caption("A red hat, on the dog")
    found = words_of(tokens, encoder)
    assert [word.text for word in found] == ["a", "red", "hat", "on", "the", "dog"]
    assert found[2].places == (3, 4, 5)  # "h", "##a", "##t"


@pytest.mark.parametrize(
    ("words", "places"), [("red", [2]), ("Red hat", [2, 3, 4, 5]), ("on the", [6, 7]), ("dog", [8])]
)
def test_phrases_are_found_where_they_stand(encoder, words, places):
    text = "A red hat, on the dog"
    assert list(find(words, encoder.caption(text), encoder, text)) == places


def test_a_part_of_a_word_is_no_word(encoder):
    text = "at hat"
    tokens = encoder.caption(text)
    assert find("at", tokens, encoder, text) == (1, 2)
    for words in ("h", "ha", "sofa", ""):
        with pytest.raises(ValueError, match=f"{words!r} is not among the words .* of 'at hat', which are: 'at hat'"):
            find(words, tokens, encoder, text)


@pytest.mark.parametrize("separator", [True, False])
def test_triplets_are_divided(tokenizer, separator):
    encoder = TextEncoder(tokenizer, 40, separator, True)
    tokens, spans = triplet_spans("Red square", "left-of", "the big dog", encoder)
    assert tokens.ids == encoder.caption("Red square left-of the big dog").ids
    assert pieces(encoder, tokens, spans.subject) == ["red", "square"]
    assert pieces(encoder, tokens, spans.predicate) == ["left", "of"]
    assert pieces(encoder, tokens, spans.object) == ["the", "b", "##i", "##g", "dog"]


def test_triplets_without_room_or_words_are_told(tokenizer):
    short = TextEncoder(tokenizer, 6, True, True)
    assert triplet_spans("dog", "on", "red sofa", short)[1].object == (3, 4)
    with pytest.raises(ValueError, match="takes 5 tokens beside the special ones, and the model sees 4 of them"):
        triplet_spans("dog", "on", "the red sofa", short)
    with pytest.raises(ValueError, match="The predicate '!' of 'dog ! sofa' has no word that the model reads"):
        triplet_spans("dog", "!", "sofa", short)


def test_relations_have_the_maps_of_their_words(loaded, picture):
    graph = SceneGraph((Entity("dog"), Entity("red sofa")), (Relation(0, "on the right of", 1), Relation(1, "on", 0)))
    first, second = relation_maps(loaded, picture, graph)
    (text,) = text_maps(loaded, picture, ["dog on the right of red sofa"])
    assert first.words.text == text.text
    assert torch.allclose(first.words.maps, text.maps, rtol=1e-4, atol=1e-7)
    assert torch.allclose(first.subject, text.maps[1], rtol=1e-4, atol=1e-7)
    assert torch.allclose(first.predicate, text.maps[2:6].mean(0), rtol=1e-4, atol=1e-7)
    assert torch.allclose(first.object, text.maps[6:8].mean(0), rtol=1e-4, atol=1e-7)
    assert second.relation is graph.relations[1]
    (alone,) = relation_maps(loaded, picture, graph, graph.relations[:1], reduce="max")
    assert torch.allclose(alone.object, text.maps[6:8].amax(0), rtol=1e-4, atol=1e-7)
    with pytest.raises(ValueError, match="reduce must be 'mean' or 'max'; got 'sum'"):
        text.of("dog", "sum")
    assert relation_maps(loaded, picture, graph, []) == []


def test_where_texts_differ():
    assert differing([1, 5, 6, 2], [1, 7, 6, 2]) == ((1,), (1,))
    assert differing([1, 5, 6, 7, 2], [1, 7, 6, 5, 2]) == ((1, 2, 3), (1, 2, 3))
    assert differing([1, 5, 2], [1, 5, 6, 7, 2]) == ((1, 2), (2, 3))  # around the gap, and what fills it
    assert differing([1, 5, 5, 2], [1, 5, 5, 5, 2]) == ((2, 3), (3,))


def test_letters_of_unknown_words_are_their_pieces(tmp_path):
    encoder = TextEncoder(load_tokenizer(write_wordpiece(["cat"], tmp_path)), 40, True, False)
    tokens, spans = triplet_spans("cat", "on", "mat", encoder)
    assert [len(part) for part in spans] == [1, 2, 3]
    assert len(tokens) == 8
