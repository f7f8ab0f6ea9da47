"""Foils of whole texts: a caption with one thing changed, by the places of its words (NegCLIP, TSVLC, FSC-CLIP)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from relpretrain.scene_graph.entity import Entity, Relation
from relpretrain.scene_graph.foils.edits import Edit, edited, reads_alike
from relpretrain.scene_graph.foils.graph import KINDS, TRIES, Foil, drawn, shuffled
from relpretrain.scene_graph.foils.nouns import WORDS, WordRules, take_apart
from relpretrain.scene_graph.foils.predicates import RULES, PredicateRules
from relpretrain.scene_graph.foils.swap import Tagger, swapped
from relpretrain.scene_graph.foils.truth import Statement, Witness
from relpretrain.scene_graph.foils.words import ANYTHING
from relpretrain.scene_graph.graph import SceneGraph
from relpretrain.scene_graph.parse.record import ParsedCaption, ParsedEntity

_NEAR = 60
"""Characters before a thing's name that may hold its attributes."""


class _Change(NamedTuple):
    """A candidate: what is edited, and what the caption then says of the things that are concerned."""

    edits: tuple[Edit, ...]
    parsed: ParsedCaption
    new: tuple[str, ...] = ()  # nouns and adjectives that the caption did not have


def graph_of(parsed: ParsedCaption) -> SceneGraph:
    """The scene graph, without boxes, of a parsed caption."""
    entities = tuple(Entity(e.label, None, e.attributes) for e in parsed.entities)
    return SceneGraph(entities, tuple(Relation(r.subject, r.relation, r.object) for r in parsed.relations))


def caption_foils(
    caption: str,
    parsed: ParsedCaption,
    kinds: Sequence[str] = KINDS,
    rng: np.random.Generator | None = None,
    names: Sequence[str] = (),
    graph: SceneGraph | None = None,
    rules: PredicateRules = RULES,
    words: WordRules = WORDS,
    tagger: Tagger | None = None,
    others: Sequence[str] = (),
) -> dict[str, Foil]:
    """One foil of each kind that a caption has.

    A changed caption is a foil if at least one of the statements that were changed is certainly false of the image: "a
    dog and a cat" is none of "a cat and a dog", nor "a table next to a chair" of "a chair next to a table".

    Args:
        caption: The text.
        parsed: What it says, with the places of its words; without places there are no foils but `order` and `swap`.
        kinds: Those that are wanted, of `KINDS`.
        rng: Source of randomness among the candidates of a kind; None takes the first, and no `order`.
        names: Names of things that may stand in the place of one of the caption's.
        graph: What else is known of the image: its annotation.
        rules: What follows from relations.
        words: What follows from nouns and adjectives.
        tagger: Finds parts of speech for the kind `swap`; None for the bundled lexicon.
        others: Further texts that are true of the image: no foil is one of them, and nothing is put into a caption that
            they speak of.

    Returns:
        Foils by kind, in the order of `kinds`.
    """
    known = graph_of(parsed) if graph is None else merged(graph, graph_of(parsed))
    witness = Witness(known, rules, words)
    spoken = _spoken_of(others)
    found: dict[str, Foil] = {}
    for kind in kinds:
        for change in _changes(kind, caption, parsed, names, rng, rules, words):
            text = edited(caption, change.edits)
            if any(words.may_be_one(word, noun) or words.alike(word, noun) for noun in change.new for word in spoken):
                continue
            if not any(reads_alike(text, true) for true in (caption, *others)) and _false(
                parsed, change.parsed, witness
            ):
                found[kind] = Foil(text, kind)
                break
        other = None
        if kind == "order" and rng is not None:
            other = disordered(caption, rng)
        elif kind == "swap":
            other = swapped(caption, rng, tagger, witness, rules, words)
        if other is not None and not any(reads_alike(other, true) for true in others):
            found[kind] = Foil(other, kind)
    return found


def _spoken_of(texts: Sequence[str]) -> set[str]:
    """The words of texts, without those that name anything."""
    return {word for text in texts for word in re.findall(r"[\w'-]+", text.lower())} - set(ANYTHING.split())


def merged(one: SceneGraph, other: SceneGraph) -> SceneGraph:
    """Both graphs' entities and relations, side by side."""
    shift = len(one.entities)
    moved = (Relation(r.subject + shift, r.relation, r.object + shift) for r in other.relations)
    return SceneGraph((*one.entities, *other.entities), (*one.relations, *moved))


def disordered(text: str, rng: np.random.Generator) -> str | None:
    """The words in another order, two neighbours at a time (FSC-CLIP's shuffle); None if there is no other order."""
    words = text.split()
    pairs = [words[i : i + 2] for i in range(0, len(words), 2)]
    for _ in range(TRIES):
        order = rng.permutation(len(pairs)).tolist()
        moved = [word for i in order for word in pairs[i]]
        if not reads_alike(" ".join(moved), text):
            return " ".join(moved)
    return None


def _changes(
    kind: str,
    caption: str,
    parsed: ParsedCaption,
    names: Sequence[str],
    rng: np.random.Generator | None,
    rules: PredicateRules,
    words: WordRules,
) -> Iterator[_Change]:
    """What may be a foil of one kind, in the order in which it is tried."""
    entities = parsed.entities
    placed = [i for i, entity in enumerate(entities) if entity.span is not None]
    if kind == "swap_so":
        for i, j in _pairs(placed, rng):
            yield _exchange(parsed, i, j)
    elif kind == "rel_replace":
        for n in shuffled([n for n, r in enumerate(parsed.relations) if r.span is not None], rng):
            relation = parsed.relations[n]
            for name in shuffled(rules.contradicting(relation.relation), rng):
                changed = (*parsed.relations[:n], replace(relation, relation=name), *parsed.relations[n + 1 :])
                assert relation.span is not None  # those without were left out
                yield _Change(((*relation.span, name),), replace(parsed, relations=changed))
    elif kind in ("subj_replace", "obj_replace"):
        ends = {r.subject if kind == "subj_replace" else r.object for r in parsed.relations}
        for i in shuffled([i for i in placed if i in ends], rng):
            for name in drawn(names, TRIES, rng):
                if not words.may_be_one(take_apart(name).noun, entities[i].label):
                    change = _with(parsed, i, _edit(entities[i], name), label=name)
                    yield change._replace(new=(take_apart(name).noun,))
    elif kind == "attr_replace":
        for i in shuffled(placed, rng):
            for place, adjective in _adjectives(caption, entities[i], words):
                for other in shuffled(words.instead_of(adjective), rng):
                    attributes = tuple(other if a == adjective else a for a in entities[i].attributes)
                    change = _with(parsed, i, (place, place + len(adjective), other), attributes=attributes)
                    yield change._replace(new=(other,))
    elif kind == "attr_swap":
        for i, j in _pairs(placed, rng):
            for at_i, a in _adjectives(caption, entities[i], words):
                for at_j, b in _adjectives(caption, entities[j], words):
                    if b in words.instead_of(a):
                        of_i = tuple(b if x == a else x for x in entities[i].attributes)
                        of_j = tuple(a if x == b else x for x in entities[j].attributes)
                        first = _with(parsed, i, (at_i, at_i + len(a), b), attributes=of_i)
                        second = _with(first.parsed, j, (at_j, at_j + len(b), a), attributes=of_j)
                        yield _Change((*first.edits, *second.edits), second.parsed)


def _exchange(parsed: ParsedCaption, i: int, j: int) -> _Change:
    """Two things in each other's places; attributes stay where they are."""
    one, other = parsed.entities[i], parsed.entities[j]
    first = _with(parsed, i, _edit(one, other.label), label=other.label)
    second = _with(first.parsed, j, _edit(other, one.label), label=one.label)
    return _Change((*first.edits, *second.edits), second.parsed)


def _edit(entity: ParsedEntity, words: str) -> Edit:
    assert entity.span is not None  # callers ask only for things with a place
    return (*entity.span, words)


def _with(parsed: ParsedCaption, i: int, edit: Edit, **changes: object) -> _Change:
    entities = list(parsed.entities)
    entities[i] = replace(entities[i], **changes)  # type: ignore[arg-type]
    return _Change((edit,), replace(parsed, entities=tuple(entities)))


def _adjectives(caption: str, entity: ParsedEntity, words: WordRules) -> Iterator[tuple[int, str]]:
    """Where a thing's attributes stand before its name, of those that have an opposite."""
    assert entity.span is not None  # as above
    start = max(0, entity.span[0] - _NEAR)
    part = caption[start : entity.span[1]].lower()
    for attribute in entity.attributes:
        places = [m.start() for m in re.finditer(rf"(?<!\w){re.escape(attribute.lower())}(?!\w)", part)]
        if places and words.instead_of(attribute):
            yield start + places[-1], attribute


def _false(true: ParsedCaption, changed: ParsedCaption, witness: Witness) -> bool:
    """Whether one of the statements that a change has made is certainly false of the image."""
    for before, after in zip(_statements(true), _statements(changed), strict=True):
        if before != after and witness.true(after) is False:
            return True
    concerned = {i for r in changed.relations for i in (r.subject, r.object)}
    alone = [i for i, e in enumerate(changed.entities) if e != true.entities[i] and i not in concerned]
    # Of a thing in no relation the caption says that it is there. Where two change places, both still are.
    return len(alone) > 0 and any(not witness.named(_phrase(changed.entities[i])) for i in alone)


def _statements(parsed: ParsedCaption) -> list[Statement]:
    phrases = [_phrase(entity) for entity in parsed.entities]
    return [Statement(phrases[r.subject], r.relation, phrases[r.object]) for r in parsed.relations]


def _phrase(entity: ParsedEntity) -> str:
    return " ".join([*entity.attributes, entity.label])


def _pairs(items: Sequence[int], rng: np.random.Generator | None) -> list[tuple[int, int]]:
    return shuffled([(i, j) for n, i in enumerate(items) for j in items[n + 1 :]], rng)[:TRIES]
