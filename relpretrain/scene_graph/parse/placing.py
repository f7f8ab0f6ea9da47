"""Where a caption says what a graph without places says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from relpretrain.scene_graph.parse.lexicon.lemmas import noun_lemma, participle, verb_lemma
from relpretrain.scene_graph.parse.lexicon.tokens import Token, tokenise
from relpretrain.scene_graph.parse.lexicon.words import PREPOSITIONS, listed
from relpretrain.scene_graph.parse.record import ParsedCaption, ParsedEntity, ParsedRelation

_ARTICLES = listed("a an the")


def place_in(caption: str, graph: ParsedCaption, confidence: float) -> ParsedCaption:
    """Find a graph's things and relations in its caption by their lemmas; those that it does not hold keep None.

    Things become singular, and verbs take the caption's form, so that "sit on" is "sitting on" and "attach to" is
    "attached to".

    Args:
        caption: The caption.
        graph: Its graph; predicates are in the infinitive.
        confidence: That of every triplet.
    """
    tokens = tokenise(caption)
    nouns = [noun_lemma(token.text) for token in tokens]
    verbs = [verb_lemma(token.text) for token in tokens]
    taken: set[int] = set()
    entities = []
    for entity in graph.entities:
        label = noun_lemma(entity.label)
        places = _find(nouns, [noun_lemma(word) for word in label.split()], taken)
        taken.update(places)
        span = (tokens[places[0]].start, tokens[places[-1]].end) if places else None
        entities.append(ParsedEntity(label, span, entity.attributes))
    relations = []
    for relation in graph.relations:
        places = _relation(verbs, tokens, relation.relation.split(), entities[relation.subject].span)
        name = _named(relation.relation, tokens[places[0]].text if places else None)
        span = (tokens[places[0]].start, tokens[places[-1]].end) if places else None
        relations.append(ParsedRelation(relation.subject, name, relation.object, span, confidence))
    return replace(graph, entities=tuple(entities), relations=tuple(relations))


def _find(lemmas: Sequence[str], wanted: Sequence[str], taken: set[int]) -> list[int]:
    """The first place of words in a row of which none is taken; words that the caption writes as one are one."""
    for words in (list(wanted), ["".join(wanted)]):
        for start in range(len(lemmas) - len(words) + 1):
            places = list(range(start, start + len(words)))
            if lemmas[start : start + len(words)] == words and not taken.intersection(places):
                return places
    return []


def _relation(
    verbs: Sequence[str], tokens: Sequence[Token], words: list[str], near: tuple[int, int] | None
) -> list[int]:
    """Places of a relation's words: the ones in a row, articles aside, that begin nearest to its subject."""
    wanted = [word for word in words if word not in _ARTICLES] or words
    first = {"lay", "lie"} if verb_lemma(wanted[0]) in ("lay", "lie") else {wanted[0], verb_lemma(wanted[0])}
    found = []
    for start in range(len(tokens)):
        if verbs[start] not in first and tokens[start].text not in first:
            continue
        places, place = [start], start + 1
        for word in wanted[1:]:
            while place < len(tokens) and tokens[place].text in _ARTICLES:
                place += 1
            if place >= len(tokens) or word not in (tokens[place].text, verbs[place]):
                break
            places.append(place)
            place += 1
        found.append(places)
    after = near[1] if near is not None else 0
    return max(found, key=lambda places: (len(places), -abs(tokens[places[0]].start - after)), default=[])


def _named(relation: str, form: str | None) -> str:
    """The relation with its verb as a participle, the one that the caption has if it has one."""
    first, *others = relation.split()
    if first in PREPOSITIONS or first in ("have", "next", "close"):
        return " ".join(["has" if first == "have" else first, *others])
    if form is None or form == first or (form.endswith("s") and not form.endswith("ss")):
        form = participle(verb_lemma(first))
    return " ".join([form, *others])
