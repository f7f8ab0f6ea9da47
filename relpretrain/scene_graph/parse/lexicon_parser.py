"""The parser that needs nothing but its word lists."""

from __future__ import annotations

from collections.abc import Sequence

from relpretrain.scene_graph.parse.clauses import relate
from relpretrain.scene_graph.parse.phrases import items
from relpretrain.scene_graph.parse.record import ParsedCaption, ParsedEntity, ParsedRelation
from relpretrain.scene_graph.parse.tagging import bundled_tags
from relpretrain.scene_graph.parse.tokens import tokenise


class LexiconParser:
    """Finds noun phrases by a lexicon of captions, and relations in the words between them."""

    name = "lexicon"
    version = "1"

    def parse(self, captions: Sequence[str]) -> list[ParsedCaption]:
        """Parse captions, one record each, in their order."""
        return [self._parse(caption) for caption in captions]

    def _parse(self, caption: str) -> ParsedCaption:
        tokens = tokenise(caption)
        phrases, triplets = relate(items(tokens, bundled_tags([token.text for token in tokens])))
        number = {id(phrase): i for i, phrase in enumerate(phrases)}
        entities = tuple(ParsedEntity(p.label, p.span, tuple(p.attributes)) for p in phrases)
        relations = {}
        for t in triplets:
            span = (t.words[0].start, t.words[-1].end) if t.words else None
            relations[number[id(t.subject)], t.relation, number[id(t.object)]] = span
        return ParsedCaption(
            entities, tuple(ParsedRelation(s, name, o, span) for (s, name, o), span in relations.items())
        )
