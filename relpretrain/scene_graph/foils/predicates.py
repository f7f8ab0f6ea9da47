"""What follows from a relation between two things: which others are true, which are false."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cache, lru_cache

from relpretrain.scene_graph.errors import FlipRefused
from relpretrain.scene_graph.geometry import normalise
from relpretrain.scene_graph.mirror import mentions_side, mirror_relation

SAME = (
    ("on", "on top of", "atop", "upon", "onto"),
    ("in", "inside", "inside of", "within", "into"),
    ("under", "below", "beneath", "underneath"),
    ("above", "over"),
    ("next to", "beside", "near", "by", "close to", "adjacent to", "nearby", "alongside", "at"),
    ("in front of", "in the front of", "before"),
    ("behind", "in back of", "at the back of"),
    ("wear", "have on", "dress in"),
    ("hold", "grip", "grab", "carry"),
    ("look at", "watch", "stare at", "face", "view", "look toward", "look towards"),
    ("have", "own", "with"),
    ("contain", "enclose", "surround", "around"),
    ("larger than", "bigger than"),
    ("left of", "to the left of", "on the left of", "left side of", "on the left side of"),
    ("right of", "to the right of", "on the right of", "right side of", "on the right side of"),
    ("lie on", "lay on"),
    ("use", "operate"),
    ("attached to", "connected to", "mounted on", "fixed to"),
)
"""Relations that mean the same, or so nearly that one cannot be called false where the other is true."""

SYMMETRIC = (
    *("next to", "touch", "with", "and", "between", "opposite", "across from", "far from", "attached to", "facing"),
    *("kiss", "hug", "embrace", "play with", "talk to", "talk with", "speak to", "fight", "shake hands with", "meet"),
    *("look at", "against", "lean against", "match", "like", "similar to", "same as", "along", "together with"),
    *("play", "race", "dance with", "walk with", "run with", "stand with", "sit with", "overlap", "intersect"),
)
"""Relations that are true, or may well be, from both sides: exchanging the two things makes no false statement."""

CONVERSE = (
    ("above", "under"),
    ("in front of", "behind"),
    ("in", "contain"),
    ("larger than", "smaller than"),
    ("taller than", "shorter than"),
    ("follow", "followed by"),
    ("left of", "right of"),
)
"""Pairs for which "a R b" says what "b R' a" says, in the first spelling of `SAME`."""

CONTRADICTS = (
    ("left of", "right of"),
    ("above", "under"),
    ("in front of", "behind"),
    ("on", "under"),
    ("in", "outside of"),
    ("next to", "far from"),
    ("on", "far from"),
    ("in", "far from"),
    ("larger than", "smaller than"),
    ("taller than", "shorter than"),
    ("with", "without"),
    ("pushing", "pulling"),
    ("entering", "leaving"),
    ("opening", "closing"),
    ("throwing", "catching"),
    ("walking toward", "walking away from"),
    ("looking at", "looking away from"),
    ("sitting on", "standing on"),
    ("sitting on", "lying on"),
    ("standing on", "lying on"),
    ("sitting in", "standing in"),
    ("sitting in", "lying in"),
    ("standing in", "lying in"),
    ("sitting at", "standing at"),
    ("sitting next to", "standing next to"),
    ("sitting under", "standing under"),
    ("sitting behind", "standing behind"),
    ("sitting in front of", "standing in front of"),
    ("full of", "empty of"),
)
"""Pairs of which both cannot be true of one thing and another."""

DENYING = ("without", "missing", "lacking", "empty of", "free of")
"""Relations to things that are not there: "a man without a dog" is true of an image that has no dog."""

_SKIPPED = {
    *("is", "are", "was", "were", "be", "been", "being", "a", "an", "the"),
    *("directly", "just", "very", "immediate", "hand", "side"),
}
_STRESS = re.compile(r"\b(?:right (?=next|behind|in|above|below|under|beside|on|by|at|near)|far (?=left|right))")
_POSTURES = {"sit", "stand", "li"}
_PLACED = ("sitting", "standing", "lying", "seated", "parked", "eating", "waiting", "working", "stopped", "gathered")
_IRREGULAR = {"lying": "li", "lie": "li", "lies": "li", "has": "hav", "have": "hav", "sat": "sit", "stood": "stand"}


class PredicateRules:
    """What follows from relations, by tables of words.

    Relations are compared without articles, auxiliaries and endings of verbs: "is sitting on" and "sits on" are one.

    Args:
        same: Groups of relations that mean (nearly) the same.
        symmetric: Relations that may be true from both sides.
        converse: Pairs for which "a R b" says what "b R' a" says.
        contradicts: Pairs of which only one can be true of one thing and another.
        denying: Relations to things that are not there.
    """

    def __init__(
        self,
        same: Iterable[tuple[str, ...]] = SAME,
        symmetric: Iterable[str] = SYMMETRIC,
        converse: Iterable[tuple[str, str]] = CONVERSE,
        contradicts: Iterable[tuple[str, str]] = CONTRADICTS,
        denying: Iterable[str] = DENYING,
    ) -> None:
        self._first = {stem(name): stem(group[0]) for group in same for name in group}
        self._symmetric = {self.key(name) for name in symmetric}
        self._denying = {self.key(name) for name in denying}
        self._converse: dict[str, str] = {}
        self._spelling: dict[str, str] = {}
        for one, other in converse:
            self._converse |= {self.key(one): other, self.key(other): one}
        self._contradicts: dict[str, list[str]] = defaultdict(list)
        for one, other in contradicts:
            self._contradicts[self.key(one)].append(other)
            self._contradicts[self.key(other)].append(one)
        self._false = {key: {self.key(name) for name in names} for key, names in self._contradicts.items()}

    def key(self, relation: str) -> str:
        """One name for all spellings of a relation."""
        return self._first.get(stem(relation), stem(relation))

    def same(self, one: str, other: str) -> bool:
        """Whether two relations mean the same."""
        return self.key(one) == self.key(other)

    def symmetric(self, relation: str) -> bool:
        """Whether a relation may be true from both sides ("next to", "hugging", "smiling at")."""
        mutual = self.key(relation) in self._symmetric or self._end(relation) in self._symmetric
        return mutual or stem(relation).endswith(" at")

    def converse(self, relation: str) -> str | None:
        """The relation R' for which "a R b" says what "b R' a" says; None if none is known."""
        return self._converse.get(self.key(relation))

    def implies(self, relation: str, other: str) -> bool:
        """Whether `other` is true wherever `relation` is: the same, or what it ends with ("sitting on" is "on")."""
        return self.key(other) in (self.key(relation), self._end(relation))

    def false_with(self, relation: str, other: str) -> bool:
        """Whether `other` is false of two things of which `relation` is true."""
        false = self._false.get(self.key(relation), set()) | self._false.get(self._end(relation), set())
        return self.key(other) in false or self._end(other) in false

    def denies(self, relation: str) -> bool:
        """Whether a relation says that its object is not there ("without", "walking without")."""
        return self.key(relation) in self._denying or self._end(relation) in self._denying

    def are_postures(self, one: str, other: str) -> bool:
        """Whether two relations both say that a thing sits, stands or lies."""
        return all(self.key(relation).partition(" ")[0] in _POSTURES for relation in (one, other))

    def contradicting(self, relation: str) -> list[str]:
        """Relations that are false wherever `relation` is true, in plain words; none for most verbs.

        Left and right are exchanged within the words that are there: "to the left of" gives "to the right of".
        """
        if mentions_side(relation):
            try:
                mirrored = mirror_relation(relation)
            except FlipRefused:
                return []
            return [mirrored] if mirrored != relation else []
        names = [*self._contradicts.get(self.key(relation), ()), *self._contradicts.get(self._end(relation), ())]
        return list(dict.fromkeys(names))

    def _end(self, relation: str) -> str:
        """The preposition that a relation of several words ends with; empty if it is one word.

        "at" tells of a place after verbs of place alone: who looks or points at something may be far from it.
        """
        words = stem(relation).split()
        for start in range(1, len(words)):
            end = " ".join(words[start:])
            if end == "at" and words[start - 1] not in _at_a_place():
                continue
            if self._first.get(end) or end in self._false:
                return self._first.get(end, end)
        return ""


@cache
def _at_a_place() -> frozenset[str]:
    return frozenset(map(stem, _PLACED))


@lru_cache(maxsize=8192)
def stem(relation: str) -> str:
    """A relation without articles, auxiliaries, stress and the endings of verbs: for comparing, not for showing."""
    text = _STRESS.sub("", normalise(relation).replace("_", " "))
    words = [word for word in text.split() if word not in _SKIPPED]
    return " ".join(map(_stem_word, words)) or normalise(relation)


def _stem_word(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    for ending in ("ing", "ies", "es", "ed", "s"):
        root = word.removesuffix(ending)
        if root != word and len(root) >= 3 - (ending == "ing" and word[0] in "aeiou") and not word.endswith("ss"):
            if len(root) > 3 and root[-1] == root[-2] and root[-1] not in "ls" and ending in ("ing", "ed"):
                root = root[:-1]  # sitting, hugged
            word = root
            break
    return re.sub(r"(?<=..)(?:e|i|y)$", "", word)


RULES = PredicateRules()
"""Those of plain English."""
