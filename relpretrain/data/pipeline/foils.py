"""Foils of a sample's texts: what false texts go into a batch beside the true ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from relpretrain.scene_graph import Relation, SceneGraph
from relpretrain.scene_graph.foils import (
    GRAPH_KINDS,
    KINDS,
    NOUNS,
    SWAPS,
    WORDS,
    Foil,
    Statement,
    Tagger,
    Witness,
    WordRules,
    caption_foils,
    claim_of,
    graph_kinds,
    read_caption,
    triplet_foils,
)

TRIES = 8
"""Further triplets that are looked at for one with a foil."""


class TripletFoil(NamedTuple):
    """A verbalised graph in which one triplet is false: what it claims, and its place among the texts."""

    texts: list[str]
    kind: str
    place: int
    claim: Statement


class Unit(NamedTuple):
    """A short true text of an image, and a false one like it, if there is any; of triplets also what they claim."""

    text: str
    foil: str | None
    claim: Statement | None = None
    foil_claim: Statement | None = None


@dataclass
class FoilWriter:
    """Makes foils of captions and of verbalised graphs, up to a number a text, each of another kind.

    Args:
        per_text: The most foils of a text.
        kinds: What may be changed, of `scene_graph.foils.KINDS`.
        names: Names of things that may stand in the place of others; None for common ones and those of the graph.
        instead: Relations and adjectives that may stand in others' place in triplets; None for all that contradict.
        words: What follows from nouns and adjectives.
        tagger: Finds parts of speech for `swap`; None for the bundled lexicon.
    """

    per_text: int
    kinds: Sequence[str] = GRAPH_KINDS
    names: Sequence[str] | None = None
    instead: Sequence[str] | None = None
    words: WordRules = WORDS
    tagger: Tagger | None = None

    def of_caption(
        self, caption: str, graph: SceneGraph, rng: np.random.Generator, others: Sequence[str] = ()
    ) -> list[tuple[str, str]]:
        """Foils of a caption as (text, kind); the image's graph and other captions tell what is true as well."""
        found: list[tuple[str, str]] = []
        parsed, names = read_caption(caption), NOUNS if self.names is None else self.names
        for kind in self._order(self.kinds, rng):
            if len(found) == self.per_text:
                break
            foils = caption_foils(
                caption, parsed, [kind], rng, names, graph, words=self.words, tagger=self.tagger, others=others
            )
            found += [(foil.text, foil.kind) for foil in foils.values()]
        return found

    def of_triplets(
        self, graph: SceneGraph, told: Mapping[str, Relation], rng: np.random.Generator
    ) -> list[TripletFoil]:
        """Foils of a verbalised graph: its triplets' texts, of which one is made false.

        Args:
            graph: The image's graph.
            told: The text of each triplet, in their order, and the relation that it was made of.
            rng: Source of randomness.
        """
        witness, found = Witness(graph, words=self.words), list[TripletFoil]()
        names = [*NOUNS, *(e.label for e in graph.entities)] if self.names is None else self.names
        texts = list(told)
        for kinds in self._ways(rng):
            if len(found) == self.per_text:
                break
            for place in rng.permutation(len(texts)).tolist():
                foil = self._first(graph, told[texts[place]], kinds, rng, names, witness)
                if foil is not None and foil.kind not in {other.kind for other in found}:
                    assert foil.claim is not None  # it is of a triplet
                    told_falsely = [*texts[:place], foil.text, *texts[place + 1 :]]
                    found.append(TripletFoil(told_falsely, foil.kind, place, foil.claim))
                    break
        return found

    def units_of_graph(self, graph: SceneGraph, count: int, rng: np.random.Generator) -> list[Unit]:
        """Up to `count` triplets of a graph in words, each with a foil, those that have one first."""
        witness, found = Witness(graph, words=self.words), dict[str, Unit]()
        names = [*NOUNS, *(e.label for e in graph.entities)] if self.names is None else self.names
        without: dict[str, Unit] = {}
        for index in rng.permutation(len(graph.relations))[: count + TRIES].tolist():
            true = claim_of(graph, graph.relations[index])
            if len(found) == count or true.text in found:
                continue
            made = (self._first(graph, graph.relations[index], w, rng, names, witness) for w in self._ways(rng))
            foil = next((foil for foil in made if foil is not None), None)
            if foil is None:
                without.setdefault(true.text, Unit(true.text, None, true))
            else:
                found[true.text] = Unit(true.text, foil.text, true, foil.claim)
        return [*found.values(), *without.values()][:count]

    def units_of_captions(
        self, captions: Sequence[str], graph: SceneGraph, count: int, rng: np.random.Generator
    ) -> list[Unit]:
        """Up to `count` sentences of an image's captions, in a random order, each with a foil where it has one."""
        texts = list(dict.fromkeys(s for caption in captions for s in sentences(caption)))
        chosen = [texts[i] for i in rng.permutation(len(texts))[:count].tolist()]
        units = []
        for text in chosen:
            others = [other for other in texts if other != text]
            foils = replace(self, per_text=1).of_caption(text, graph, rng, others)
            units.append(Unit(text, foils[0][0] if foils else None))
        return units

    def _ways(self, rng: np.random.Generator) -> list[list[str]]:
        """The kinds that triplets have, in random order; of what `swap` is of them, one will do."""
        wanted = self._order([kind for kind in self.kinds if graph_kinds([kind])], rng)
        return [self._order(SWAPS, rng) if kind == "swap" else [kind] for kind in wanted]

    def _first(
        self,
        graph: SceneGraph,
        relation: Relation,
        kinds: Sequence[str],
        rng: np.random.Generator,
        names: Sequence[str],
        witness: Witness,
    ) -> Foil | None:
        """A triplet's foil of the first of some kinds that it has."""
        for kind in kinds:
            foils = triplet_foils(graph, relation, [kind], rng, names, witness=witness, instead=self.instead)
            if kind in foils:
                return foils[kind]
        return None

    def _order(self, kinds: Sequence[str], rng: np.random.Generator) -> list[str]:
        return [kinds[i] for i in rng.permutation(len(kinds)).tolist()]


def sentences(caption: str) -> list[str]:
    """The sentences of a long caption (DreamLIP's: at full stops and ends of lines)."""
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", caption) if part.strip(" .")]


def kind_number(kind: str) -> int:
    """The number of a kind of foil in batches."""
    return KINDS.index(kind)
