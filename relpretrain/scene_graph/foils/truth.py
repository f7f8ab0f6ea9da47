"""What an annotated image says of a statement: true, false, or nothing for certain."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from relpretrain.scene_graph.entity import Relation
from relpretrain.scene_graph.foils.nouns import WORDS, Phrase, WordRules, known_as, take_apart
from relpretrain.scene_graph.foils.predicates import RULES, PredicateRules
from relpretrain.scene_graph.geometry import holds, normalise, ruled_out
from relpretrain.scene_graph.graph import SceneGraph


class Statement(NamedTuple):
    """A claim about an image, in words."""

    subject: str
    relation: str
    object: str

    @property
    def text(self) -> str:
        """As it is verbalised: "subject relation object"."""
        return " ".join(" ".join(self).split())


def claim_of(graph: SceneGraph, relation: Relation) -> Statement:
    """What a triplet of a graph claims."""
    return Statement(graph.entities[relation.subject].label, relation.relation, graph.entities[relation.object].label)


class Witness:
    """Answers whether statements are true of an image, from its graph.

    Things are found by their names and adjectives, whatever may name them (`WordRules.may_be_one`). Of two things a
    relation is true if it, or one that implies it, is annotated, also from the other side, or if it is true of their
    boxes; it is false if an annotated one contradicts it, or if their boxes rule it out. A statement about several
    pairs of things is false only if it is false of each; one about things that the image does not have is false, unless
    it says itself that its object is not there ("without").

    Args:
        graph: The annotation; boxes may be absent.
        rules: What follows from relations.
        words: What follows from nouns and adjectives.
    """

    def __init__(self, graph: SceneGraph, rules: PredicateRules = RULES, words: WordRules = WORDS) -> None:
        self.graph = graph
        self.rules = rules
        self.words = words
        self._things = [
            Phrase((*phrase.adjectives, *map(normalise, entity.attributes)), phrase.noun)
            for entity in graph.entities
            for phrase in (take_apart(entity.label),)
        ]
        self._between: dict[tuple[int, int], list[str]] = defaultdict(list)
        for relation in graph.relations:
            self._between[relation.subject, relation.object].append(relation.relation)

    def true(self, statement: Statement) -> bool | None:
        """Whether a statement is true of the image; None if the annotation does not tell."""
        pairs = [
            (one, other)
            for one in self.named(statement.subject)
            for other in self.named(statement.object)
            if one != other
        ]
        if not pairs and self.rules.denies(statement.relation) and self.named(statement.subject):
            return None
        told = {self._pair(one, other, statement.relation) for one, other in pairs}
        if True in told:
            return True
        return None if None in told else False

    def named(self, phrase: str) -> list[int]:
        """Entities that a phrase may name: the noun may, and no adjective is known to be false."""
        wanted = take_apart(phrase)
        return [
            index
            for index, thing in enumerate(self._things)
            if self.words.may_be_one(thing.noun, wanted.noun)
            and not any(known_as(thing.adjectives, adjective) is False for adjective in wanted.adjectives)
        ]

    def _pair(self, one: int, other: int, relation: str) -> bool | None:
        """Whether a relation is true of two entities."""
        rules = self.rules
        forward, backward = self._between[one, other], self._between[other, one]
        known = [*forward, *(name for r in backward if (name := rules.converse(r)) is not None)]
        known += [r for r in backward if rules.symmetric(r)]
        box, other_box = self.graph.entities[one].box, self.graph.entities[other].box
        boxes = None if box is None or other_box is None else (box, other_box)
        if (boxes and holds(relation, *boxes)) or any(rules.implies(r, relation) for r in known):
            return True
        if boxes and ruled_out(relation, *boxes):
            return False
        if any(rules.false_with(r, relation) and not self._one_posture(one, r, relation) for r in known):
            return False
        # Annotated the other way round, and not so that it could be true from both sides.
        if any(rules.implies(r, relation) and not rules.symmetric(r) and not rules.denies(r) for r in backward):
            return False
        return None

    def _one_posture(self, subject: int, one: str, other: str) -> bool:
        """Whether two relations are words for one: a vase that sits on a table stands on it, and so does a bird."""
        return self.rules.are_postures(one, other) and not self.words.sits_or_stands(self._things[subject].noun)
