"""The parser that needs nothing but its word lists."""

from __future__ import annotations

from collections.abc import Sequence

from relpretrain.scene_graph.parse.clauses import relate
from relpretrain.scene_graph.parse.lexicon.lemmas import noun_lemma
from relpretrain.scene_graph.parse.lexicon.tagging import WordNetNouns, bundled_tags, nltk_tagger
from relpretrain.scene_graph.parse.lexicon.tokens import tokenise
from relpretrain.scene_graph.parse.phrases import items
from relpretrain.scene_graph.parse.record import ParsedCaption, ParsedEntity, ParsedRelation


class LexiconParser:
    """Finds noun phrases by a lexicon of captions, and relations in the words between them.

    Args:
        nltk_data: Whether parts of speech come from nltk's tagger and lemmas from WordNet rather than from the
            bundled lists; both are data sets of nltk that are downloaded once.

    Raises:
        ConfigError: If they are asked for and missing; says how to get them.
    """

    name = "lexicon"

    def __init__(self, nltk_data: bool = False) -> None:
        self.version = "3-nltk" if nltk_data else "3"
        self._tags = nltk_tagger() if nltk_data else bundled_tags
        self._noun = WordNetNouns() if nltk_data else noun_lemma

    def parse(self, captions: Sequence[str]) -> list[ParsedCaption]:
        """Parse captions, one record each, in their order."""
        return [self._parse(caption) for caption in captions]

    def _parse(self, caption: str) -> ParsedCaption:
        tokens = tokenise(caption)
        phrases, triplets = relate(items(tokens, self._tags([token.text for token in tokens])))
        number = {id(phrase): i for i, phrase in enumerate(phrases)}
        entities = [ParsedEntity(self._noun(p.name), p.span, tuple(p.attributes)) for p in phrases]
        relations: dict[tuple[int, str, int], ParsedRelation] = {}
        for t in triplets:
            key = number[id(t.subject)], t.relation, number[id(t.object)]
            relations.setdefault(key, ParsedRelation(*key, t.span, t.confidence))
        return ParsedCaption(tuple(entities), tuple(relations.values()))
