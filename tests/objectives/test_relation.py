import pytest
import torch

from relpretrain.features import Features
from relpretrain.objectives import MRC
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
    (image, mask), text, text_mask = view.image, view.text, batch.entities.text.mask

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


def test_no_known_relation_is_a_zero_that_touches_the_head(mrc):
    model, batch = StandIn(), graphs(relations=("unheard of", "unseen"))
    output = mrc(features(batch, model))
    assert output.count == 0
    assert float(output.loss) == 0
    output.loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() == 0 for p in mrc.head.parameters())


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
