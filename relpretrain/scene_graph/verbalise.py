"""Choosing triplets of a scene graph, and putting them into words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from relpretrain.scene_graph.entity import Relation
from relpretrain.scene_graph.graph import SceneGraph
from relpretrain.scene_graph.vocabulary import RelationVocabulary, evident_inverse


def triplet_text(graph: SceneGraph, relation: Relation) -> str:
    """Put one triplet into words: "subject relation object"."""
    subject, object_ = graph.entities[relation.subject], graph.entities[relation.object]
    return " ".join(f"{subject.label} {relation.relation} {object_.label}".split())


def triplet_meaning(graph: SceneGraph, relation: Relation, read: Callable[[str], Any] = str) -> Any:
    """One text for all that say the same: "a left of b" and "b right of a" have one meaning.

    Only inverses that are plain from the words count (`vocabulary.evident_inverse`), in upper or lower case.

    Args:
        graph: The scene graph.
        relation: One of its relations.
        read: What a reader makes of a text; of two texts the meaning is the lesser reading.
    """
    subject, object_ = graph.entities[relation.subject].label, graph.entities[relation.object].label
    return claim_meaning((subject, relation.relation, object_), read)


def claim_meaning(claim: tuple[str, str, str], read: Callable[[str], Any] = str) -> Any:
    """The same of a subject, relation and object in words, which may be false, as those of a foil."""
    subject, relation, object_ = claim
    text, inverse = " ".join(" ".join(claim).split()), evident_inverse(relation.lower())
    if inverse is None:
        return read(text)
    return min(read(text), read(" ".join(f"{object_} {inverse} {subject}".split())))


def verbalise(
    graph: SceneGraph,
    k: int,
    rng: np.random.Generator,
    fits: Callable[[list[str]], bool] | None = None,
    sort: bool = True,
) -> list[str]:
    """Put up to `k` random triplets of a graph into words, in reading order (VSG, arXiv 2305.14281, section 3.1).

    Triplets are drawn without replacement, and those that read alike count as one. In the order in which they were
    drawn, each stays only if all of it fits beside those that stayed before. What stayed is sorted by the centre of
    the subject's box: top to bottom, then left to right, then in the order of the annotation; subjects without a box
    come last. (The paper names the centre but no order of axes and no rule for ties.)

    Args:
        graph: The scene graph.
        k: How many triplets to draw, K in the paper.
        rng: Source of randomness.
        fits: Whether these texts together are short enough; None sets no limit.
        sort: Whether what stayed is sorted, or keeps the order in which it was drawn (the paper's ablation).

    Returns:
        One "subject relation object" for each triplet; empty if the graph has none.
    """
    return list(verbalised(graph, k, rng, fits, sort))


def verbalised(
    graph: SceneGraph,
    k: int,
    rng: np.random.Generator,
    fits: Callable[[list[str]], bool] | None = None,
    sort: bool = True,
) -> dict[str, Relation]:
    """What `verbalise` gives, with the relation that each text was made of."""
    drawn: dict[str, int] = {}
    for index in rng.permutation(len(graph.relations)).tolist():
        if len(drawn) >= k:
            break
        drawn.setdefault(triplet_text(graph, graph.relations[index]), index)

    kept: list[str] = []
    for text in drawn:
        if fits is None or fits([*kept, text]):
            kept.append(text)

    told = {text: graph.relations[drawn[text]] for text in kept}
    return in_reading_order(graph, told) if sort else told


def in_reading_order(graph: SceneGraph, told: Mapping[str, Relation]) -> dict[str, Relation]:
    """Triplets in words, sorted by the centre of the subject's box as `verbalise` describes.

    Args:
        graph: The scene graph.
        told: The text of each triplet, and the relation of the graph that it was made of.
    """
    places = {id(relation): place for place, relation in enumerate(graph.relations)}

    def position(text: str) -> tuple[float, float, int]:
        box = graph.entities[told[text].subject].box
        x, y = (math.inf, math.inf) if box is None else box.center
        return y, x, places[id(told[text])]

    return {text: told[text] for text in sorted(told, key=position)}


def choose_relations(
    graph: SceneGraph, k: int, rng: np.random.Generator, vocabulary: RelationVocabulary | None = None
) -> list[Relation]:
    """Draw up to `k` triplets without replacement, for classification (MRC): one for each (subject, object).

    Where two entities have several relations, one of them is drawn: two labels of one input contradict each other.

    Args:
        graph: The scene graph.
        k: How many triplets to draw.
        rng: Source of randomness.
        vocabulary: If given, triplets with other relations are left out.

    Returns:
        Triplets that relate two different entities with boxes, in the order in which they were drawn.
    """
    candidates = [
        relation
        for relation in {(r.subject, r.relation, r.object): r for r in graph.boxed_pairs()}.values()
        if relation.subject != relation.object and (vocabulary is None or relation.relation in vocabulary)
    ]
    drawn: dict[tuple[int, int], Relation] = {}
    for i in rng.permutation(len(candidates)).tolist():
        if len(drawn) >= k:
            break
        drawn.setdefault((candidates[i].subject, candidates[i].object), candidates[i])
    return list(drawn.values())
