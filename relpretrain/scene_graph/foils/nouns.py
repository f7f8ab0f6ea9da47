"""Names of things: which may name the same thing, and what adjectives in them say."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from relpretrain.scene_graph.foils.words import ALIASES, ALIKE, ANYTHING, BROADER, FAMILIES, MIXED_UP
from relpretrain.scene_graph.geometry import normalise

_FAMILIES = {name: adjectives.split() for name, adjectives in FAMILIES.items()}
_ANY = frozenset(ANYTHING.split())
_GROUPS: dict[str, set[int]] = {}
for _number, _group in enumerate(MIXED_UP):
    for _name in _group.split():
        _GROUPS.setdefault(_name, set()).add(_number)
_KINDS = {name: frozenset(kinds.split()) for name, kinds in BROADER.items()}
_BIRDS = _KINDS["bird"] | {"bird"}
_SITTING = frozenset(MIXED_UP[0].split()) | (_KINDS["animal"] | {"animal", "pet"}) - _BIRDS
_FAMILY_OF = {word: name for name, adjectives in _FAMILIES.items() for word in adjectives}
_IRREGULAR = {"men": "man", "women": "woman", "people": "person", "children": "child", "feet": "foot", "teeth": "tooth"}


NOUNS = tuple(sorted({name for group in (*MIXED_UP, *BROADER.values()) for name in group.split()}))
"""Names of common things, for the place of another one in a foil."""


class Phrase(NamedTuple):
    """A name of a thing, taken apart: adjectives of `FAMILIES`, and the rest without them."""

    adjectives: tuple[str, ...]
    noun: str


@lru_cache(maxsize=16384)
def take_apart(label: str) -> Phrase:
    """Take the leading adjectives off a label: "red wooden chair" is a chair that is red and wooden."""
    words = normalise(label).split()
    adjectives = []
    while len(words) > 1 and words[0] in _FAMILY_OF:
        adjectives.append(words.pop(0))
    return Phrase(tuple(adjectives), " ".join(words))


@lru_cache(maxsize=65536)
def may_be_one(one: str, other: str) -> bool:
    """Whether two nouns may name one thing: equal but for number, one a kind of the other, or often mixed up.

    Of nouns of several words the last ones are compared ("tennis player" is a player), and one that holds the other's
    words is a kind of it.
    """
    one, other = singular(one), singular(other)
    if one == other:
        return True
    words, others = one.split(), other.split()
    if set(words) <= set(others) or set(others) <= set(words):
        return True
    last, other_last = (ALIASES.get(noun, noun) for noun in (words[-1], others[-1]))
    if last == other_last or {last, other_last} & _ANY or _GROUPS.get(last, set()) & _GROUPS.get(other_last, set()):
        return True
    return other_last in _KINDS.get(last, ()) or last in _KINDS.get(other_last, ())


def singular(noun: str) -> str:
    """The singular of a noun's last word, roughly: enough to compare."""
    noun = normalise(noun)
    first, _, last = noun.rpartition(" ")
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif last.endswith("ies") and len(last) > 4:
        last = last[:-3] + "y"
    elif last.endswith(("ches", "shes", "sses", "xes")):
        last = last[:-2]
    elif last.endswith("s") and not last.endswith(("ss", "us", "is")) and len(last) > 3:
        last = last[:-1]
    return f"{first} {last}".strip()


def family(adjective: str) -> str | None:
    """The family of an adjective, None if it has none."""
    return _FAMILY_OF.get(normalise(adjective))


def excludes(one: str, other: str) -> bool:
    """Whether a thing that is `one` is not `other`: two adjectives of a family that nobody uses for the same."""
    one, other = normalise(one), normalise(other)
    if one == other or family(one) is None or family(one) != family(other):
        return False
    return not any({one, other} <= group for group in ALIKE)


def instead_of(adjective: str) -> list[str]:
    """Adjectives that are false where this one is true; empty if none is known."""
    kin = _FAMILIES.get(family(adjective) or "", [])
    return [other for other in kin if excludes(adjective, other)]


def known_as(adjectives: Iterable[str], wanted: str) -> bool | None:
    """Whether a thing of some adjectives is `wanted`: yes, no where it is another one of the family, else unknown."""
    have = {normalise(a) for a in adjectives}
    if wanted in have or any({wanted, a} <= group for group in ALIKE for a in have):
        return True
    return False if any(excludes(a, wanted) for a in have) else None


class WordRules:
    """What follows from nouns and adjectives, by the tables of `words`. `wordnet` knows more."""

    def may_be_one(self, one: str, other: str) -> bool:
        """Whether two nouns may name one thing: `may_be_one`."""
        return may_be_one(one, other)

    def sits_or_stands(self, noun: str) -> bool:
        """Whether a thing that sits is not said to stand: a person or an animal, but for birds."""
        return singular(noun).rpartition(" ")[2] in _SITTING

    def alike(self, one: str, other: str) -> bool:
        """Whether people use two adjectives for the same."""
        return known_as((one,), normalise(other)) is True

    def instead_of(self, adjective: str) -> list[str]:
        """Adjectives that are false where this one is true; empty if none is known."""
        return [other for other in instead_of(adjective) if not self.alike(adjective, other)]


WORDS = WordRules()
"""Those of the tables alone."""
