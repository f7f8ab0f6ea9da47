import numpy as np
import pytest

from relpretrain.scene_graph import Box, Entity, Relation, RelationVocabulary, SceneGraph
from relpretrain.sources.common.dropped import Dropped
from relpretrain.tagging.build import batched
from relpretrain.tagging.held_out import Scored, cuts, holding, score_graphs
from relpretrain.tagging.shards import read_shard


def test_what_a_graph_says_from_both_sides():
    box = Box(0, 0, 1, 1)
    graph = SceneGraph(
        (Entity("a", box), Entity("b", box), Entity("c")),
        (Relation(0, "left of", 1), Relation(0, "on", 1), Relation(0, "on", 2), Relation(0, "unheard of", 1)),
    )
    known = RelationVocabulary(["left of", "right of", "on"], inverses={"left of": "right of"})
    assert holding(graph, known) == {(0, 0, 1), (1, 1, 0), (0, 2, 1)}


def test_cuts_equal_a_loop():
    rng = np.random.default_rng(0)
    pairs, classes = 30, 4
    scores, truth = rng.random(pairs * classes), rng.random(pairs * classes) < 0.3
    number = np.arange(pairs * classes)
    scored = Scored(scores, truth, number % classes, number // classes, np.ones(len(number), bool))
    for cut in cuts(scored, 2, (0.2, 0.6)):
        kept, right, by_class = 0, 0, {c: [0, 0] for c in range(classes)}
        for pair in range(pairs):
            rows = [pair * classes + c for c in range(classes)]
            best = sorted(rows, key=lambda row: -scores[row])[:2]
            for row in rows:
                by_class[row % classes][1] += truth[row]
                if row in best and scores[row] >= cut.threshold:
                    kept += 1
                    right += truth[row]
                    by_class[row % classes][0] += truth[row]
        assert cut.kept == kept
        assert cut.precision == pytest.approx(right / kept)
        assert cut.recall == pytest.approx(right / truth.sum())
        assert cut.mean_recall == pytest.approx(np.mean([hit / n for hit, n in by_class.values() if n]))


class Oracle:
    """Scores what the graph says by 0.9, all else by 0.1."""

    name = "oracle"

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary

    def scores(self, images, graphs, asked):
        return [
            [
                [
                    0.9 if (p.subject, c, p.object) in holding(g, self.vocabulary) else 0.1
                    for c in range(len(p.relations))
                ]
                for p in pairs
            ]
            for g, pairs in zip(graphs, asked, strict=True)
        ]


def test_an_oracle_finds_all_and_nothing_else(world):
    vocabulary = RelationVocabulary.load(world / "relations.json")
    samples = [s for shard in sorted((world / "graphs").glob("*.tar")) for s in read_shard(str(shard), Dropped())]
    scored = score_graphs(Oracle(vocabulary), batched(samples, 5))
    (cut,) = cuts(scored, 1, (0.5,))
    assert (cut.precision, cut.recall, cut.mean_recall) == (1, 1, 1)
    boxes = [len(s.graph.entities) for s in samples]
    assert len(scored.scores) == sum(n * (n - 1) for n in boxes) * len(vocabulary)
    assert 0 < scored.fitting.mean() < 1
