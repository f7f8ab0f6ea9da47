"""How good a tagger is on graphs that it has not seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relpretrain.identity import number_of
from relpretrain.scene_graph import RelationVocabulary, SceneGraph
from relpretrain.tagging.proposals import every_pair
from relpretrain.tagging.shards import TagSample

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class Scored(NamedTuple):
    """Scores of every relation of every ordered pair of boxes, one row each.

    Args:
        scores: In [0, 1], (rows,).
        truth: Whether the graph says so, (rows,), bool.
        classes: Number of the relation, (rows,).
        pairs: Number of the pair, (rows,): as many rows as there are relations share one.
        fitting: Whether the image is of the half that calibrations are fitted on, (rows,), bool.
    """

    scores: NDArray[np.float64]
    truth: NDArray[np.bool_]
    classes: NDArray[np.int64]
    pairs: NDArray[np.int64]
    fitting: NDArray[np.bool_]

    def of(self, rows: NDArray[np.bool_]) -> Scored:
        """Some of the rows."""
        return Scored(self.scores[rows], self.truth[rows], self.classes[rows], self.pairs[rows], self.fitting[rows])


def holding(graph: SceneGraph, vocabulary: RelationVocabulary) -> set[tuple[int, int, int]]:
    """What a graph says: subject, class and object; from the other side, too, where the converse is known."""
    found = set()
    for relation in graph.boxed_pairs():
        ends = relation.subject, relation.object
        inverse = vocabulary.inverse(relation.relation)
        for name, (s, o) in ((relation.relation, ends), (inverse, ends[::-1])):
            number = None if name is None else vocabulary.index(name)
            if number is not None and s != o:
                found.add((s, number, o))
    return found


def score_graphs(tagger: Any, batches: Iterable[Sequence[TagSample]]) -> Scored:
    """Score all relations of all pairs of images whose graphs are known.

    Pairs that are only named outside the vocabulary are left out: nobody knows what else is true of them. Which half an
    image belongs to depends on its name alone.

    Raises:
        ValueError: If there is no pair.
    """
    vocabulary: RelationVocabulary = tagger.vocabulary
    names = vocabulary.names
    rows: list[tuple[float, bool, int, int, bool]] = []
    pair_number = 0
    for samples in batches:
        asked = [every_pair(sample.graph, names) for sample in samples]
        found = tagger.scores([s.image for s in samples], [s.graph for s in samples], asked)
        for sample, pairs, scores in zip(samples, asked, found, strict=True):
            true = holding(sample.graph, vocabulary)
            known = {(s, o) for s, _, o in true}
            outside = {(r.subject, r.object) for r in sample.graph.boxed_pairs()} - known
            fitting = number_of("calibration", sample.identity) % 2 == 0
            for pair, values in zip(pairs, scores, strict=True):
                if (pair.subject, pair.object) in outside:
                    continue
                for number, value in enumerate(values):
                    if value == value:
                        holds = (pair.subject, number, pair.object) in true
                        rows.append((value, holds, number, pair_number, fitting))
                pair_number += 1
    if not rows:
        raise ValueError("the held-out shards have no image with two boxes whose relations could be scored")
    columns = zip(*rows, strict=True)
    types = (np.float64, bool, np.int64, np.int64, bool)
    return Scored(*(np.array(column, kind) for column, kind in zip(columns, types, strict=True)))


class Cut(NamedTuple):
    """What is kept at a threshold.

    Args:
        threshold: The lowest score that is kept.
        kept: Relations that are.
        precision: Share of true ones among these; NaN if there are none.
        recall: Share of the true ones that are kept.
        mean_recall: The mean of that share over relations that occur.
    """

    threshold: float
    kept: int
    precision: float
    recall: float
    mean_recall: float


def cuts(scored: Scored, top_k: int, thresholds: Sequence[float] = THRESHOLDS) -> list[Cut]:
    """Precision and recall of what is kept, of each pair the `top_k` best, by threshold."""
    order = np.lexsort((scored.classes, -scored.scores, scored.pairs))
    starts = np.r_[True, np.diff(scored.pairs[order]) != 0]
    rank = np.arange(len(order)) - np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    best = np.zeros(len(order), bool)
    best[order] = rank < top_k
    occurring = np.bincount(scored.classes, scored.truth)
    found = []
    for threshold in thresholds:
        kept = best & (scored.scores >= threshold)
        right = kept & scored.truth
        shares = np.bincount(scored.classes, right, len(occurring))[occurring > 0] / occurring[occurring > 0]
        precision = right.sum() / kept.sum() if kept.any() else np.nan
        recall = right.sum() / max(scored.truth.sum(), 1)
        mean = shares.mean() if len(shares) else np.nan
        found.append(Cut(threshold, int(kept.sum()), float(precision), float(recall), float(mean)))
    return found
