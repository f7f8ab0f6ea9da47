"""Foils of a triplet: statements with one thing changed, and never true of the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from relpretrain.errors import suggest
from relpretrain.scene_graph.entity import Relation
from relpretrain.scene_graph.foils.nouns import Phrase, excludes, take_apart
from relpretrain.scene_graph.foils.predicates import RULES, PredicateRules
from relpretrain.scene_graph.foils.truth import Statement, Witness, claim_of
from relpretrain.scene_graph.graph import SceneGraph

_Item = TypeVar("_Item")

GRAPH_KINDS = ("swap_so", "rel_replace", "subj_replace", "obj_replace", "attr_swap", "attr_replace")
"""What a foil of a triplet changes: subject and object exchanged; the relation, subject or object replaced; adjectives
exchanged; an adjective replaced."""

KINDS = (*GRAPH_KINDS, "order", "swap")
"""All kinds: of whole texts also words in another order, and two parts of a caption exchanged, whatever they are."""

SWAPS = ("swap_so", "attr_swap")
"""What `swap` is of a triplet: exchanges that its graph shows to be false."""

TRIES = 8
"""Names that are tried in the place of a thing's own, before a foil is given up."""


class Foil(NamedTuple):
    """A false text, and what was changed to make it; of a triplet also the parts of the text."""

    text: str
    kind: str
    claim: Statement | None = None


def graph_kinds(kinds: Sequence[str]) -> list[str]:
    """The kinds that triplets have of those that are wanted, with `SWAPS` for `swap`."""
    meant = (kind for wanted in kinds for kind in (SWAPS if wanted == "swap" else (wanted,)))
    return list(dict.fromkeys(kind for kind in meant if kind in GRAPH_KINDS))


def check_kinds(kinds: Sequence[str], known: Sequence[str] = KINDS) -> tuple[str, ...]:
    """The kinds of foils that a setting names.

    Raises:
        ValueError: If one of them is none, or there are none.
    """
    for kind in kinds:
        if kind not in known:
            raise ValueError(f"{kind!r} is no kind of foil; choose from {', '.join(known)}{suggest(kind, known)}")
    if not kinds:
        raise ValueError(f"no kind of foil is named; choose from {', '.join(known)}")
    return tuple(kinds)


def triplet_foils(
    graph: SceneGraph,
    relation: Relation,
    kinds: Sequence[str] = GRAPH_KINDS,
    rng: np.random.Generator | None = None,
    names: Sequence[str] = (),
    rules: PredicateRules = RULES,
    witness: Witness | None = None,
    instead: Sequence[str] | None = None,
) -> dict[str, Foil]:
    """One foil of each kind that a triplet has, none of them true of the image as far as its graph tells.

    Args:
        graph: The image's annotation.
        relation: One of its triplets.
        kinds: Those that are wanted, of `GRAPH_KINDS`.
        rng: Source of randomness among the candidates of a kind; None takes the first.
        names: Names of things that may stand in the place of a subject or object, beside those of the graph itself.
        rules: What follows from relations.
        witness: The graph's, if it was made before: its rules are then used.
        instead: Relations and adjectives that may stand in the place of others; None for all that contradict them.

    Returns:
        Foils by kind, in the order of `kinds`. A kind of which no candidate is certainly false is left out.
    """
    witness = witness or Witness(graph, rules)
    true = claim_of(graph, relation)
    found: dict[str, Foil] = {}
    for kind in kinds:
        for candidate in _candidates(kind, true, names or _labels(graph), rng, witness, instead):
            if candidate.text != true.text and witness.true(candidate) is False:
                found[kind] = Foil(candidate.text, kind, candidate)
                break
    return found


def _candidates(
    kind: str,
    true: Statement,
    names: Sequence[str],
    rng: np.random.Generator | None,
    witness: Witness,
    instead: Sequence[str] | None,
) -> Iterator[Statement]:
    """What may be a foil of one kind, in the order in which it is tried."""
    rules, words = witness.rules, witness.words
    if kind == "swap_so":
        if not rules.symmetric(true.relation):
            yield Statement(true.object, true.relation, true.subject)
    elif kind == "rel_replace":
        false = rules.contradicting(true.relation)
        if instead is not None:
            false = [word for word in instead if rules.false_with(true.relation, word)]
        for name in shuffled(false, rng):
            yield true._replace(relation=name)
    elif kind in ("subj_replace", "obj_replace"):
        place = "subject" if kind == "subj_replace" else "object"
        phrase = take_apart(getattr(true, place))
        for name in drawn(names, TRIES, rng):
            if not words.may_be_one(take_apart(name).noun, phrase.noun):
                yield true._replace(**{place: name})
    elif kind == "attr_replace":
        for place in shuffled(["subject", "object"], rng):
            phrase = take_apart(getattr(true, place))
            for adjective in shuffled(phrase.adjectives, rng):
                false = words.instead_of(adjective)
                if instead is not None:
                    false = [word for word in instead if excludes(adjective, word) and not words.alike(adjective, word)]
                for other in shuffled(false, rng):
                    yield true._replace(**{place: _with(phrase, adjective, other)})
    elif kind == "attr_swap":
        one, two = take_apart(true.subject), take_apart(true.object)
        for a in shuffled(one.adjectives, rng):
            for b in shuffled(two.adjectives, rng):
                if b in words.instead_of(a):
                    yield Statement(_with(one, a, b), true.relation, _with(two, b, a))


def _with(phrase: Phrase, adjective: str, other: str) -> str:
    """The phrase with an adjective in the place of another one."""
    return " ".join([*(other if a == adjective else a for a in phrase.adjectives), phrase.noun])


def _labels(graph: SceneGraph) -> list[str]:
    return sorted({entity.label for entity in graph.entities})


def shuffled(items: Sequence[_Item], rng: np.random.Generator | None) -> list[_Item]:
    """All of them in a random order, or in theirs."""
    return list(items) if rng is None else [items[i] for i in rng.permutation(len(items)).tolist()]


def drawn(items: Sequence[str], k: int, rng: np.random.Generator | None) -> list[str]:
    """Up to k of them; many are not put into a new order for that."""
    if rng is None or len(items) <= k:
        return shuffled(items, rng)[:k]
    return [items[i] for i in rng.integers(len(items), size=k).tolist()]
