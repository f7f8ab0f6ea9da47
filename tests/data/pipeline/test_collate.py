import numpy as np
import pytest
import torch
from PIL import Image

from relpretrain.data.pipeline.collate import collate
from relpretrain.data.pipeline.sample import Sample
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.text_writer import TextWriter
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.errors import BadSample
from relpretrain.scene_graph import RelationVocabulary, SceneGraph
from relpretrain.types import CaptionBatch, GraphBatch, RegionBatch
from tests.data.small import record, stream, tokenizer


@pytest.fixture
def write(tmp_path):
    loaded = load_tokenizer(tokenizer(tmp_path))

    def examples(kind, count=3, vocabulary=None, captioned=lambda i: True, **options):
        of = stream(kind, "unused", **options)
        writer = TextWriter(of, TextEncoder(loaded, of.max_tokens), vocabulary=vocabulary)
        made = []
        for i in range(count):
            content = record(i)
            captions, graph = content["captions"] * captioned(i), SceneGraph.from_json(content, 40, 30)
            sample = Sample(f"d/s/{i}", torch.zeros(3, 30, 40, dtype=torch.uint8), str(i), "small", captions, graph)
            made.append(writer(torch.full((3, 30, 40), float(i)), sample, np.random.default_rng(i)))
        return made, loaded

    return examples


def _texts(pairs, loaded):
    return [loaded.decode(ids[mask]) for ids, mask in zip(pairs.text.input_ids, pairs.text.attention_mask, strict=True)]


def test_captions(write):
    examples, loaded = write("captions", 20)
    batch = collate("captions", examples, loaded.pad_token_id, stream="x", step=7)
    assert isinstance(batch, CaptionBatch)
    assert (batch.stream, batch.step, batch.keys[3]) == ("x", 7, "d/s/3")
    assert batch.images[:, 0, 0, 0].tolist() == list(range(20))
    assert batch.pairs.image_index.tolist() == list(range(20))
    texts = _texts(batch.pairs, loaded)
    assert set(texts) == {"[CLS] a red cat sits beside the dog [SEP]", "[CLS] the dog on a tree [SEP]"}
    same = torch.tensor([[a == b for b in texts] for a in texts])
    assert torch.equal(batch.pairs.text_keys[:, None] == batch.pairs.text_keys, same)
    assert len(set(batch.image_ids.tolist())) == 20
    masked = batch.pairs.text.labels >= 0
    assert masked.any(1).all()
    assert torch.equal(batch.pairs.text.labels[masked], batch.pairs.text.input_ids[masked])
    assert batch.pairs.boxes is None


def test_captions_are_drawn_by_their_weights(tmp_path):
    loaded = load_tokenizer(tokenizer(tmp_path))
    of = stream("captions", "unused")
    writer = TextWriter(of, TextEncoder(loaded, of.max_tokens))
    texts = ["a red cat", "the dog", "a tree"]

    def drawn(weights, seeds=600):
        sample = Sample(
            "d/s/0", torch.zeros(3, 30, 40, dtype=torch.uint8), "0", captions=texts, caption_weights=weights
        )
        made = [writer(torch.zeros(3, 30, 40), sample, np.random.default_rng(seed)) for seed in range(seeds)]
        ids = [tuple(example.texts[0].tokens.ids) for example in made]
        return [ids.count(tuple(writer.encoder.caption(text).ids)) / seeds for text in texts]

    assert drawn([6.0, 0.0, 2.0]) == pytest.approx([0.75, 0, 0.25], abs=0.06)
    # without weights the draws are those of before weights were
    expected = [int(np.random.default_rng(seed).integers(3)) for seed in range(50)]
    assert drawn(None, 50) == [expected.count(place) / 50 for place in range(3)]


def test_regions(write):
    examples, loaded = write("regions", 8, entities_per_image=2)
    batch = collate("regions", examples, loaded.pad_token_id)
    assert isinstance(batch, RegionBatch)
    assert batch.pairs.image_index.tolist() == [i for i in range(8) for _ in range(2)]
    expected = {
        "[CLS] red cat [SEP]": (8 / 40, 11 / 30, 14 / 40, 18 / 30),
        "[CLS] dog [SEP]": (28 / 40, 16 / 30, 20 / 40, 24 / 30),
        "[CLS] small tree [SEP]": (17.5 / 40, 19.5 / 30, 25 / 40, 19 / 30),
        "[CLS] green tree [SEP]": (17.5 / 40, 19.5 / 30, 25 / 40, 19 / 30),
    }
    texts = _texts(batch.pairs, loaded)
    assert set(texts) == set(expected)
    assert torch.allclose(batch.pairs.boxes, torch.tensor([expected[text] for text in texts]))


def test_image_rows(write):
    """Row by row: a caption with the whole image where there is one, then different entities."""
    examples, loaded = write("regions", 40, captioned=lambda i: i % 4 != 3, entities_per_image=3, image_rows=True)
    batch = collate("regions", examples, loaded.pad_token_id)
    boxes = {
        "red cat": (8 / 40, 11 / 30, 14 / 40, 18 / 30),
        "dog": (28 / 40, 16 / 30, 20 / 40, 24 / 30),
        "tree": (17.5 / 40, 19.5 / 30, 25 / 40, 19 / 30),
    }
    row, seen = 0, set()
    texts = [text.removeprefix("[CLS] ").removesuffix(" [SEP]") for text in _texts(batch.pairs, loaded)]
    for image in range(40):
        left = set(boxes)
        for place in range(3):
            text, box = texts[row], batch.pairs.boxes[row].tolist()
            caption = place == 0 and image % 4 != 3
            assert batch.pairs.image_index[row] == image
            assert bool(batch.pairs.whole[row]) is caption
            if caption:
                assert text in record()["captions"]
                assert box == [0.5, 0.5, 1, 1]
            else:
                name = text if text in boxes else text.split()[1]
                assert box == pytest.approx(boxes[name])
                left.remove(name)
            seen.add(text)
            row += 1
    assert row == len(batch.pairs) == len(batch.pairs.whole)
    assert seen == {*record()["captions"], "red cat", "dog", "small tree", "green tree"}


@pytest.mark.parametrize("image_rows", [True, False])
def test_no_captions_no_image_rows(write, image_rows):
    """And without `image_rows` captions change nothing."""
    plain, loaded = write("regions", 8, captioned=lambda i: False, entities_per_image=2)
    other, _ = write("regions", 8, captioned=lambda i: not image_rows, entities_per_image=2, image_rows=image_rows)
    for a, b in zip(plain, other, strict=True):
        assert torch.equal(a.image, b.image)
        assert (a.texts, a.image_id) == (b.texts, b.image_id)
    assert collate("regions", other, loaded.pad_token_id).pairs.whole is None


def test_a_caption_alone_is_no_region_sample(write):
    _, loaded = write("captions", 1)
    of = stream("regions", "unused", image_rows=True)
    sample = Sample("d/s/0", Image.new("RGB", (40, 30)), "0", "small", ["a red cat"])
    with pytest.raises(BadSample, match="no_entity"):
        TextWriter(of, TextEncoder(loaded, 36))(torch.zeros(3, 30, 40), sample, np.random.default_rng(0))


def test_graphs(write):
    examples, loaded = write("graphs", 6, relations_per_text=3, relations_per_image=2)
    batch = collate("graphs", examples, loaded.pad_token_id)
    assert isinstance(batch, GraphBatch)
    assert set(_texts(batch.pairs, loaded)) == {"[CLS] cat beside dog [SEP] dog on tree [SEP] tree under cat [SEP]"}
    assert len(set(batch.pairs.text_keys.tolist())) == 1  # whatever the order
    assert len(batch.relations) == 12
    assert batch.entities.text.masked_input_ids is None
    assert len(batch.entities) == 18  # two triplets of this graph share an entity, which has one row
    words = [text.split()[1] for text in _texts(batch.entities, loaded)]
    true = {("cat", "beside", "dog"), ("dog", "on", "tree"), ("tree", "under", "cat")}
    images = batch.entities.image_index
    for s, relation, o in zip(batch.subjects, batch.relations, batch.objects, strict=True):
        assert (words[s], relation, words[o]) in true
        assert images[s] == images[o]
    assert torch.allclose(batch.entities.boxes[words.index("dog")], torch.tensor((28 / 40, 16 / 30, 20 / 40, 24 / 30)))


def test_all_pairs_of_some_boxes(write):
    """For a tagger: every ordered pair, those without a relation under an empty name."""
    examples, loaded = write("graphs", 6, boxes_per_image=3)
    batch = collate("graphs", examples, loaded.pad_token_id)
    words = [text.split()[1] for text in _texts(batch.entities, loaded)]
    ends = zip(batch.subjects.tolist(), batch.relations, batch.objects.tolist(), strict=True)
    found = [(words[s], relation, words[o]) for s, relation, o in ends]
    true = {("cat", "beside", "dog"), ("dog", "on", "tree"), ("tree", "under", "cat")}
    false = {("dog", "", "cat"), ("tree", "", "dog"), ("cat", "", "tree")}
    assert len(found) == 36
    assert set(found) == true | false
    images = batch.entities.image_index
    assert torch.equal(images[batch.subjects], images[batch.objects])


def test_triplets_stay_in_the_vocabulary(write):
    examples, loaded = write("graphs", 6, vocabulary=RelationVocabulary(["on"]), relations_per_image=2)
    assert collate("graphs", examples, loaded.pad_token_id).relations == ("on",) * 6
    examples, loaded = write("graphs", 2, vocabulary=RelationVocabulary(["near"]))
    batch = collate("graphs", examples, loaded.pad_token_id)
    assert (len(batch.entities), batch.relations, batch.entities.boxes.shape) == (0, (), (0, 4))
    assert len(batch.pairs) == 2


def test_tight_limit_keeps_whole_triplets(write):
    examples, loaded = write("graphs", 4, max_tokens=9, relations_per_text=3)
    for text in _texts(collate("graphs", examples, loaded.pad_token_id).pairs, loaded):
        triplets = text.removeprefix("[CLS] ").removesuffix(" [SEP]").split(" [SEP] ")
        assert set(triplets) < {"cat beside dog", "dog on tree", "tree under cat"}
        assert len(triplets) == 2


def _identity(loaded, kind, text, clean=False, max_tokens=36):
    """The number of a text that stands as a caption, as the label of a region, or as the subject of a triplet."""
    of = stream(kind, "unused", max_tokens=max_tokens)
    content = {
        "entities": [{"label": text, "box": [1, 2, 15, 20]}, {"label": "tree", "box": [5, 10, 30, 29]}],
        "relations": [{"subject": 0, "relation": "on", "object": 1}],
    }
    sample = Sample("d/s/0", Image.new("RGB", (40, 30)), "0", "small", [text], SceneGraph.from_json(content, 40, 30))
    writer = TextWriter(of, TextEncoder(loaded, max_tokens, clean=clean))
    example = writer(torch.zeros(3, 30, 40), sample, np.random.default_rng(0))
    return next(t.identity for t in example.texts if t.box is None or t.box[0] == 8 / 40)


@pytest.mark.parametrize("kind", ["captions", "regions", "graphs"])
def test_texts_are_the_same_where_the_model_sees_the_same(write, kind):
    loaded = write("captions", 1)[1]

    def same(first, second, **options):
        return _identity(loaded, kind, first, **options) == _identity(loaded, kind, second, **options)

    assert same("a red cat", "A  Red cat")  # the tokenizer's lower case and white space
    assert same("a red cat!", "a red-cat", clean=True)
    assert not same("a red cat!", "a red-cat")
    assert same("a \u4e2d cat", "a \u6587 cat")  # two unknown words
    assert not same("a red cat", "a blue cat")
    if kind != "graphs":  # whose triplets are never cut
        assert same("a red cat", "a red dog", max_tokens=4)
        assert not same("a red cat", "a red dog", max_tokens=5)


@pytest.mark.parametrize(("subject", "object_"), [("cat", "dog"), ("Cat", "dog"), ("cat", "Dog"), ("'cat'", "dog")])
def test_graphs_are_the_same_where_their_triplets_say_the_same(write, subject, object_):
    loaded = write("captions", 1)[1]

    def identity(first, relation, second):
        entities = [{"label": label, "box": [1, 2, 15, 20]} for label in (first, second)]
        content = {"entities": entities, "relations": [{"subject": 0, "relation": relation, "object": 1}]}
        sample = Sample("d/s/0", Image.new("RGB", (40, 30)), "0", "small", [], SceneGraph.from_json(content, 40, 30))
        writer = TextWriter(stream("graphs", "unused"), TextEncoder(loaded, 36, clean=True))
        return writer(torch.zeros(3, 30, 40), sample, np.random.default_rng(0)).texts[0].identity

    assert identity(subject, "Left of", object_) == identity("dog", "right of", "cat")
    assert identity(subject, "Above", object_) == identity("dog", "below", "cat")
    assert identity(subject, "left of", object_) != identity("cat", "right of", "dog")
