"""How well parsed captions agree with annotated ones: set match and an F1 over tuples, as SPICE counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

from relpretrain.scene_graph.parse.lexicon.lemmas import noun_lemma, verb_lemma
from relpretrain.scene_graph.parse.lexicon.words import listed
from relpretrain.scene_graph.parse.record import ParsedCaption

Fact = tuple[str, ...]
"""(thing,), (thing, attribute) or (subject, relation, object)."""

Meanings = Callable[[str], Collection[str]]
"""Names of what a word may mean; two words are synonyms if they share one."""

KINDS = ("spatial", "verb", "possession", "other")

_NUMBERS = {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6"}
_ARTICLES = listed("a an the")
_SAME = {  # other words for a relation of the FACTUAL annotation's own list
    "beneath": "under", "below": "under", "underneath": "under", "atop": "on top of", "at top of": "on top of",
    "at left of": "at left of", "to left of": "at left of", "on left of": "at left of", "left of": "at left of",
    "at right of": "at right of", "to right of": "at right of", "on right of": "at right of",
    "right of": "at right of", "on left side of": "at left of", "on right side of": "at right of",
    "in middle of": "on middle of", "in center of": "on middle of", "in front": "in front of",
    "on front of": "in front of", "in back of": "on back of", "at side of": "on side of", "in side of": "on side of",
    "by side of": "on side of", "at edge of": "on edge of", "at end of": "on end of", "at bottom of": "on bottom of",
    "in between": "between", "onto": "on", "upon": "on", "inside of": "inside", "outside of": "outside",
    "near to": "near", "towards": "toward", "contain": "have",
}  # fmt: skip
_BESIDE = listed("parked docked gathered seated stopped located placed tied planted stacked")
_SPATIAL = listed(
    "on in under behind above near at over inside beside between by against around across along below beneath beyond "
    "outside alongside through up down from toward off out into past among opposite next close left right top"
)
_POSSESSION = frozenset(("have", "with", "of", "belong to"))


def relation_kind(relation: str) -> str:
    """One of `KINDS`, of a relation as `facts` gives it: what its first word is decides."""
    if relation in _POSSESSION:
        return "possession"
    first = relation.split(" ", 1)[0]
    if first in _SPATIAL:
        return "spatial"
    return "other" if first in ("for", "to", "as", "about", "like", "without", "is") else "verb"


@lru_cache(1 << 16)
def _relation(name: str) -> str:
    """A relation with the infinitive of its verb and without articles."""
    first, *others = name.lower().split()
    verb = verb_lemma(first)
    words = ["lay" if verb == "lie" else verb, *(word for word in others if word not in _ARTICLES)]
    for start in range(len(words)):
        rest = " ".join(words[start:])
        if rest in _SAME:
            words[start:] = _SAME[rest].split()
            break
    return " ".join(words)


@lru_cache(1 << 16)
def _thing(label: str) -> str:
    """A label in the singular, with its words written as one: "surf boards" and "surfboard" are the same thing."""
    return noun_lemma(" ".join(label.lower().split())).replace(" ", "").replace("-", "")


def _attribute(name: str) -> str:
    name = " ".join(name.lower().replace("-", " ").split())
    return _NUMBERS.get(name, name)


def facts(parsed: ParsedCaption) -> frozenset[Fact]:
    """What a record says, in words that do not depend on who says it.

    Things are in the singular, numbers in digits, verbs in the infinitive. "X of Y" is "Y have X", and what is done
    by Y is what Y does, as FACTUAL annotates both (Li et al., 2023, arXiv 2305.17497).
    """
    things = [_thing(entity.label) for entity in parsed.entities]
    said: set[Fact] = {(thing,) for thing in things}
    for thing, entity in zip(things, parsed.entities, strict=True):
        said |= {(thing, _attribute(attribute)) for attribute in entity.attributes}
    for relation in parsed.relations:
        subject, object_ = things[relation.subject], things[relation.object]
        name = relation.relation.lower()
        passive = name.removesuffix(" by")
        if name == "of":
            subject, name, object_ = object_, "have", subject
        elif name in ("covered with", "covered in"):
            subject, name, object_ = object_, "cover", subject
        elif passive != name and _done_by(passive):
            subject, name, object_ = object_, passive, subject
        said.add((subject, _relation(name), object_))
    return frozenset(said)


def _done_by(participle: str) -> bool:
    """Whether "by" after a word names who does it: "pulled by", but not "parked by"."""
    if " " in participle or participle.endswith("ing") or participle in _BESIDE:
        return False
    return verb_lemma(participle) != participle or participle in ("cut", "hit", "put", "read", "set", "spread")


def set_match(parsed: ParsedCaption, truth: ParsedCaption) -> bool:
    """Whether two records say exactly the same."""
    return facts(parsed) == facts(truth)


def f1(parsed: ParsedCaption, truth: ParsedCaption, meanings: Meanings | None = None) -> float:
    """F1 over things, attributes and relations, each counted once, from 0 to 1 (SPICE: Anderson et al., ECCV 2016).

    Args:
        parsed: What a parser made of a caption.
        truth: Its annotation.
        meanings: Facts also agree if the words at each place are synonyms; None compares words.
    """
    ours, theirs = facts(parsed), facts(truth)
    matched = len(ours & theirs)
    if meanings is not None:
        left = sorted(theirs - ours)
        for fact in sorted(ours - theirs):
            other = next((other for other in left if _synonymous(fact, other, meanings)), None)
            if other is not None:
                left.remove(other)
                matched += 1
    return 2 * matched / (len(ours) + len(theirs)) if ours or theirs else 1.0


def _synonymous(one: Fact, other: Fact, meanings: Meanings) -> bool:
    return len(one) == len(other) and all(
        a == b or not set(meanings(a)).isdisjoint(meanings(b)) for a, b in zip(one, other, strict=True)
    )


@dataclass(frozen=True)
class Share:
    """Facts of one kind: how many both have, how many the parser and the annotation have."""

    both: int
    parsed: int
    truth: int

    @property
    def f1(self) -> float:
        """Their F1, from 0 to 1."""
        return 2 * self.both / max(1, self.parsed + self.truth)


def shares(parsed: Sequence[ParsedCaption], truth: Sequence[ParsedCaption]) -> dict[str, Share]:
    """Facts over all captions by kind: "things", "attributes", and `KINDS` of relations.

    Args:
        parsed: What a parser made of the captions.
        truth: Their annotations.
    """
    both: Counter[str] = Counter()
    ours: Counter[str] = Counter()
    theirs: Counter[str] = Counter()
    for one, other in zip(parsed, truth, strict=True):
        said, true = facts(one), facts(other)
        both.update(map(_kind, said & true))
        ours.update(map(_kind, said))
        theirs.update(map(_kind, true))
    return {kind: Share(both[kind], ours[kind], theirs[kind]) for kind in ("things", "attributes", *KINDS)}


def _kind(fact: Fact) -> str:
    return relation_kind(fact[1]) if len(fact) == 3 else ("things", "attributes")[len(fact) - 1]
