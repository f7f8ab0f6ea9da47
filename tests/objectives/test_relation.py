import json

import pytest
import torch

from relpretrain.checkpoints.described import build, record
from relpretrain.features import Features
from relpretrain.objectives import MRC
from relpretrain.objectives.relation import class_weights
from relpretrain.scene_graph import RelationVocabulary
from tests.objectives.standin import WIDTH, StandIn, graphs

NAMES = ("on", "under", "left of")


@pytest.fixture
def mrc():
    objective = MRC(RelationVocabulary(NAMES))
    objective.attach(StandIn())
    return objective


def features(batch, model=None):
    return Features(model or StandIn(), batch, [batch.pairs, batch.entities])


def test_equals_a_loop_over_triplets(mrc):
    model, batch = StandIn(), graphs()
    view = features(batch, model).view(batch.entities)
    (image, mask), text, text_mask = view.image, view.text, batch.entities.text.attention_mask

    def alone(entity):
        row = slice(entity, entity + 1)
        return model.fuse(text[row], text_mask[row], image[row], mask[row])[0, 0]

    total, count = 0.0, 0
    for s, o, relation in zip(batch.subjects.tolist(), batch.objects.tolist(), batch.relations, strict=True):
        if relation in NAMES:
            logits = mrc.head(torch.cat([alone(s), alone(o)]))
            total -= float(logits.log_softmax(-1)[NAMES.index(relation)])
            count += 1
    output = mrc(features(batch, model))
    assert output.count == count == 2  # "unheard of" is outside the vocabulary
    assert float(output.parts["mrc"]) == pytest.approx(total / count, rel=1e-5)


def test_subject_and_object_are_not_the_same(mrc):
    batch = graphs(relations=("on",))
    first = mrc(features(batch)).loss
    batch.subjects, batch.objects = batch.objects, batch.subjects
    assert float(mrc(features(batch)).loss) != pytest.approx(float(first))


def test_each_entity_is_seen_alone(mrc):
    """Pixels outside both boxes change nothing."""
    batch = graphs(relations=("on",))
    batch.entities.boxes = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.75, 0.25, 0.5, 0.5]] * 2)
    before = float(mrc(features(batch)).loss)
    batch.images[0, :, 2:, :] += 5  # the lower half
    assert float(mrc(features(batch)).loss) == pytest.approx(before, rel=1e-6)
    batch.images[0, :, :2, :2] += 5  # the subject's quarter
    assert float(mrc(features(batch)).loss) != pytest.approx(before, rel=1e-4)


def test_without_masking_each_label_sees_the_whole_image():
    torch.manual_seed(0)
    whole = MRC(RelationVocabulary(NAMES), masked=False)
    whole.attach(StandIn())
    batch = graphs(relations=("on",))
    batch.entities.boxes = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.75, 0.25, 0.5, 0.5]] * 2)
    before = float(whole(features(batch)).loss)
    batch.images[0, :, 2:, :] += 5  # outside both boxes
    assert float(whole(features(batch)).loss) != pytest.approx(before, rel=1e-4)
    assert whole.views(batch)[0].boxes is None  # no region is encoded for it


@pytest.mark.parametrize("relations", [(), ("unheard of", "unseen")])
def test_no_known_relation_is_a_zero_that_touches_the_head(mrc, relations):
    model, batch = StandIn(), graphs(relations=relations)
    model.fuse = model.encode_text = None  # neither is called
    assert mrc.views(batch) == []  # no region is encoded for it
    output = mrc(features(batch, model))
    assert output.count == 0
    assert float(output.loss) == 0
    assert not output.metrics
    assert not output.classes
    output.loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() == 0 for p in mrc.head.parameters())


def test_class_weights_by_their_definitions():
    counts = torch.tensor([90, 9, 1, 0])
    assert torch.equal(class_weights(counts, "none"), torch.ones(4))
    inverse = class_weights(counts, "inverse_frequency")
    torch.testing.assert_close(inverse, torch.tensor([100 / 90, 100 / 9, 100.0, 100.0]) / 3)
    effective = class_weights(counts, "effective_number", 0.9)
    raw = torch.tensor([(1 - 0.9) / (1 - 0.9**n) for n in (90, 9, 1, 1)])
    torch.testing.assert_close(effective / effective[0], raw / raw[0])
    for weights in (inverse, effective):
        assert float((weights * counts).sum() / counts.sum()) == pytest.approx(1, rel=1e-6)  # the loss keeps its scale
    nearly = class_weights(counts, "effective_number", 1 - 1e-9)
    torch.testing.assert_close(nearly, inverse, rtol=1e-4, atol=0)
    torch.testing.assert_close(class_weights(counts, "effective_number", 0.0), torch.ones(4))


def test_rare_relations_weigh_more_if_asked():
    vocabulary = RelationVocabulary.from_counts({"on": 30, "under": 10})
    balanced = MRC(vocabulary, class_weights="inverse_frequency")
    torch.manual_seed(0)
    balanced.attach(StandIn())
    plain = MRC(vocabulary)
    plain.attach(StandIn())
    plain.head.load_state_dict(balanced.head.state_dict())
    for relation, factor in (("on", 40 / 30 / 2), ("under", 40 / 10 / 2)):
        one = graphs(relations=(relation,))
        assert float(balanced(features(one)).loss) == pytest.approx(factor * float(plain(features(one)).loss), rel=1e-5)


def test_counts_come_from_the_shards_index_and_stay_in_the_checkpoint(tmp_path):
    (tmp_path / "index.json").write_text(json.dumps({"relation_counts": {"On ": 30, "under": 10, "wears": 5}}))
    known = RelationVocabulary(NAMES)
    for given in ({"on": 30, "under": 10}, str(tmp_path), str(tmp_path / "index.json")):
        mrc = MRC(known, class_weights="effective_number", beta=0.9, relation_counts=given)
        assert mrc.vocabulary.counts == {"on": 30, "under": 10}
    (tmp_path / "index.json").unlink()
    again = build(record(mrc), MRC)
    assert torch.equal(again.factors, mrc.factors)
    assert again.vocabulary.fingerprint == known.fingerprint
    assert set(again.state_dict()) == {"fingerprint"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weights": "balanced"}, "one of none, inverse_frequency, effective_number; got 'balanced'"),
        ({"class_weights": "inverse_frequency"}, "none of the vocabulary's 3 names has a count: set relation_counts"),
        ({"class_weights": "effective_number", "beta": 1.0}, "below 1, got 1.0"),
        ({"relation_counts": "nowhere"}, r"relation_counts='nowhere' has no counts of relations \(FileNotFoundError\)"),
    ],
)
def test_class_weights_that_cannot_be_had_are_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as refusal:
        MRC(RelationVocabulary(NAMES), **options)
    assert "\n" not in str(refusal.value)


def test_what_is_right_is_told_by_class(mrc):
    batch = graphs()
    with torch.no_grad():
        for layer in (mrc.head[0], mrc.head[2]):
            layer.weight.zero_()
        mrc.head[2].bias.copy_(torch.tensor([5.0, 0.0, 0.0]))  # "on", whatever the input
    output = mrc(features(batch))
    labels, right = output.classes["mrc_macro_accuracy"]
    assert labels.tolist() == [0, 1, -100]
    assert right.tolist() == [True, False, False]
    assert float(output.metrics["mrc_accuracy"]) == 0.5


def test_the_head_has_the_papers_size():
    """About 5.7M parameters at base size with 310 relations (arXiv 2305.14281, section 4)."""

    class Wide(StandIn):
        fusion_dim = 768

    mrc = MRC("gqa")
    mrc.attach(Wide())
    assert len(mrc.vocabulary) == 310
    assert sum(p.numel() for p in mrc.parameters()) == 2 * 768 * 3072 + 3072 + 3072 * 310 + 310 == 5_674_294


def test_another_vocabulary_is_refused_when_weights_are_loaded(mrc):
    other = MRC(RelationVocabulary(("on", "under", "right of")))
    other.attach(StandIn())
    with pytest.raises(ValueError, match="relation vocabulary"):
        other.load_state_dict(mrc.state_dict())
    again = MRC(RelationVocabulary(NAMES))
    again.attach(StandIn())
    again.load_state_dict(mrc.state_dict())


def test_a_model_that_cannot_fuse_is_refused_by_name():
    class Dual:
        fusion_dim = WIDTH

        def encode_image(self, images, regions=None): ...

        def encode_text(self, ids, mask): ...

    with pytest.raises(ValueError, match=r"MRC cannot be computed on Dual: it has no fuse"):
        MRC(RelationVocabulary(NAMES)).attach(Dual())
