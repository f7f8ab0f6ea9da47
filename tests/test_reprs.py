"""What is shown of batches and models: one line, without numbers by the thousand."""

from types import SimpleNamespace

import pytest
import torch

from relpretrain.checkpoints.checkpoint import Loaded
from relpretrain.errors import counted, singular
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.types import CaptionBatch, Pairs, TextBatch


def test_a_batch_is_shown_by_its_shapes():
    pairs = Pairs(TextBatch(torch.zeros(3, 7), torch.ones(3, 7)), torch.zeros(3), torch.zeros(3))
    batch = CaptionBatch(images=torch.zeros(2, 3, 32, 32), image_ids=torch.zeros(2), pairs=pairs, keys=("k",) * 20)
    text = "TextBatch(input_ids=(3, 7), attention_mask=(3, 7))"
    pairs = f"Pairs(text={text}, image_index=(3,), text_keys=(3,))"
    expected = f"CaptionBatch(images=(2, 3, 32, 32), image_ids=(2,), pairs={pairs}, step=0, keys=<20>)"
    assert repr(batch) == expected


def test_a_loaded_model_is_one_line():
    preprocess = SimpleNamespace(image_size=32, max_tokens=40)
    loaded = Loaded(torch.nn.Linear(10, 200), preprocess, {"itc": None}, RelationVocabulary(["on", "in"]))
    said = "Linear, 2,200 parameters; images of 32 pixels, texts of up to 40 tokens; objectives: itc; 2 relations"
    assert repr(loaded) == str(loaded) == f"Loaded({said})"


@pytest.mark.parametrize(("number", "text"), [(0, "0 shards"), (1, "1 shard"), (2, "2 shards"), (1234, "1,234 shards")])
def test_numbers_agree_with_their_nouns(number, text):
    assert counted(number, "shard") == text
    assert counted(1, "batch", "batches") == "1 batch"
    assert [singular(names) for names in ("shards", "entities", "bad samples")] == ["shard", "entity", "bad sample"]
