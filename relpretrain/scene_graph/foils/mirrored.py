"""Mirror images as hard negatives: a text of left and right, and what it becomes when its image is mirrored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from relpretrain.scene_graph.entity import Relation
from relpretrain.scene_graph.errors import FlipRefused
from relpretrain.scene_graph.foils.nouns import WORDS, WordRules
from relpretrain.scene_graph.foils.predicates import RULES, PredicateRules
from relpretrain.scene_graph.foils.truth import Witness, claim_of
from relpretrain.scene_graph.graph import SceneGraph
from relpretrain.scene_graph.verbalise import in_reading_order, triplet_text


class Mirrored(NamedTuple):
    """A graph, and a verbalised part of it, as they are of the mirror image."""

    graph: SceneGraph
    told: dict[str, Relation]


def mirrored(
    graph: SceneGraph,
    told: Mapping[str, Relation],
    width: float,
    sort: bool = True,
    rules: PredicateRules = RULES,
    words: WordRules = WORDS,
) -> Mirrored | None:
    """What a verbalised graph becomes when its image is mirrored, if that makes another text of it (CounterCurate).

    The mirror image is then a hard negative of the text, and the mirrored text one of the image. So at least one of
    the triplets must be certainly false of the mirror image; "a cup left of a cup" is not, nor is any text that tells
    of no side. A mirror image of the mirror image is the image, so what holds of one way holds of the other.

    Args:
        graph: The image's graph.
        told: The text of each triplet that was verbalised, and the relation of `graph` that it was made of.
        width: Width of the image, in the boxes' unit.
        sort: Whether the mirrored triplets are sorted as `verbalise` sorts them, or keep their order.
        rules: What follows from relations.
        words: What follows from nouns and adjectives.

    Returns:
        None if the text may be true of the mirror image, or if nobody can tell what it becomes (`SceneGraph.flip`).
    """
    places = {id(relation): place for place, relation in enumerate(graph.relations)}
    try:
        other = graph.flip(width)
    except FlipRefused:
        return None
    pairs = [(relation, other.relations[places[id(relation)]]) for relation in told.values()]
    witness = Witness(other, rules, words)
    if not any(one.relation != two.relation and _false(witness, one) for one, two in pairs):
        return None
    texts = {triplet_text(other, relation): relation for _, relation in pairs}
    return Mirrored(other, in_reading_order(other, texts) if sort else texts)


def _false(witness: Witness, relation: Relation) -> bool:
    """Whether a triplet of the image is certainly false of the mirror image, whose entities stand in the same order."""
    return witness.true(claim_of(witness.graph, relation)) is False
