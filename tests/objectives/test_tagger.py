import dataclasses

import pytest
import torch

from relpretrain.checkpoints.described import build, record
from relpretrain.features import Features
from relpretrain.objectives import MRC, RelationTagger
from relpretrain.objectives.tagger import NONE, PRIOR, focal_losses, pair_targets
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.types import IGNORE
from tests.objectives.standin import StandIn, graphs

NAMES = ("on", "under", "left of", "right of", "near")
VOCABULARY = RelationVocabulary(NAMES, inverses={"left of": "right of", "near": "near"})


def tagger(**options):
    torch.manual_seed(5)
    made = RelationTagger(VOCABULARY, **options)
    made.attach(StandIn())
    torch.nn.init.normal_(made.head[-1].bias)  # far from the prior, so that losses differ
    return made


def batch_of(*triplets):
    """Two images with entities 0 and 1, 2 and 3."""
    batch = graphs(relations=("on",))
    ends = torch.tensor([(s, o) for s, _, o in triplets]).reshape(-1, 2)
    relations = tuple(relation for _, relation, _ in triplets)
    return dataclasses.replace(batch, subjects=ends[:, 0], objects=ends[:, 1], relations=relations)


def features(batch, model=None):
    return Features(model or StandIn(), batch, [batch.pairs, batch.entities])


def truth(triplets):
    """For each pair that counts, the relations that hold, by a loop over triplets."""
    found = {}
    for s, relation, o in triplets:
        if s != o and (relation == "" or relation in NAMES):
            found.setdefault((s, o), set()).update({relation} - {""})
    for s, relation, o in triplets:
        inverse = VOCABULARY.inverse(relation)
        if inverse and s != o and any((o, s) == (a, b) for a, _, b in triplets):
            found.setdefault((o, s), set()).add(inverse)
    return found


EXAMPLES = {
    "a pair with two relations, and its mirror without any": [(0, "on", 1), (0, "near", 1), (1, "", 0), (2, "", 3)],
    "converses": [(0, "left of", 1), (1, "", 0), (3, "near", 2), (2, "under", 3)],
    "outside the vocabulary": [(0, "unheard of", 1), (1, "", 0), (2, "unheard of", 3), (2, "on", 3), (3, "", 2)],
    "a box with itself": [(0, "on", 0), (2, "right of", 3), (3, "", 2)],
    "the mirrored pair only outside the vocabulary": [(0, "left of", 1), (1, "unheard of", 0)],
}


@pytest.mark.parametrize("triplets", EXAMPLES.values(), ids=EXAMPLES)
def test_equals_a_loop_over_pairs_and_relations(triplets):
    objective, batch, total, positives = tagger(), batch_of(*triplets), 0.0, 0
    logits = objective.logits(features(batch)).detach()
    for (s, o), holding in truth(triplets).items():
        row = next(i for i, (a, _, b) in enumerate(triplets) if (a, b) == (s, o))
        for number, name in enumerate(NAMES):
            p = torch.sigmoid(logits[row, number].double())
            if name in holding:
                total -= float((1 - p) ** 2 * p.log())
                positives += 1
            else:
                total -= float(p**2 * (1 - p).log())
    output = objective(features(batch))
    assert int(output.count) == positives
    assert output.loss.item() == pytest.approx(total / positives, rel=1e-5)


def test_gamma_0_is_binary_cross_entropy_and_extremes_are_finite():
    logits, targets = torch.randn(6, 3), torch.rand(6, 3) > 0.5
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none")
    torch.testing.assert_close(focal_losses(logits, targets, 0.0), expected)
    extreme = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    losses = focal_losses(extreme, torch.tensor([[True, False]]))
    losses.sum().backward()
    torch.testing.assert_close(losses.detach(), torch.tensor([[200.0, 200.0]]))
    assert torch.isfinite(extreme.grad).all()


def test_what_one_row_is_masks_no_other():
    """RLIPv2's mask is switched off for a whole batch by one image with fewer pairs; here each row has its own."""
    objective = tagger()
    whole = [(0, "left of", 1), (1, "", 0)]
    alone = objective(features(batch_of(*whole)))
    padded = [*whole, (2, "unheard of", 3), (3, "unheard of", 2), (2, "on", 2)]
    beside = objective(features(batch_of(*padded)))
    torch.testing.assert_close(beside.loss, alone.loss)
    assert int(beside.count) == int(alone.count) == 2


def test_negatives_cover_all_classes_and_all_boxes():
    """RLIPv2 draws noisy labels from the numbers below the batch size; here nothing is drawn: all classes count."""
    classes, boxes = 50, 40
    ends = torch.tensor([(s, o) for s in range(boxes) for o in range(boxes) if s != o])
    labels = torch.full((len(ends),), NONE)
    labels[0] = classes - 1
    targets, weights = pair_targets(ends[:, 0], ends[:, 1], labels, torch.full_like(labels, IGNORE), classes)
    assert targets.sum() == 1
    assert targets[0, classes - 1]
    assert torch.equal(weights, torch.ones(len(ends)))
    logits = torch.zeros(len(ends), classes, requires_grad=True)
    (focal_losses(logits, targets) * weights[:, None]).sum().backward()
    assert (logits.grad != 0).all()


def test_the_order_of_rows_changes_nothing():
    triplets = EXAMPLES["a pair with two relations, and its mirror without any"]
    objective = tagger()
    first = objective(features(batch_of(*triplets)))
    second = objective(features(batch_of(*triplets[::-1])))
    torch.testing.assert_close(first.loss, second.loss)


@pytest.mark.parametrize("triplets", [(), [(0, "unheard of", 1)]])
def test_nothing_to_tag_is_a_zero_that_touches_the_head(triplets):
    objective, model, batch = tagger(), StandIn(), batch_of(*triplets)
    model.fuse = model.encode_text = None  # neither is called
    assert objective.views(batch) == []
    output = objective(features(batch, model))
    assert (float(output.count), output.loss.item()) == (0, 0)
    output.loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() == 0 for p in objective.head.parameters())


def test_a_batch_of_negatives_has_a_loss():
    output = tagger()(features(batch_of((0, "", 1), (3, "", 2))))
    assert output.loss.item() > 0
    assert float(output.count) == 0


def test_a_new_head_begins_at_the_prior():
    made = RelationTagger(VOCABULARY)
    made.attach(StandIn())
    scores = made.log_scores(made.logits(features(batch_of((0, "", 1), (1, "", 0))))).exp()
    assert (scores < 3 * PRIOR).all()


def test_scores_are_probabilities_each_for_itself():
    logits = torch.randn(4, 5)
    torch.testing.assert_close(RelationTagger(VOCABULARY).log_scores(logits).exp(), logits.sigmoid())
    torch.testing.assert_close(MRC(VOCABULARY).log_scores(logits).exp().sum(1), torch.ones(4))


def test_it_is_rebuilt_from_its_record():
    made = RelationTagger(VOCABULARY, boxes_per_image=5, gamma=1.0)
    again = build(record(made), RelationTagger)
    assert (again.boxes_per_image, again.gamma, again.vocabulary) == (5, 1.0, VOCABULARY)
    with pytest.raises(ValueError, match="Give RelationTagger the vocabulary"):
        RelationTagger(RelationVocabulary(["on"])).load_state_dict(made.state_dict())


@pytest.mark.parametrize(
    ("options", "message"), [({"boxes_per_image": 1}, "at least 2, a pair; got 1"), ({"gamma": -1.0}, "got -1.0")]
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        RelationTagger(VOCABULARY, **options)
