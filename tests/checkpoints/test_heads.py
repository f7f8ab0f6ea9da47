"""Relation heads in the files of other codebases: known by the fingerprint of their relations."""

import pytest
import torch

from relpretrain.backbones import ALBEF
from relpretrain.checkpoints.heads import stored_heads
from relpretrain.objectives import MRC
from relpretrain.scene_graph import RelationVocabulary

OWN = RelationVocabulary(("on", "under", "in"))


@pytest.fixture(scope="module")
def backbone():
    return ALBEF(size="tiny", image_size=32, vocab_size=50)


def file_of(vocabulary, backbone, **options):
    mrc = MRC(vocabulary, **options)
    mrc.attach(backbone)
    return mrc, {f"mrc.{key}": value for key, value in mrc.state_dict().items()}


def test_a_bundled_vocabulary_is_recognised(backbone):
    mrc, state = file_of("gqa", backbone, hidden=24)
    heads, notes = stored_heads(state, backbone)
    assert heads["mrc"].vocabulary.names == mrc.vocabulary.names
    assert all(torch.equal(value, mrc.state_dict()[key]) for key, value in heads["mrc"].state_dict().items())
    assert notes == ["relation_objectives.mrc: loaded, a head of 310 relations"]


def test_relations_of_your_own_must_be_given(backbone):
    mrc, state = file_of(OWN, backbone)
    heads, notes = stored_heads(state, backbone)
    assert heads == {}
    assert "left aside, a head of 3 relations that are no bundled vocabulary" in notes[0]
    heads, _ = stored_heads(state, backbone, OWN)
    assert torch.equal(heads["mrc"].head[2].weight, mrc.head[2].weight)
    with pytest.raises(ValueError, match=r"tells 3 relations apart, which are not the 2 of the given vocabulary"):
        stored_heads(state, backbone, RelationVocabulary(("on", "under")))
    with pytest.raises(ValueError, match="the file has no relation head"):
        stored_heads({}, backbone, OWN)


def test_other_objectives_are_left_aside_and_named(backbone):
    heads, notes = stored_heads({"mine.scale": torch.ones(1)}, backbone)
    assert heads == {}
    assert notes == ["relation_objectives.mine: left aside, an objective of another codebase"]


def test_a_head_of_another_width_is_told_in_one_line(backbone):
    _, state = file_of(OWN, ALBEF(size="tiny", image_size=32, vocab_size=50, text_width=32, vision_width=32))
    with pytest.raises(ValueError, match="does not fit the model") as caught:
        stored_heads(state, backbone, OWN)
    assert "\n" not in str(caught.value)
