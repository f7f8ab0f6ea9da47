"""Foils, units, blocks and mirror images in streams: the same whoever makes them, and true of the augmented image."""

import pytest
import torch

from relpretrain.data import datamodule as module_file
from tests.data.datamodules import assert_equal, run
from tests.data.small import stream

MADE = {"foils_per_text": 2, "units_per_image": 2, "blocks_per_text": 1}


@pytest.fixture
def made(make):
    def data(**options):
        graphs = stream("graphs", make.shards, 4, objectives=["vsg"], mirrored=0.5, positions_per_text=4, **MADE)
        kinds = ["swap", "swap_so", "attr_replace", "order"]
        captions = stream("captions", make.shards, 4, foil_kinds=kinds, **MADE)
        return make({"graphs": graphs, "captions": captions}, **options)

    return data


def test_workers_change_nothing(made):
    for one, other in zip(run(made(), 8), run(made(num_workers=2), 8), strict=True):
        assert_equal(one, other)


def rows(batch, images):
    """By image: its texts, foils, units and foils of units, as their identities; mirror images by themselves."""
    index = {int(i): [] for i in batch.image_ids}
    for name, pairs in (
        ("text", batch.pairs),
        ("foil", batch.foils.pairs),
        ("unit", batch.units.pairs),
        ("false unit", batch.units.foils.pairs),
    ):
        for image, key in zip(pairs.image_index.tolist(), pairs.text_keys.tolist(), strict=True):
            index[int(batch.image_ids[image])].append((name, key))
    return images | index


def test_ranks_have_their_slices(made, monkeypatch):
    whole, parts = run(made(), 8), []
    for rank in (0, 1):
        monkeypatch.setattr(module_file, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(module_file, "world_size", lambda: 2)
        parts.append(run(made(), 8))
    mirror_images = 0
    for joint, left, right in zip(whole, *parts, strict=True):
        assert left.keys + right.keys == joint.keys
        assert rows(left, rows(right, {})) == rows(joint, {})
        mirror_images += len(joint) - len(joint.keys)
    assert mirror_images >= 2


def test_mirror_images_are_of_images_of_the_batch(made):
    for batch in run(made(), 8):
        mirrored = range(len(batch.keys), len(batch))
        assert len(batch.pairs) == len(batch)
        for one in mirrored:
            assert any(torch.equal(batch.images[one], image.flip(2)) for image in batch.images[: len(batch.keys)])


def test_captions_ask_the_graph_of_their_image(make):
    """Without it no caption could end with a block, nor be held against what is annotated."""
    data = make({"captions": stream("captions", make.shards, 4, blocks_per_text=1)})
    tokenizer = data._load_tokenizer()
    for batch in run(data, 2):
        for ids in batch.pairs.text.input_ids:
            text = tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "")
            assert "theblock" in text
            assert text.endswith(("cat.", "dog.", "tree."))
