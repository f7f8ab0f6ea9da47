"""Losses in which texts and triplets count by their confidence."""

import math

import pytest
import torch

from relpretrain.features import Features
from relpretrain.objectives import ITC, ITM, MLM, MRC, VSG
from relpretrain.scene_graph import RelationVocabulary
from tests.objectives.standin import StandIn, captions, graphs

WEIGHTS = torch.tensor([0.5, 0.25, 1.0, 0.1, 0.0])


def loss_of(objective, batch, model=None):
    model = model or StandIn()
    generator = torch.Generator().manual_seed(0)
    return objective(Features(model, batch, objective.views(batch), generator)).loss


def mrc():
    torch.manual_seed(1)
    made = MRC(RelationVocabulary(["on", "under"]))
    made.attach(StandIn())
    return made


def test_a_text_counts_by_its_weight_in_the_contrastive_loss():
    """A naive loop: row by row, both directions, all texts of the batch in the denominators."""
    batch, model = captions(5), StandIn()
    batch.pairs.weights = WEIGHTS
    view = Features(model, batch, [batch.pairs]).view(batch.pairs)
    image, text = view.image_embedding, view.text_embedding
    total = 0.0
    for i, weight in enumerate(WEIGHTS.tolist()):
        for queries, keys in ((image, text), (text, image)):
            exponents = [math.exp(float(queries[i] @ keys[j] / model.temperature)) for j in range(5)]
            total += weight * -math.log(exponents[i] / sum(exponents)) / 2
    assert float(loss_of(ITC(), batch, model)) == pytest.approx(total / float(WEIGHTS.sum()), rel=1e-4)


def test_a_word_counts_as_much_as_its_text():
    batch, model = captions(5), StandIn()
    text = batch.pairs.text
    text.labels[1, 2] = text.input_ids[1, 2]  # two words of the second text
    batch.pairs.weights = WEIGHTS
    view = Features(model, batch, [batch.pairs]).view(batch.pairs)
    fused = view.fuse(view.encode_text(text.masked_input_ids))
    total = weights = 0.0
    for i, weight in enumerate(WEIGHTS.tolist()):
        for place in (text.labels[i] != -100).nonzero().flatten().tolist():
            logits = model.word_logits(fused[i, place][None])[0]
            total += weight * float(logits.logsumexp(0) - logits[text.labels[i, place]])
            weights += weight
    assert float(loss_of(MLM(), batch, model)) == pytest.approx(total / weights, rel=1e-4)


def test_a_text_without_weight_moves_nothing_but_as_a_negative():
    """All three terms of matching count by the text of their row: those of a text of weight 0 are left out."""
    batch, model = captions(5), StandIn()
    batch.pairs.weights = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0])
    weighted = loss_of(ITM(), batch, model)
    view = Features(model, batch, [batch.pairs], torch.Generator().manual_seed(0)).view(batch.pairs)
    from relpretrain.objectives.matching import match_with_negatives, matching_losses
    from relpretrain.objectives.negatives import draw_hard_negatives, same_pair

    forbidden = same_pair(view.image_ids, view.pairs.text_keys, view.image_ids, view.pairs.text_keys)
    to_text, to_image = view.similarities
    other_image, _ = draw_hard_negatives(to_image, forbidden, view.features.generator)
    other_text, _ = draw_hard_negatives(to_text, forbidden, view.features.generator)
    losses = matching_losses(*match_with_negatives(view, other_image, other_text))  # (3, 5)
    assert float(weighted) == pytest.approx(float(losses[:, :4].sum() / 12), rel=1e-5)


def test_a_triplet_counts_by_its_weight():
    batch, objective = graphs(relations=("on", "under", "unheard of")), mrc()
    model = StandIn()
    batch.weights = torch.tensor([0.2, 0.3, 0.9])
    features = Features(model, batch, objective.views(batch))
    logits = objective.logits(features)
    each = [float(logits[i].logsumexp(0) - logits[i, label]) for i, label in ((0, 0), (1, 1))]
    expected = (0.2 * each[0] + 0.3 * each[1]) / 0.5  # what is outside the vocabulary counts for nothing
    assert float(loss_of(objective, batch, model)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("objective", [ITC, ITM, MLM, VSG, MRC])
def test_weights_of_one_are_no_weights(objective):
    batch = captions(5) if objective in (ITC, ITM, MLM) else graphs()
    made = mrc() if objective is MRC else objective()
    plain = loss_of(made, batch)
    batch.pairs.weights = torch.ones(len(batch.pairs))
    if objective in (VSG, MRC):
        batch.weights = torch.ones(len(batch.relations))
    assert float(loss_of(made, batch)) == pytest.approx(float(plain), rel=1e-6)


@pytest.mark.parametrize("objective", [ITC, ITM, MLM, VSG, MRC])
def test_no_weight_at_all_gives_a_zero_with_a_graph(objective):
    batch = captions(5) if objective in (ITC, ITM, MLM) else graphs()
    made = mrc() if objective is MRC else objective()
    batch.pairs.weights = torch.zeros(len(batch.pairs))
    if objective in (VSG, MRC):
        batch.weights = torch.zeros(len(batch.relations))
    loss = loss_of(made, batch)
    assert float(loss) == 0
    loss.backward()


def test_counts_come_from_a_file_and_from_nothing_without_an_end():
    with pytest.raises(ValueError, match=r"'/dev/null' has no counts of relations \(FileNotFoundError\)"):
        MRC("gqa", relation_counts="/dev/null")
