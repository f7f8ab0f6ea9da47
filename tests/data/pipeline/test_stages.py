import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from relpretrain.data.pipeline.images import CLIP_NORMALISATION, decode
from relpretrain.data.pipeline.stages import Pipeline, check, parse
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.text_writer import TextWriter
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.errors import BadSample
from tests.data.shards.test_row_index import write_tar
from tests.data.small import picture, record, stream, tokenizer


def _pipeline(tmp_path, kind, **options):
    of = stream(kind, "unused", **options)
    return Pipeline(of, 16, TextWriter(of, TextEncoder(load_tokenizer(tokenizer(tmp_path)), of.max_tokens)))


def _shard(tmp_path, image, content):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return ShardIndex.of(write_tar(tmp_path / "a.tar", [("k.png", image), ("k.json", text)]))


def _made(pipeline, index, seed=0):
    """What a pipeline makes of the only sample of a shard."""
    return pipeline("data", index, 0, np.random.default_rng(seed))


def _graph(**changes):
    return {**record(), **changes}


@pytest.mark.parametrize("kind", ["captions", "regions", "graphs"])
def test_good_sample_becomes_an_example(tmp_path, kind):
    example, lost = _made(_pipeline(tmp_path, kind), _shard(tmp_path, picture(), record()))
    assert example is not None
    assert example.image.shape == (3, 16, 16)
    assert example.key == "data/a/k"
    assert all(reason.startswith("part: ") for reason in lost)


@pytest.mark.parametrize(
    ("image", "content", "reason"),
    [
        (picture(format="JPEG", size=(400, 300))[:3000], _graph(), "truncated_image"),
        (picture()[:800], _graph(), "truncated_image"),
        (b"no image", _graph(), "not_an_image"),
        (b"", _graph(), "not_an_image"),
        (picture(size=(41, 30)), _graph(), "size_differs"),
        (picture(), _graph(entities=[{"label": "x", "box": [0, 0, 400, 10]}] * 3), "box_outside_image"),
        (picture(), _graph(entities=[{"label": "x", "box": [9, 9, 3, 3]}] * 3), "empty_box"),
        (picture(), _graph(relations=[{"subject": 0, "relation": "on", "object": 7}]), "relation_without_entity"),
        (picture(), _graph(relations=[{"subject": 0, "object": 1}]), "malformed_relation"),
    ],
)
def test_bad_sample_is_named_by_its_reason(tmp_path, image, content, reason):
    assert _made(_pipeline(tmp_path, "graphs"), _shard(tmp_path, image, content)) == (None, [reason])


def test_weights_of_captions_matter_where_captions_are_drawn(tmp_path):
    index = _shard(tmp_path, picture(), _graph(caption_weights=[1]))  # of two captions
    assert _made(_pipeline(tmp_path, "captions"), index) == (None, ["malformed_caption_weights"])
    assert _made(_pipeline(tmp_path, "graphs"), index)[0] is not None


def test_graph_does_not_matter_to_captions(tmp_path):
    index = _shard(tmp_path, picture(), _graph(relations=[{"subject": 0}]))
    assert _made(_pipeline(tmp_path, "captions"), index)[0] is not None


def test_decompression_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    pipeline, index = _pipeline(tmp_path, "captions"), _shard(tmp_path, picture(), record())
    assert _made(pipeline, index) == (None, ["decompression_bomb"])  # above it
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert _made(pipeline, index) == (None, ["decompression_bomb"])  # and above twice of it


def test_limit_too_short_for_a_graph(tmp_path):
    pipeline = _pipeline(tmp_path, "graphs", max_tokens=4)
    assert _made(pipeline, _shard(tmp_path, picture(), record())) == (None, ["no_triplet_fits"])


def test_parts_that_a_crop_cut_away_are_noted(tmp_path):
    pipeline, index = _pipeline(tmp_path, "graphs", min_scale=0.1), _shard(tmp_path, picture(), record())
    lost = set()
    for seed in range(40):
        example, reasons = _made(pipeline, index, seed)
        assert example is not None
        assert example.triplets
        lost.update(reasons)
    assert "part: entity_cropped" in lost


def test_large_jpeg_is_decoded_small_and_its_graph_follows(tmp_path):
    size = (640, 480)
    content = {
        **record(size=size),
        "entities": [{"label": "x", "box": [64, 48, 320, 240]}, {"label": "y", "box": [0, 0, 640, 480]}],
    }
    content["relations"] = [{"subject": 0, "relation": "on", "object": 1}]
    smooth = Image.linear_gradient("L").convert("RGB").resize(size)
    buffer = io.BytesIO()
    smooth.save(buffer, "JPEG", quality=95)
    assert decode(buffer.getvalue(), 16).image.shape == (3, 60, 80)  # an eighth, the most that JPEG offers, is enough
    pipeline = _pipeline(tmp_path, "graphs", min_scale=1.0, flip=0.0, color=False)
    example, _ = _made(pipeline, _shard(tmp_path, buffer.getvalue(), content))
    boxes = {entity.box for entity in example.entities}
    assert boxes == {(0.3, 0.3, 0.4, 0.4), (0.5, 0.5, 1.0, 1.0)}


@pytest.mark.parametrize("min_scale", [1.0, 0.5, 0.05])
def test_no_crop_needs_enlarging(min_scale):
    image = decode(picture(size=(640, 100), format="JPEG"), 16, min_scale).image
    _, height, width = image.shape
    shortest = min(height, np.sqrt(0.75 * min_scale * width * height))
    assert shortest >= min(16, 100)


def test_reading_fails_loudly(tmp_path):
    index = _shard(tmp_path, picture(), record())
    (tmp_path / "a.tar").write_bytes(b"")
    with pytest.raises(OSError, match="changed during the run"):
        _made(_pipeline(tmp_path, "captions"), index)


def test_texts_name_their_entities_after_crops_and_flips(tmp_path):
    """Two entities that read alike and lie in one place are told apart by their ids."""
    content = record()
    content["entities"].insert(1, content["entities"][0])
    for relation in content["relations"]:
        relation.update({end: relation[end] + (relation[end] > 0) for end in ("subject", "object")})
    content["relations"] += [{"subject": 1, "relation": "near", "object": 2}]
    labels = [entity["label"] for entity in content["entities"]]
    pipeline = _pipeline(tmp_path, "graphs", min_scale=0.2, relations_per_image=4)
    index, loaded, named, left = _shard(tmp_path, picture(), content), pipeline.writer.encoder.tokenizer, set(), set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        raw = index.read(0)
        augmented = pipeline.augment(parse(raw, "data", index), decode(raw.image, 16, 0.2), rng)
        boxes = {entity.id: entity.box.relative(16, 16) for entity in augmented.sample.graph.entities}
        left.add(tuple(boxes))
        for text in pipeline.write(augmented, rng).entities:
            assert loaded.decode(text.tokens.ids[1:-1]) == labels[text.entity]
            assert text.box == boxes[text.entity]
            named.add(text.entity)
    assert named == {0, 1, 2, 3}
    assert len(left) > 1


def test_a_graph_in_an_image_decoded_small_keeps_its_ids(tmp_path):
    image = picture(size=(640, 480), format="JPEG")
    content = {**record(size=(640, 480)), "relations": []}
    index = _shard(tmp_path, image, content)
    small = decode(image, 16)
    graph = check(parse(index.read(0), "data", index), small, "regions").graph
    assert small.image.shape == (3, 60, 80)
    assert [entity.id for entity in graph.entities] == [0, 1, 2]


def test_a_host_sees_the_augmented_pixels(tmp_path):
    """Whatever makes the model's input, the rest of an example stays the same."""
    plain = _pipeline(tmp_path, "regions")
    index, seen = _shard(tmp_path, picture(), record()), []
    other = Pipeline(plain.stream, 16, plain.writer, host=lambda pixels: seen.append(pixels) or torch.zeros(3, 16, 16))
    one, two = (_made(pipeline, index, 3)[0] for pipeline in (plain, other))
    assert plain.normalisation == CLIP_NORMALISATION
    assert other.normalisation is None
    assert one.image.dtype == torch.uint8
    assert torch.equal(one.image, *seen)
    assert not two.image.any()
    assert (one.texts, one.lost) == (two.texts, two.lost)


def test_bad_sample_survives_pickling():
    import pickle

    error = pickle.loads(pickle.dumps(BadSample("reason", "detail")))
    assert (error.reason, error.detail) == ("reason", "detail")
