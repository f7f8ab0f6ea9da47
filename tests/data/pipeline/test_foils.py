"""Foils in batches: made where a stream wants them, the same for a sample whoever reads it, and false."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch

from relpretrain.data.pipeline.collate import collate
from relpretrain.data.pipeline.sample import Sample
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.text_writer import TextWriter
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.data.pipeline.transforms import augment
from relpretrain.data.sampling.stream import Stream, with_defaults
from relpretrain.objectives import VSG, TextFoil
from relpretrain.scene_graph import Box, Entity, Relation, SceneGraph
from relpretrain.scene_graph.foils import KINDS
from tests.data.small import tokenizer

GRAPH = SceneGraph(
    (Entity("red cat", Box(0, 0, 10, 10)), Entity("sofa", Box(0, 10, 30, 30)), Entity("dog", Box(20, 0, 30, 10))),
    (Relation(0, "on", 1), Relation(0, "left of", 2)),
)
CAPTION = "a red cat is sitting on a sofa"


@pytest.fixture
def loaded(tmp_path):
    return load_tokenizer(tokenizer(tmp_path))


def sample(graph=GRAPH, captions=(CAPTION,), key="a"):
    return Sample(f"d/s/{key}", torch.zeros(3, 30, 30, dtype=torch.uint8), key, "small", list(captions), graph)


def written(loaded, kind, of=None, seed=0, **options):
    stream = Stream(kind, {"data": "unused"}, 2, **options)
    writer = TextWriter(stream, TextEncoder(loaded, stream.max_tokens))
    return writer(torch.zeros(3, 30, 30), of or sample(), np.random.default_rng(seed))


def test_what_objectives_ask_for():
    stream = Stream("graphs", {"data": "unused"}, 2, objectives=["vsg", "foils"])
    objectives = {"vsg": VSG(), "foils": TextFoil(kinds=["swap_so"], foils_per_text=3)}
    filled = with_defaults(stream, objectives)
    assert (filled.foils_per_text, filled.foil_kinds) == (3, ["swap_so"])
    assert with_defaults(dataclasses.replace(stream, foils_per_text=0), objectives).foils_per_text == 0
    assert with_defaults(dataclasses.replace(stream, objectives=["vsg"]), objectives).foils_per_text == 0


@pytest.mark.parametrize("kind", ["captions", "graphs"])
def test_other_texts_are_drawn_as_without_foils(loaded, kind):
    plain, more = written(loaded, kind), written(loaded, kind, foils_per_text=2)
    assert plain.foils is None
    assert [text.tokens for text in plain.texts] == [text.tokens for text in more.texts]
    assert len(more.foils) == 2


@pytest.mark.parametrize("kind", ["captions", "graphs"])
def test_foils_differ_from_their_text_and_are_of_different_kinds(loaded, kind):
    for seed in range(10):
        found = written(loaded, kind, seed=seed, foils_per_text=4)
        kinds = [kind for _, _, kind in found.foils]
        assert len(set(kinds)) == len(kinds)
        assert 2 <= len(kinds) <= 4
        assert found.texts[0].identity not in {text.identity for text, _, _ in found.foils}


def test_equal_seeds_give_equal_foils(loaded):
    one, same, other = (written(loaded, "graphs", seed=seed, foils_per_text=3) for seed in (4, 4, 5))
    assert [text.tokens for text, _, _ in one.foils] == [text.tokens for text, _, _ in same.foils]
    assert [text.tokens for text, _, _ in one.foils] != [text.tokens for text, _, _ in other.foils]


def test_a_batch_holds_the_foils_of_its_rows(loaded):
    lone = SceneGraph((Entity("cat", Box(0, 0, 9, 9)), Entity("cat", Box(9, 9, 20, 20))), (Relation(0, "near", 1),))
    options = {"foils_per_text": 2, "foil_kinds": ["swap_so", "rel_replace"]}
    examples = [written(loaded, "graphs", of, **options) for of in (sample(), sample(lone, key="b"), sample(key="c"))]
    batch = collate("graphs", examples, loaded.pad_token_id)
    foils = batch.foils
    assert foils.of.tolist() == [0] * len(examples[0].foils) + [1] * len(examples[1].foils) + [2] * len(
        examples[2].foils
    )
    assert foils.pairs.image_index.tolist() == foils.of.tolist()
    assert all(foils.slot[foils.of == row].tolist() == list(range(int((foils.of == row).sum()))) for row in range(3))
    assert {KINDS[k] for k in foils.kinds.tolist()} <= set(options["foil_kinds"])
    assert foils.width == int(foils.slot.max()) + 1


def test_a_batch_without_any_foil(loaded):
    lone = SceneGraph((Entity("cat", Box(0, 0, 9, 9)), Entity("cat", Box(9, 9, 20, 20))), (Relation(0, "near", 1),))
    found = written(loaded, "graphs", sample(lone), foils_per_text=1, foil_kinds=["swap_so"])
    batch = collate("graphs", [found, found], loaded.pad_token_id)
    assert len(batch.foils) == 0
    assert batch.foils.pairs.text.input_ids.shape[0] == 0


def test_a_foil_whose_difference_is_cut_off_is_none(loaded):
    """The same for one that the tokenizer reads as the text, and for two kinds that make one text."""
    long = f"{' '.join(['green'] * 40)} tree of the cat on a dog"
    assert written(loaded, "captions", sample(captions=[long]), foils_per_text=7, foil_kinds=["swap_so"]).foils == []
    short = sample(SceneGraph(), captions=["a dog sits on a cat"])
    for seed in range(6):
        found = written(loaded, "captions", short, seed, foils_per_text=2, foil_kinds=["swap_so", "swap"])
        assert len(found.foils) == len({tuple(text.tokens.ids) for text, _, _ in found.foils})
    assert len(written(loaded, "captions", short, foils_per_text=2, foil_kinds=["swap_so", "swap"]).foils) == 1


@pytest.mark.parametrize("kind", ["captions", "graphs"])
def test_what_is_cut_off_in_part_may_still_be_seen(loaded, kind):
    """A crop leaves a third of the dog: it is in no text, and no text that puts it there is called false."""
    options = {"foils_per_text": 1, "foil_kinds": ["obj_replace"], "units_per_image": 1, "foil_names": ["dog"]}
    stream = Stream(kind, {"data": "unused"}, 2, min_scale=0.5, flip=0.0, unit_kinds=["obj_replace"], **options)
    things = Entity("cat", Box(0, 0, 10, 10)), Entity("sofa", Box(0, 10, 30, 30)), Entity("dog", Box(15, 0, 30, 10))
    of = sample(SceneGraph(things, (Relation(0, "on", 1),)), captions=["a cat on a sofa"])
    seen = Counter()
    for seed in range(40):
        augmented = augment(of, 30, stream, np.random.default_rng(seed)).sample
        cut, left = (any(e.label == "dog" for e in of) for of in (augmented.cut, augmented.graph.entities))
        found = written(loaded, kind, augmented, seed, unit_kinds=["obj_replace"], **options)
        made = [*found.foils, *(foil for _, foil in found.units if foil is not None)]
        seen[cut, left, bool(made)] += 1
    assert (
        {(True, False, False), (False, True, False)}
        <= seen.keys()
        <= {
            (True, False, False),
            (False, True, False),
            (False, False, True),
        }
    ), seen


def test_units_that_read_alike_are_one(loaded):
    """A sum over an image's texts would count a copy twice (MosaiCLIP's denominator)."""
    of = sample(SceneGraph(), captions=["A red cat. a RED cat.", "a dog on a tree"])
    found = written(loaded, "captions", of, units_per_image=5)
    assert len(found.units) == len({text.identity for text, _ in found.units}) == 2


def test_units_and_foils_have_one_identity_from_whichever_side_they_are_told(loaded):
    options = {"units_per_image": 1, "unit_kinds": ["rel_replace"], "foils_per_text": 1, "foil_kinds": ["rel_replace"]}
    sides = [Relation(0, "left of", 2), Relation(2, "right of", 0)]
    found = [written(loaded, "graphs", sample(SceneGraph(GRAPH.entities, (side,))), **options) for side in sides]
    one, other = ((*example.units[0], example.foils[0][0], example.texts[0]) for example in found)
    assert [text.identity for text in one] == [text.identity for text in other]
    assert one[0].tokens != other[0].tokens
    assert one[0].identity == one[3].identity  # a text of a single triplet
    assert one[1].identity == one[2].identity != one[0].identity


@pytest.mark.parametrize("kind", ["captions", "graphs"])
def test_an_exchange_in_either_kind_of_stream(loaded, kind):
    found = written(loaded, kind, foils_per_text=3, foil_kinds=["swap"])
    assert [k for _, _, k in found.foils] == (["swap"] if kind == "captions" else ["swap_so"])


def test_captions_ask_the_graph_of_their_image_only_for_foils():
    plain = Stream("captions", {"data": "unused"}, 2)
    assert [plain.reads_graph, dataclasses.replace(plain, foils_per_text=1).reads_graph] == [False, True]


def test_names_of_the_data_take_the_place_of_things(loaded):
    options = {"foils_per_text": 1, "foil_kinds": ["subj_replace"], "foil_names": ["bird"]}
    found = written(loaded, "captions", **options)
    text = loaded.decode(found.foils[0][0].tokens.ids, skip_special_tokens=True)
    assert "bird" in text
