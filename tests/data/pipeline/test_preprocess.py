import json

import numpy as np
import pytest
import torch
from PIL import Image

from relpretrain.data.pipeline.images import to_tensor
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.data.pipeline.tokenizer import load_tokenizer, write_wordpiece

TEXTS = ["a red square left of a blue circle", "Squares, and a [MASK]!", ""]


@pytest.fixture
def preprocess(tmp_path):
    tokenizer = load_tokenizer(write_wordpiece(["red square", "blue circle", "left of", "a"], tmp_path))
    return Preprocess(tokenizer, 16, max_tokens=9, separator=False)


def test_a_state_of_plain_types_rebuilds_it(preprocess):
    state = json.loads(json.dumps(preprocess.state()))
    twin = Preprocess.from_state(state)
    ours, theirs = preprocess.texts(TEXTS), twin.texts(TEXTS)
    assert torch.equal(ours.input_ids, theirs.input_ids)
    assert torch.equal(ours.attention_mask, theirs.attention_mask)
    assert twin.tokenizer.mask_token_id == preprocess.tokenizer.mask_token_id
    assert twin.state() == preprocess.state()
    assert (twin.image_size, twin.max_tokens, twin.separator) == (16, 9, False)


def test_berts_tokenizer_survives_the_state(realdata):
    preprocess = Preprocess(load_tokenizer(realdata / "bert"), 32)
    twin = Preprocess.from_state(preprocess.state())
    assert torch.equal(preprocess.texts(TEXTS).input_ids, twin.texts(TEXTS).input_ids)
    assert preprocess.texts(["umbrella"]).input_ids.tolist() == [[101, 12977, 102]]


def test_texts_end_without_separator_if_so_set(preprocess):
    batch = preprocess.texts(TEXTS)
    assert batch.input_ids.shape == (3, 9)
    assert preprocess.tokenizer.sep_token_id not in batch.input_ids
    assert batch.masked_input_ids is None
    assert batch.attention_mask.sum(1).tolist() == [9, 9, 1]


def test_images_of_any_size_and_mode_are_prepared(preprocess):
    rng = np.random.default_rng(0)
    wide = Image.fromarray(rng.integers(0, 256, (20, 50, 3), np.uint8))
    images = preprocess.images([wide, Image.new("L", (5, 9), 3)])
    assert images.shape == (2, 3, 16, 16)
    assert torch.equal(images[0], to_tensor(wide, 16))
    assert preprocess.images([]).shape == (0, 3, 16, 16)


def test_own_statistics_are_used_and_kept(preprocess):
    plain = Preprocess(preprocess.tokenizer, 4, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    twin = Preprocess.from_state(plain.state())
    assert twin.images([Image.new("RGB", (4, 4), (255, 255, 255))]).unique().tolist() == [1.0]


def test_a_state_of_something_else_is_refused(preprocess):
    state = preprocess.state()
    del state["tokenizer"]
    with pytest.raises(ValueError, match="lacks 'tokenizer'"):
        Preprocess.from_state(state)
