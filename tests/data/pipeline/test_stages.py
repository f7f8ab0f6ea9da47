import io
import json

import numpy as np
import pytest
from PIL import Image

from relpretrain.data.pipeline.collate import TextWriter
from relpretrain.data.pipeline.stages import Decode, Pipeline, Work
from relpretrain.data.pipeline.text import TextEncoder, load_tokenizer
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.errors import BadSample
from tests.data.shards.test_row_index import write_tar
from tests.data.small import picture, record, stream, tokenizer


def _pipeline(tmp_path, kind, **options):
    of = stream(kind, "unused", **options)
    return Pipeline(of, 16, TextWriter(of, TextEncoder(load_tokenizer(tokenizer(tmp_path)), of.max_tokens)))


def _work(tmp_path, image, content):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    shard = write_tar(tmp_path / "a.tar", [("k.png", image), ("k.json", text)])
    return Work("data", ShardIndex.of(shard), 0, np.random.default_rng(0))


def _graph(**changes):
    return {**record(), **changes}


@pytest.mark.parametrize("kind", ["captions", "regions", "graphs"])
def test_good_sample_passes_every_stage(tmp_path, kind):
    pipeline = _pipeline(tmp_path, kind)
    assert [name for name, _ in pipeline.stages] == ["read", "parse", "decode", "check", "augment", "text"]
    example, lost = pipeline(_work(tmp_path, picture(), record()))
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
    assert _pipeline(tmp_path, "graphs")(_work(tmp_path, image, content)) == (None, [reason])


def test_graph_does_not_matter_to_captions(tmp_path):
    work = _work(tmp_path, picture(), _graph(relations=[{"subject": 0}]))
    assert _pipeline(tmp_path, "captions")(work)[0] is not None


def test_decompression_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    pipeline = _pipeline(tmp_path, "captions")
    assert pipeline(_work(tmp_path, picture(), record())) == (None, ["decompression_bomb"])  # above it
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert pipeline(_work(tmp_path, picture(), record())) == (None, ["decompression_bomb"])  # and above twice of it


def test_limit_too_short_for_a_graph(tmp_path):
    assert _pipeline(tmp_path, "graphs", max_tokens=4)(_work(tmp_path, picture(), record())) == (
        None,
        ["no_triplet_fits"],
    )


def test_parts_that_a_crop_cut_away_are_noted(tmp_path):
    pipeline = _pipeline(tmp_path, "graphs", min_scale=0.1)
    lost = set()
    for seed in range(40):
        work = _work(tmp_path, picture(), record())
        work.rng = np.random.default_rng(seed)
        example, reasons = pipeline(work)
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
    work = _work(tmp_path, buffer.getvalue(), content)
    pipeline = _pipeline(tmp_path, "graphs", min_scale=1.0, flip=0.0, color=False)
    example, _ = pipeline(work)
    assert work.image.size == (80, 60)  # an eighth, the most that JPEG offers, is enough for 16 pixels
    boxes = {entity.box for entity in example.entities}
    assert boxes == {(0.3, 0.3, 0.4, 0.4), (0.5, 0.5, 1.0, 1.0)}


@pytest.mark.parametrize("min_scale", [1.0, 0.5, 0.05])
def test_no_crop_needs_enlarging(tmp_path, min_scale):
    decode = Decode(16, min_scale)
    work = _work(tmp_path, picture(size=(640, 100), format="JPEG"), record())
    work.raw = work.index.read(0)
    decode(work)
    shortest = min(work.image.height, np.sqrt(0.75 * min_scale * work.image.width * work.image.height))
    assert shortest >= min(16, 100)


def test_reading_fails_loudly(tmp_path):
    work = _work(tmp_path, picture(), record())
    (tmp_path / "a.tar").write_bytes(b"")
    with pytest.raises(OSError, match="changed during the run"):
        _pipeline(tmp_path, "captions")(work)


def test_bad_sample_survives_pickling():
    import pickle

    error = pickle.loads(pickle.dumps(BadSample("reason", "detail")))
    assert (error.reason, error.detail) == ("reason", "detail")
