"""Noun phrases: where they are, what they name, and how that is described."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from relpretrain.scene_graph.parse.lemmas import noun_lemma
from relpretrain.scene_graph.parse.tokens import Token
from relpretrain.scene_graph.parse.words import BE, HAVE, PREPOSITIONS, lexicon

_LETTERS = {
    **dict.fromkeys(("DT", "PDT"), "d"), "PRP$": "g", "WP$": "g", "CD": "c",
    **dict.fromkeys(("JJ", "JJR", "JJS"), "j"), **dict.fromkeys(("NN", "NNS", "NNP", "NNPS", "FW"), "n"),
    **dict.fromkeys(("RB", "RBR", "RBS"), "a"), "POS": "s", "CC": "k", ",": "k", "IN": "i", "TO": "t", "RP": "r",
    **dict.fromkeys(("VBZ", "VBP", "VBD", "VB"), "f"), "VBG": "v", "VBN": "p", "MD": "m", "PRP": "o",
    **dict.fromkeys(("WDT", "WP", "WRB"), "w"), "EX": "e",
}  # fmt: skip
_PHRASE = re.compile(r"[dg]*(?:a*[cjn]|(?<=j)k+(?=j+n))*(?<=n)")


@dataclass
class Phrase:
    """A thing that a caption names.

    Args:
        words: The words of its name.
        attributes: What it is like.
        owner: The word that says whose it is ("his", "whose"), if one does.
        determined: Whether an article or the like begins it.
        first: Number of its first word in the caption.
    """

    words: list[Token]
    attributes: list[str] = field(default_factory=list)
    owner: Token | None = None
    determined: bool = False
    first: int = 0

    @property
    def label(self) -> str:
        """Its name in the singular."""
        return noun_lemma(" ".join(word.text for word in self.words))

    @property
    def span(self) -> tuple[int, int]:
        """Where its name stands."""
        return self.words[0].start, self.words[-1].end


@dataclass(frozen=True)
class Mark:
    """A word between things.

    Args:
        kind: One letter: f, v, p (verb: finite, present and past participle), b (be), h (have), i (preposition),
            k (and, comma), w (who, which), s ('s), o (pronoun), j (adjective), e (there), r (particle), t (to),
            x (any other).
        token: The word.
    """

    kind: str
    token: Token


Item = Phrase | Mark


def letters(tokens: Sequence[Token], tags: Sequence[str]) -> str:
    """One letter for each word: its part of speech."""
    return "".join(_letter(token.text, tag) for token, tag in zip(tokens, tags, strict=True))


def _letter(word: str, tag: str) -> str:
    if word in BE and tag != "POS":
        return "b"
    if word in HAVE:
        return "h"
    if word in PREPOSITIONS and tag in ("IN", "RP", "RB", "TO", "JJ"):
        return "t" if word == "to" else "i"
    return _LETTERS.get(tag, "x")


def items(tokens: Sequence[Token], tags: Sequence[str]) -> list[Item]:
    """The things of a caption and the words between them, in order."""
    kinds = letters(tokens, tags)
    found: list[Item] = []
    place = 0
    while place < len(tokens):
        match = _PHRASE.match(kinds, place)
        if match and match.end() > place:
            found.append(_phrase(tokens[place : match.end()], kinds[place : match.end()], place))
            place = match.end()
        else:
            found.append(Mark(kinds[place], tokens[place]))
            place += 1
    return found


def _phrase(tokens: Sequence[Token], kinds: str, first: int) -> Phrase:
    owner = next((token for token, kind in zip(tokens, kinds, strict=True) if kind == "g"), None)
    start = next(i for i, kind in enumerate(kinds) if kind in "cjn")
    kept = [(token, kind) for token, kind in zip(tokens[start:], kinds[start:], strict=True) if kind in "cjn"]
    name, described = divide([token for token, _ in kept], len(kinds) - len(kinds.rstrip("n")))
    return Phrase(name, described, owner, kinds[0] in "dg", first)


def divide(words: Sequence[Token], nouns: int) -> tuple[list[Token], list[str]]:
    """Divide the words of a noun phrase into the thing's name and its attributes.

    Args:
        words: Its words, without articles.
        nouns: How many at its end are nouns.
    """
    known = lexicon()
    texts = [word.text for word in words]
    head = len(words) - 1
    for start in range(max(0, len(words) - 4), len(words) - 1):
        if noun_lemma(" ".join(texts[start:])) in known.compounds:
            head = start
            break
    else:
        if nouns >= 2 and texts[-2] not in known.modifiers and noun_lemma(texts[-1]) in known.kinds:
            head = len(words) - 2
    return list(words[head:]), describe(texts[:head])


def describe(texts: Sequence[str]) -> list[str]:
    """Attributes that the words before a name say; descriptions of several words stay together."""
    known = lexicon()
    said: list[str] = []
    place = 0
    while place < len(texts):
        for length in (3, 2):
            joined = " ".join(texts[place : place + length])
            if joined in known.attributes or (length == 2 and joined.endswith(" colored")):
                break
        else:
            length, joined = 1, texts[place]
        place += length
        if joined not in known.plain and joined != "one" and joined not in said:
            said.append(joined)
    return said
