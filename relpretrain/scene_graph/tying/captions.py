"""The scene graph of an image's captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from relpretrain.scene_graph.entity import Entity, Relation, changed
from relpretrain.scene_graph.graph import SceneGraph
from relpretrain.scene_graph.parse.lexicon.lemmas import verb_lemma
from relpretrain.scene_graph.parse.record import ParsedCaption, ParsedEntity
from relpretrain.scene_graph.tying.assignment import tie
from relpretrain.scene_graph.tying.names import Names
from relpretrain.scene_graph.vocabulary import evident_inverse

_Thing = TypeVar("_Thing", Entity, Relation)

MIN_TIE = 0.5
"""How sure a tie must be: below, a noun gets no box."""


class Labelled(NamedTuple):
    """A graph with what captions say, and what was counted on the way.

    Args:
        graph: All that was known before, then what is new.
        counts: "entities" and "triplets" that were read, "placeable" nouns (of images with boxes), "tied" ones, new
            "triplets_written", and of these "triplets_boxed", between two boxes.
        predicates: New triplets by relation.
        dropped: What was left out, by reason.
    """

    graph: SceneGraph
    counts: Counter[str]
    predicates: Counter[str]
    dropped: Counter[str]


def label_captions(
    graph: SceneGraph, captions: Sequence[ParsedCaption], source: str, names: Names, min_tie: float = MIN_TIE
) -> Labelled:
    """Add what captions say to the graph of their image.

    A noun is tied to a box, or is an entity without one, which further captions of the image may mean as well: one of
    the same name whose attributes do not speak against it. Within a caption, no two nouns are one entity. A triplet's
    confidence is its parser's, times the certainty of the ties at its ends. What the graph says already is not said
    again; a triplet that several captions give stands once, with its highest confidence.

    Args:
        graph: What is known of the image.
        captions: What a parser has read of each of its captions.
        source: Name and version of the parser.
        names: Says whether a noun and a label fit.
        min_tie: How sure a tie must be.
    """
    entities, relations = list(graph.entities), list(graph.relations)
    places = {_meaning(relation): number for number, relation in enumerate(relations)}
    counts, predicates, dropped = Counter[str](), Counter[str](), Counter[str]()
    counts["placeable"] = sum(len(c.entities) for c in captions) if any(e.box for e in entities) else 0
    for number, caption in enumerate(captions):
        counts.update(entities=len(caption.entities), triplets=len(caption.relations))
        numbers: list[int] = []
        sure: list[float] = []
        for mention, tied in zip(caption.entities, tie(caption, graph.entities, names), strict=True):
            if tied is not None and tied.certainty < min_tie:
                dropped["doubtful_tie"] += 1
                tied = None
            if tied is not None:
                index, certainty = tied
                counts["tied"] += 1
                if entities[index].caption is None:
                    entities[index] = changed(entities[index], caption=number, span=mention.span)
            else:
                index, certainty = _unplaced(entities, mention, numbers, number, source), 1.0
            numbers.append(index)
            sure.append(certainty)
        for read in caption.relations:
            confidence = round(read.confidence * sure[read.subject] * sure[read.object], 4)
            relation = Relation(
                numbers[read.subject], read.relation, numbers[read.object],
                confidence=confidence, source=source, caption=number, span=read.span,
            )  # fmt: skip
            known = places.get(_meaning(relation))
            if relation.subject == relation.object:
                dropped["relation_with_itself"] += 1
            elif known is None:
                places[_meaning(relation)] = len(relations)
                relations.append(relation)
            else:
                dropped["repeats_annotated" if not relations[known].source else "repeated_triplet"] += 1
                if relations[known].source == source and relations[known].confidence < confidence:
                    relations[known] = relation
    new = relations[len(graph.relations) :]
    labelled = SceneGraph(tuple(entities), tuple(relations))
    placed = [entity.box is not None for entity in entities]
    counts["triplets_written"] = len(new)
    counts["triplets_boxed"] = sum(placed[r.subject] and placed[r.object] for r in new)
    predicates.update(relation.relation for relation in new)
    return Labelled(labelled, +counts, predicates, dropped)


def without_relations(graph: SceneGraph) -> SceneGraph:
    """What `label_captions` may start anew from: the entities that have boxes, and no relation."""
    return SceneGraph(tuple(replace(e, caption=None, span=None) for e in graph.entities if e.box is not None))


def follow_captions(graph: SceneGraph, before: Sequence[str], after: Sequence[str]) -> SceneGraph:
    """The graph for another list of captions: its places are found again by the caption's text, or forgotten.

    Args:
        graph: A graph whose places count in `before`.
        before: The captions as they were.
        after: The captions as they are to be.
    """
    if list(before) == list(after):
        return graph
    numbers = {old: after.index(text) for old, text in enumerate(before) if text in after}
    return SceneGraph(
        tuple(_followed(entity, numbers) for entity in graph.entities),
        tuple(_followed(relation, numbers) for relation in graph.relations),
    )


def _followed(thing: _Thing, numbers: Mapping[int, int]) -> _Thing:
    if thing.caption is None:
        return thing
    new = numbers.get(thing.caption)
    return changed(thing, caption=new, span=None if new is None else thing.span)


def _unplaced(entities: list[Entity], mention: ParsedEntity, taken: Sequence[int], caption: int, source: str) -> int:
    """Index of the entity without a box that a noun means: one of an earlier caption, or a new one."""
    for index, entity in enumerate(entities):
        if entity.box is None and entity.label == mention.label and index not in taken:
            mine, others = {*mention.attributes}, {*entity.attributes}
            if mine <= others or others <= mine:
                if mine > others:
                    entities[index] = changed(entity, attributes=tuple(mention.attributes))
                return index
    entities.append(Entity(mention.label, None, mention.attributes, caption=caption, span=mention.span, source=source))
    return len(entities) - 1


def _meaning(relation: Relation) -> tuple[int, str, int]:
    """One for all relations that say the same of two entities: in lemmas, and without evident inverses."""
    name = " ".join(map(verb_lemma, relation.relation.lower().split()))
    forward = (relation.subject, name, relation.object)
    inverse = evident_inverse(relation.relation.lower())
    if inverse is None:
        return forward
    return min(forward, (relation.object, " ".join(map(verb_lemma, inverse.split())), relation.subject))
