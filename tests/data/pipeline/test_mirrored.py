"""Mirror images as further rows of a batch, and blocks of the image in texts."""

import numpy as np
import pytest
import torch

from relpretrain.data import checks
from relpretrain.data.pipeline import text_writer
from relpretrain.data.pipeline.collate import collate
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.text_writer import TextWriter
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.data.sampling.stream import Stream
from relpretrain.objectives.negatives import same_pair
from relpretrain.scene_graph import Box, Entity, Relation, SceneGraph
from relpretrain.scene_graph.foils import WordRules
from tests.data.pipeline.test_foils import CAPTION, GRAPH, sample
from tests.data.small import stream, tokenizer

SIZE = 30
NO_SIDE = SceneGraph(GRAPH.entities, GRAPH.relations[:1])


@pytest.fixture
def loaded(tmp_path):
    return load_tokenizer(tokenizer(tmp_path))


def written(loaded, kind="graphs", of=None, seed=0, **options):
    made = Stream(kind, {"data": "unused"}, 2, **options)
    writer = TextWriter(made, TextEncoder(loaded, made.max_tokens))
    image = torch.arange(3 * SIZE * SIZE).reshape(3, SIZE, SIZE)
    return writer(image, of or sample(), np.random.default_rng(seed))


def text_of(loaded, text):
    return loaded.decode(text.tokens.ids, skip_special_tokens=True)


def test_an_image_comes_with_its_mirror_image(loaded):
    found = written(loaded, mirrored=1.0)
    assert text_of(loaded, found.texts[0]) == "red cat on sofa red cat left of dog"
    assert text_of(loaded, found.mirrored.texts[0]) == "red cat on sofa red cat right of dog"
    assert torch.equal(found.mirrored.image, found.image.flip(2))
    assert found.mirrored.image_id != found.image_id
    assert found.mirrored.texts[0].masked is not None


def test_all_else_is_drawn_as_without(loaded):
    plain, more = written(loaded), written(loaded, mirrored=1.0)
    assert plain.mirrored is None
    assert (plain.texts, plain.entities, plain.triplets) == (more.texts, more.entities, more.triplets)


def test_a_text_without_sides_has_none(loaded):
    assert written(loaded, of=sample(NO_SIDE), mirrored=1.0).mirrored is None
    alone = [written(loaded, seed=seed, mirrored=1.0, relations_per_text=1) for seed in range(12)]
    assert {(example.mirrored is not None, "left" in text_of(loaded, example.texts[0])) for example in alone} == {
        (True, True),
        (False, False),
    }


def test_synonyms_of_the_stream_count(loaded, monkeypatch):
    """To those who call a cat a dog, "red cat left of dog" may be true of the mirror image, with its dog left."""

    class Mixed(WordRules):
        def may_be_one(self, one, other):
            return True

    of = sample(SceneGraph(GRAPH.entities, GRAPH.relations[1:]))
    assert written(loaded, of=of, mirrored=1.0).mirrored is not None
    monkeypatch.setattr(text_writer, "word_rules", lambda synonyms: Mixed())
    assert written(loaded, of=of, mirrored=1.0).mirrored is None


def test_positions_of_boxes_count(loaded):
    kinds = {
        written(loaded, of=sample(NO_SIDE), seed=s, mirrored=1.0, positions_per_text=4).mirrored is None
        for s in range(8)
    }
    assert kinds == {True, False}


def test_the_share_is_kept(loaded):
    found = [written(loaded, seed=seed, mirrored=0.25).mirrored is not None for seed in range(80)]
    assert 8 <= sum(found) <= 32


def test_a_batch_holds_them_behind_all_others_as_negatives(loaded):
    options = {"mirrored": 1.0, "foils_per_text": 1, "units_per_image": 2, "confidence_weights": True}
    examples = [
        written(loaded, of=of, **options) for of in (sample(), sample(NO_SIDE, key="b"), sample(GRAPH, key="c"))
    ]
    batch = collate("graphs", examples, loaded.pad_token_id)
    assert len(batch) == len(batch.pairs) == 5
    assert batch.pairs.image_index.tolist() == [0, 1, 2, 3, 4]
    assert batch.keys == ("d/s/a", "d/s/b", "d/s/c")
    assert torch.equal(batch.images[3], batch.images[0].flip(2))
    assert len(batch.pairs.weights) == 5
    assert int(max(batch.entities.image_index)) == 2
    assert int(batch.foils.of.max()) == int(batch.units.pairs.image_index.max()) == 2
    same = same_pair(*(batch.image_ids, batch.pairs.text_keys) * 2)
    assert not same[0, 3]
    assert not same[3, 0]


def test_a_foil_that_is_true_of_the_mirror_image_is_known_to_be(loaded):
    """So that the contrast does not push the mirror image away from its own text (`column_losses`)."""
    options = {"mirrored": 1.0, "foils_per_text": 1, "foil_kinds": ["rel_replace"], "relations_per_text": 1}
    found = written(loaded, of=sample(SceneGraph(GRAPH.entities, GRAPH.relations[1:])), **options)
    foil, true = found.foils[0][0], found.mirrored.texts[0]
    assert text_of(loaded, foil) == text_of(loaded, true) == "red cat right of dog"
    assert foil.identity == true.identity


def test_words_that_read_alike_are_no_negatives(tmp_path):
    """A tokenizer that knows neither side sees one text, which would be a false negative of itself."""
    from relpretrain.data.pipeline.tokenizer import SPECIAL_TOKENS

    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL_TOKENS.values(), "cat", "dog", "of", "red"]))
    loaded = load_tokenizer(tmp_path)
    graph = SceneGraph(GRAPH.entities, GRAPH.relations[1:])
    assert written(loaded, of=sample(graph), mirrored=1.0).mirrored is None


def test_a_caption_ends_with_a_block(loaded):
    found = written(loaded, "captions", blocks_per_text=1, seed=3)
    text = text_of(loaded, found.texts[0]).replace(" ", "")
    blocks = {"theblock0hasaredcat.", "theblock7hasasofa.", "theblock6hasasofa.", "theblock2hasadog."}
    assert any(text == f"{CAPTION}.{block}".replace(" ", "") for block in blocks), text


def test_the_caption_is_cut_and_the_block_kept(loaded):
    long = " ".join(["a red cat"] * 30)
    found = written(loaded, "captions", of=sample(captions=[long]), blocks_per_text=1)
    tokens = found.texts[0].tokens
    assert len(tokens) == len(tokens.words) == 36
    assert "block" in text_of(loaded, found.texts[0]).replace(" ", "")
    numbers = [word for word in tokens.words if word >= 0]
    assert numbers == sorted(numbers)  # words of the ending go on where the caption's end


def test_foils_of_a_caption_end_like_it(loaded):
    found = written(loaded, "captions", blocks_per_text=1, foils_per_text=2)
    own = text_of(loaded, found.texts[0]).partition(".")[2]
    assert len(found.foils) == 2
    assert all(text_of(loaded, foil).partition(".")[2] == own for foil, _, _ in found.foils)


def test_a_sample_without_boxes_keeps_its_caption(loaded):
    bare = sample(SceneGraph((Entity("cat"),)))
    plain, found = (written(loaded, "captions", of=bare, blocks_per_text=n) for n in (0, 1))
    assert found.texts[0].tokens == plain.texts[0].tokens


def test_graphs_speak_of_blocks_too_and_a_mirror_image_of_its_own(loaded):
    lone = SceneGraph((Entity("cat", Box(0, 0, 9, 9)), Entity("dog", Box(21, 0, 30, 9))), (Relation(0, "left of", 1),))
    found = written(loaded, of=sample(lone), blocks_per_text=2, mirrored=1.0, foils_per_text=1)
    texts = [text_of(loaded, t).replace(" ", "") for t in (found.texts[0], found.mirrored.texts[0], found.foils[0][0])]
    assert all("theblock0hasacat" in text for text in (texts[0], texts[2]))
    assert "theblock2hasacat" in texts[1]
    assert "theblock0hasadog" in texts[1]


def test_mistakes_are_told(loaded):
    wrong = [stream("captions", "x", mirrored=0.5), stream("graphs", "x", mirrored=1.5)]
    wrong += [stream("regions", "x", blocks_per_text=1), stream("graphs", "x", blocks_per_text=-1)]
    wrong += [stream("graphs", "x", foil_synonyms="words"), stream("captions", "x", foil_tagger="spacey")]
    wrong += [stream("captions", "x", confidence_weights=True), stream("regions", "x", min_confidence=0.3)]
    told = "\n".join(checks.settings({str(i): s for i, s in enumerate(wrong)}, 1))
    assert "mirrored=0.5 is for graphs: its kind is captions" in told
    assert "mirrored=1.5 must be a probability" in told
    assert "confidence_weights=True is for graphs: its kind is captions; leave it out" in told
    assert "min_confidence=0.3 is for graphs: its kind is regions; leave it out" in told
    assert "blocks_per_text=1 is for captions and graphs: its kind is regions; leave it out" in told
    assert "blocks_per_text=-1 must not be negative" in told
    assert "synonyms must be auto, table or wordnet, got 'words'" in told
    assert "no tagger 'spacey'; choose from lexicon, spacy; did you mean 'spacy'?" in told
