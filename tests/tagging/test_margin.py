import math

import pytest
import torch
from PIL import Image

from relpretrain.scene_graph import Box, Entity, RelationVocabulary, SceneGraph
from relpretrain.tagging.margin import MarginTagger, foils_of, itm_margins
from relpretrain.tagging.proposals import Asked
from relpretrain.zeroshot.scorers import MatchScorer

KNOWN = RelationVocabulary(["left of", "right of", "near", "riding", "inside", "around"], inverses={"inside": "around"})


@pytest.mark.parametrize(
    ("triplet", "foils"),
    [
        (("a", "left of", "b"), {"a right of b", "b left of a"}),
        (("a", "riding", "b"), {"b riding a"}),
        (("a", "near", "b"), {"a far from b"}),  # near from either side
        (("a", "near", "a"), {"a far from a"}),
        (("a", "riding", "a"), set()),
        (("a", "inside", "b"), {"a outside of b", "a far from b", "a around b", "b inside a"}),
    ],
)
def test_foils(triplet, foils):
    assert set(foils_of(*triplet, KNOWN)) == foils


def test_margins_by_a_loop():
    scores = torch.tensor([1.0, 0.5, 3.0, 2.0, -1.0, 4.0])
    found = itm_margins(scores, [3, 2, 1])
    assert found[:2] == [1.0 - 3.0, 2.0 - -1.0]
    assert math.isnan(found[2])


def test_scores_are_those_of_the_single_texts(loaded):
    image = Image.new("RGB", (32, 32), (200, 10, 10))
    image.paste((10, 10, 200), (16, 0, 32, 32))
    graph = SceneGraph((Entity("red square", Box(0, 0, 12, 30)), Entity("blue square", Box(18, 2, 32, 32))))
    vocabulary = loaded.vocabulary
    scorer = MatchScorer(loaded.backbone, loaded.preprocess)
    asked = [[Asked(0, 1, ("left of", "above")), Asked(1, 0, ("left of",))], []]
    found = MarginTagger(scorer, vocabulary).scores([image, image], [graph, graph], asked)
    assert [len(values) for values in found[0]] == [2, 1]
    assert found[1] == []
    region = scorer.encode_regions([image], [0], [(0, 0, 32, 32)])
    for pair, values in zip(asked[0], found[0], strict=True):
        s, o = graph.entities[pair.subject].label, graph.entities[pair.object].label
        for relation, value in zip(pair.relations, values, strict=True):
            texts = [f"{s} {relation} {o}", *foils_of(s, relation, o, vocabulary)]
            logits = scorer.score(region, [0] * len(texts), texts).double()
            difference = (logits[:, 1] - logits[:, 0]).tolist()
            assert value == pytest.approx(1 / (1 + math.exp(max(difference[1:]) - difference[0])), rel=1e-4)
