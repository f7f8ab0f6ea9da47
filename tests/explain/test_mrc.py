"""Patches of MRC."""

import pytest
import torch

from relpretrain.explain import mrc_maps
from relpretrain.explain.maps.mrc import mrc_head
from relpretrain.features import Features, patch_mask
from relpretrain.objectives import MRC, RelationTagger
from relpretrain.scene_graph import Entity, Relation, RelationVocabulary, SceneGraph
from relpretrain.types import GraphBatch, Pairs
from tests.explain.conftest import make


def head_logits(loaded, image, graph):
    """Logits by the objective itself, as in training."""
    boxes = torch.tensor([entity.box.relative(*image.size) for entity in graph.entities])
    numbers = torch.arange(len(boxes))
    texts = loaded.preprocess.texts([entity.label for entity in graph.entities])
    entities = Pairs(texts, torch.zeros_like(numbers), numbers, boxes)
    ends = torch.tensor([(r.subject, r.object) for r in graph.relations])
    names = tuple(r.relation for r in graph.relations)
    batch = GraphBatch(
        images=loaded.preprocess.images([image]), image_ids=numbers[:1], pairs=entities, entities=entities,
        subjects=ends[:, 0], objects=ends[:, 1], relations=names,
    )  # fmt: skip
    return loaded.objectives["mrc"].logits(Features(loaded.backbone, batch, loaded.objectives["mrc"].views(batch)))


@pytest.mark.parametrize(("kind", "masked"), [("xvlm", True), ("xvlm", False), ("albef", True), ("swin", True)])
def test_the_likeliest_predicate_of_the_head_is_explained(kind, masked, tokenizer, picture, graph):
    loaded = make(kind, tokenizer, [MRC(RelationVocabulary(["left of", "right of", "on"]), masked=masked)])
    wanted = head_logits(loaded, picture, graph).softmax(1)
    names = loaded.vocabulary.names
    for own, chances in zip(mrc_maps(loaded, picture, graph), wanted, strict=True):
        assert own.predicate == names[chances.argmax()] == next(iter(own.probabilities))
        assert own.probabilities == pytest.approx(dict(zip(names, chances.tolist(), strict=True)), abs=1e-5)
        for end, found in ((own.relation.subject, own.subject), (own.relation.object, own.object)):
            box = torch.tensor([graph.entities[end].box.relative(*picture.size)])
            seen = patch_mask(box, loaded.backbone.patch_grid).reshape(found.shape)
            assert found.max() > 0
            assert bool((found[~seen] == 0).all()) == masked or seen.all()


def test_maps_are_the_positive_gain_of_that_logit(with_mrc, picture, graph):
    """Of the subject's first head: attention times gradient, by a second way through the model."""
    model, head = with_mrc.backbone, mrc_head(with_mrc)
    relation = graph.relations[0]
    (own,) = mrc_maps(with_mrc, picture, graph, [relation], predicate="on")
    assert own.predicate == "on"
    kept = []

    def keep(q, k, v, mask, dropout):
        scores = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
        kept.append(scores.softmax(-1))
        kept[-1].retain_grad()
        return kept[-1] @ v

    model.fusion.layers[1].cross.kernel = keep
    logits = head_logits(with_mrc, picture, SceneGraph(graph.entities, (relation,)))
    del model.fusion.layers[1].cross.kernel
    logits[0, with_mrc.vocabulary.index("on")].backward()
    found = (kept[0] * kept[0].grad.clamp(min=0)).mean(1)  # (entities, tokens, visible), the visible patch after [CLS]
    for entity, place, map_ in ((0, (0, 0), own.subject), (1, (3, 3), own.object)):
        length = with_mrc.preprocess.texts([graph.entities[entity].label]).attention_mask.sum()
        assert map_[place] == pytest.approx(found[entity, :length, 1].mean().item(), rel=1e-3)
    assert head is with_mrc.objectives["mrc"]


def test_pairs_together_are_pairs_one_by_one(with_mrc, picture, graph):
    for own in mrc_maps(with_mrc, picture, graph):
        (alone,) = mrc_maps(with_mrc, picture, graph, [own.relation])
        torch.testing.assert_close(own.subject, alone.subject, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(own.object, alone.object, rtol=1e-4, atol=1e-7)
    assert mrc_maps(with_mrc, picture, SceneGraph(graph.entities)) == []


def test_modes_of_the_caller_change_nothing(with_mrc, picture, graph):
    wanted = mrc_maps(with_mrc, picture, graph)
    for context in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16)):
        with context:
            found = mrc_maps(with_mrc, picture, graph)
        for own, other in zip(found, wanted, strict=True):
            assert torch.equal(own.subject, other.subject)
            assert own.probabilities == other.probabilities


def test_a_tagger_is_no_mrc(tokenizer, picture, graph):
    vocabulary = RelationVocabulary(["left of", "right of", "on"])
    loaded = make("xvlm", tokenizer, [RelationTagger(vocabulary), MRC(vocabulary)])
    assert mrc_head(loaded) is loaded.objectives["mrc"]
    assert sum(mrc_maps(loaded, picture, graph)[0].probabilities.values()) == pytest.approx(1)
    del loaded.objectives["mrc"]
    with pytest.raises(ValueError, match="has no MRC head"):
        mrc_maps(loaded, picture, graph)


def test_what_cannot_be_explained_is_told(loaded, with_mrc, picture, graph):
    with pytest.raises(ValueError, match="has no MRC head"):
        mrc_maps(loaded, picture, graph)
    with pytest.raises(ValueError, match="MRC's vocabulary of 3 relations lacks 'left off'; did you mean 'left of'"):
        mrc_maps(with_mrc, picture, graph, predicate="left off")
    without = SceneGraph((Entity("dog"), *graph.entities[1:]), (Relation(0, "on", 1),))
    with pytest.raises(ValueError, match="The entity 'dog' has no box"):
        mrc_maps(with_mrc, picture, without, without.relations)
