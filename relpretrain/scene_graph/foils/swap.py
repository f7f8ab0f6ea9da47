"""Two parts of a caption in each other's places, by parts of speech alone: NegCLIP's negatives (arXiv 2210.01936)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from relpretrain.errors import ConfigError, suggest
from relpretrain.scene_graph.foils.edits import edited, reads_alike
from relpretrain.scene_graph.foils.graph import TRIES, shuffled
from relpretrain.scene_graph.foils.nouns import WORDS, WordRules
from relpretrain.scene_graph.foils.predicates import RULES, PredicateRules
from relpretrain.scene_graph.foils.truth import Statement, Witness
from relpretrain.scene_graph.parse import ParsedCaption, build_parser
from relpretrain.scene_graph.parse.lexicon.words import DENIALS
from relpretrain.scene_graph.parse.record import ParsedEntity

TAGGERS = ("lexicon", "spacy")
"""What finds parts of speech: the bundled lexicon, or spaCy's small English pipeline."""

_LETTERS = {"D": "d", "P": "d", "C": "d", "J": "j", "N": "n", "V": "v", "R": "a"}
_PARTS = {
    "phrase": re.compile("[daj]{2,}n+|[daj]n{2,}|n{3,}"),  # at least three words
    "verb": re.compile("(?:va*)?v+"),
    "singular": re.compile("n"),
    "plural": re.compile("m"),
    "adverb": re.compile("a"),
    "adjective": re.compile("j"),
}
"""The six kinds of parts that are exchanged, by one letter for each word."""
_JOINED = re.compile(r"[\s,;&]*(?:(?:and|or|an?|the)\b[\s,;&]*)*", re.IGNORECASE)
"""What stands between the items of a list."""


class Tagged(NamedTuple):
    """A word of a caption: its first character and the one after its last, and its Penn Treebank tag."""

    start: int
    end: int
    tag: str


Tagger = Callable[[str], Sequence[Tagged]]


def swapped(
    caption: str,
    rng: np.random.Generator | None = None,
    tagger: Tagger | None = None,
    witness: Witness | None = None,
    rules: PredicateRules = RULES,
    words: WordRules = WORDS,
) -> str | None:
    """The caption with two of its parts exchanged, so that it says something else.

    Two phrases of three or more words, verbs with what belongs to them, nouns in the singular or in the plural, adverbs
    or adjectives change places: one of these kinds at random, of those that the caption has two of. NegCLIP keeps
    whatever differs from the caption. Here also left out is what plainly says the same: parts that stand beside each
    other in a list ("a cat and a dog"), the two ends of a symmetric relation, adjectives of one thing, synonyms, and
    what the image's annotation calls true. A caption that denies something is left as it is: where a cat is not on a
    bed, no bed is on a cat. Unlike a foil of `captions`, the rest is not shown to be false.

    Args:
        caption: The text.
        rng: Source of randomness; None takes the first.
        tagger: Finds parts of speech; None for the bundled lexicon.
        witness: What is known of the image.
        rules: What follows from relations.
        words: What follows from nouns and adjectives.

    Returns:
        None if nothing can be exchanged.
    """
    tagged = (tagger or tagged_by_lexicon)(caption)
    if any(caption[word.start : word.end].lower() in DENIALS for word in tagged):
        return None
    letters = "".join(_letter(word.tag) for word in tagged)
    for kind in shuffled(list(_PARTS), rng):
        # Plural nouns are nouns too wherever kinds of nouns are not told apart.
        line = letters if kind in ("singular", "plural") else letters.replace("m", "n")
        parts = [(tagged[m.start()].start, tagged[m.end() - 1].end) for m in _PARTS[kind].finditer(line)]
        pairs = [(one, other) for i, one in enumerate(parts) for other in parts[i + 1 :]]
        for one, other in shuffled(pairs, rng)[:TRIES]:
            text = _exchanged(caption, one, other)
            if not _says_the_same(kind, caption, one, other, text, rules, words) and not _true(caption, text, witness):
                return text
    return None


@cache
def build_tagger(name: str) -> Tagger:
    """A finder of parts of speech by its name, of `TAGGERS`.

    Raises:
        ConfigError: If there is none of that name, or what it needs is not installed.
    """
    if name not in TAGGERS:
        raise ConfigError(f"no tagger {name!r}; choose from {', '.join(TAGGERS)}{suggest(name, TAGGERS)}")
    return tagged_by_lexicon if name == "lexicon" else SpacyTagger()


@lru_cache(maxsize=16384)
def tagged_by_lexicon(caption: str) -> tuple[Tagged, ...]:
    """The words of a caption with their parts of speech, by the bundled lexicon."""
    from relpretrain.scene_graph.parse.lexicon.tagging import bundled_tags
    from relpretrain.scene_graph.parse.lexicon.tokens import tokenise

    tokens = tokenise(caption)
    tags = bundled_tags([token.text for token in tokens])
    return tuple(Tagged(token.start, token.end, tag) for token, tag in zip(tokens, tags, strict=True))


class SpacyTagger:
    """The same by spaCy's pipeline, as NegCLIP's authors have it.

    Raises:
        ConfigError: If spaCy or its pipeline is not installed; says how to get it.
    """

    def __init__(self) -> None:
        from relpretrain.scene_graph.parse.spacy_parser import load_pipeline

        self._pipeline: Any = load_pipeline()
        self._tagged = lru_cache(maxsize=16384)(self._tag)

    def __reduce__(self) -> tuple[Any, ...]:
        return SpacyTagger, ()  # into data workers

    def __call__(self, caption: str) -> tuple[Tagged, ...]:
        """The words of a caption with their parts of speech."""
        return self._tagged(caption)

    def _tag(self, caption: str) -> tuple[Tagged, ...]:
        return tuple(Tagged(word.idx, word.idx + len(word), word.tag_) for word in self._pipeline(caption))


@lru_cache(maxsize=16384)
def read_caption(caption: str) -> ParsedCaption:
    """What the bundled parser reads in a caption."""
    return build_parser("lexicon").parse([caption])[0]


def _letter(tag: str) -> str:
    if tag in ("NNS", "NNPS"):
        return "m"
    if tag[:2] in ("PR", "PO") and tag != "PRP$":  # "it" begins no phrase, and "'s" ends one
        return "x"
    return _LETTERS.get(tag[:1], "x") if tag not in ("CC", "RP", "PRP") else "x"


def _exchanged(caption: str, one: tuple[int, int], other: tuple[int, int]) -> str:
    """Two parts in each other's places; a capital letter at the beginning stays there."""
    first, second = caption[slice(*one)], caption[slice(*other)]
    if first[0].isupper() and not caption[: one[0]].strip() and second[0].islower():
        first, second = first[0].lower() + first[1:], second[0].upper() + second[1:]
    return edited(caption, [(*one, second), (*other, first)])


def _says_the_same(
    kind: str,
    caption: str,
    one: tuple[int, int],
    other: tuple[int, int],
    text: str,
    rules: PredicateRules,
    words: WordRules,
) -> bool:
    """Whether exchanging two parts of a caption plainly makes no other statement of it."""
    first, second = caption[slice(*one)].lower(), caption[slice(*other)].lower()
    if reads_alike(text, caption) or _JOINED.fullmatch(caption, one[1], other[0]):
        return True
    nouns = kind in ("phrase", "singular", "plural")
    if nouns and rules.symmetric(caption[one[1] : other[0]]):  # whatever else is said of the two
        return True
    if nouns and words.may_be_one(first.split()[-1], second.split()[-1]):
        before = [part.split()[:-1] for part in (first, second)]
        if kind != "phrase" or before[0] == before[1]:
            return True
    if kind == "adjective" and words.alike(first, second):
        return True
    # Of verbs and adverbs the parser reads only those that relate things.
    return kind not in ("verb", "adverb") and _meaning(read_caption(text), rules) == _meaning(
        read_caption(caption), rules
    )


def _meaning(parsed: ParsedCaption, rules: PredicateRules) -> tuple[Any, Any]:
    """What a caption says: its things, and their relations whichever side they are told from."""
    things = [(entity.label, frozenset(entity.attributes)) for entity in parsed.entities]
    told = set()
    for relation in parsed.relations:
        subject, object_ = things[relation.subject], things[relation.object]
        ways = {(subject, rules.key(relation.relation), object_)}
        if rules.symmetric(relation.relation):
            ways.add((object_, rules.key(relation.relation), subject))
        if (converse := rules.converse(relation.relation)) is not None:
            ways.add((object_, rules.key(converse), subject))
        told.add(frozenset(ways))
    return Counter(things), told


def _true(caption: str, text: str, witness: Witness | None) -> bool:
    """Whether all that a changed caption says anew of relations is annotated."""
    if witness is None:
        return False
    new = _statements(read_caption(text)) - _statements(read_caption(caption))
    return bool(new) and all(witness.true(statement) is True for statement in new)


def _statements(parsed: ParsedCaption) -> set[Statement]:
    phrases = [_phrase(entity) for entity in parsed.entities]
    return {Statement(phrases[r.subject], r.relation, phrases[r.object]) for r in parsed.relations}


def _phrase(entity: ParsedEntity) -> str:
    return " ".join([*entity.attributes, entity.label])
