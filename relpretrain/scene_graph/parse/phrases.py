"""Noun phrases: where they are, what they name, and how that is described."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from relpretrain.scene_graph.parse.lexicon.lemmas import noun_lemma, verb_lemma
from relpretrain.scene_graph.parse.lexicon.tokens import Token
from relpretrain.scene_graph.parse.lexicon.words import (
    BE,
    CLAUSES,
    HAVE,
    NO,
    NOT,
    NOTHING,
    PARTS,
    PREPOSITIONS,
    SIDES,
    lexicon,
    listed,
)

_LETTERS = {
    **dict.fromkeys(("DT", "PDT"), "d"), "PRP$": "g", "WP$": "g", "CD": "c",
    **dict.fromkeys(("JJ", "JJR", "JJS"), "j"), **dict.fromkeys(("NN", "NNS", "NNP", "NNPS", "FW"), "n"),
    **dict.fromkeys(("RB", "RBR", "RBS"), "a"), "POS": "s", "CC": "k", ",": "k", "IN": "i", "TO": "t", "RP": "r",
    **dict.fromkeys(("VBZ", "VBP", "VBD", "VB"), "f"), "VBG": "v", "VBN": "p", "MD": "m", "PRP": "o",
    **dict.fromkeys(("WDT", "WP", "WRB"), "w"), "EX": "e",
}  # fmt: skip
_PHRASE = re.compile(r"[dg]*(?:a*[cjn]|(?<=j)k+(?=j+n))*(?<=n)")
_FORBID = listed("sign zone symbol area")
_FORBIDDEN = listed("entry turn turns u-turn uturn outlet dogs pets bikes trucks")
"""What signs forbid, besides all that ends in "ing"."""


@dataclass(eq=False)
class Phrase:
    """A thing that a caption names.

    Args:
        words: The words of its name.
        attributes: What it is like.
        owner: The word that says whose it is ("his", "whose"), if one does.
        determined: Whether an article or the like begins it.
        absent: Whether the caption says that there is none.
    """

    words: list[Token]
    attributes: list[str] = field(default_factory=list)
    owner: Token | None = None
    determined: bool = False
    absent: bool = False

    @property
    def name(self) -> str:
        """Its name as the caption has it, in lower case."""
        return " ".join(word.text for word in self.words)

    @property
    def label(self) -> str:
        """Its name in the singular."""
        return noun_lemma(self.name)

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
            y (a place, such as "on the left"), z (not), u (while), d (a stray article), x (any other).
        token: The word; a preposition of several words is one.
    """

    kind: str
    token: Token


Item = Phrase | Mark


def letters(tokens: Sequence[Token], tags: Sequence[str]) -> str:
    """One letter for each word: its part of speech."""
    return "".join(_letter(token.text, tag) for token, tag in zip(tokens, tags, strict=True))


def _letter(word: str, tag: str) -> str:
    if word in NOT:
        return "z"
    if word in CLAUSES:
        return "u"
    if word in BE and tag != "POS":
        return "b"
    if word in HAVE:
        return "h"
    if word in ("left", "right") and tag == "IN":
        return "i"
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
            found.append(_phrase(tokens[place : match.end()], kinds[place : match.end()]))
            place = match.end()
        else:
            found.append(Mark(kinds[place], tokens[place]))
            place += 1
    return _measured(_sides(found))


def _measured(sequence: list[Item]) -> list[Item]:
    """Join "a group of" with the things that it counts."""
    known = lexicon().quantities
    place = 0
    while place + 2 < len(sequence):
        counts, of, counted = sequence[place : place + 3]
        if isinstance(counts, Phrase) and _is(of, "of") and isinstance(counted, Phrase):
            way = known.get(counts.label)
            if way is not None:
                counted.attributes = [*counts.attributes, *filter(None, [way]), *counted.attributes]
                counted.determined = counts.determined
                del sequence[place : place + 2]
                continue
        place += 1
    return sequence


def _is(item: Item | None, text: str) -> bool:
    return isinstance(item, Mark) and item.token.text == text


def _sides(sequence: list[Item]) -> list[Item]:
    """Make one word of "on the left side of" and "left of", prepositions, and one of "on the left", a place."""
    done: list[Item] = []
    place = 0
    while place < len(sequence):
        item = sequence[place]
        side = sequence[place + 1] if place + 1 < len(sequence) else None
        place += 1
        if isinstance(item, Mark) and item.kind == "i" and item.token.text in ("left", "right") and _is(side, "of"):
            place += 1
            assert isinstance(side, Mark)
            done.append(Mark("i", Token(f"{item.token.text} of", item.token.start, side.token.end)))
            continue
        if not (isinstance(item, Mark) and item.kind in "it" and isinstance(side, Phrase) and _is_side(side)):
            done.append(item)
            continue
        place += 1
        words = [item.token.text, *side.attributes, *(word.text for word in side.words)]
        of = sequence[place] if place < len(sequence) else None
        if isinstance(of, Mark) and of.token.text == "of":
            place += 1
            words[1:1] = [] if words in (["on", "top"], ["in", "front"]) else ["the"]
            done.append(Mark("i", Token(" ".join([*words, "of"]), item.token.start, of.token.end)))
        else:
            words[1:1] = ["the"] if side.determined else []
            done.append(Mark("y", Token(" ".join(words), item.token.start, side.span[1])))
    return done


def _is_side(phrase: Phrase) -> bool:
    """Whether a phrase names a part of a thing that says where another one is."""
    return phrase.owner is None and phrase.words[-1].text in SIDES and {*phrase.attributes} <= PARTS


def _phrase(tokens: Sequence[Token], kinds: str) -> Phrase:
    owner = next((token for token, kind in zip(tokens, kinds, strict=True) if kind == "g"), None)
    start = next(i for i, kind in enumerate(kinds) if kind in "cjn")
    kept = [(token, kind) for token, kind in zip(tokens[start:], kinds[start:], strict=True) if kind in "cjn"]
    words = [token for token, _ in kept]
    absent = says_none([tokens[0].text, *(word.text for word in words)])
    if not absent and len(words) > 1 and any(token.text in NO for token in tokens[:start]):  # a "no parking" sign
        name, described = words[-1:], [" ".join(["no", *(word.text for word in words[:-1])])]
    else:
        name, described = divide(words, len(kinds) - len(kinds.rstrip("n")))
    return Phrase(name, described, owner, kinds[0] in "dg", absent)


def says_none(words: Sequence[str]) -> bool:
    """Whether a phrase says that there is none: "no cars", "no stop sign", but not "no parking sign".

    Args:
        words: The word that it begins with, and all of its name.
    """
    first, *before, last = words
    forbids = noun_lemma(last) in _FORBID and bool(before) and (before[-1].endswith("ing") or before[-1] in _FORBIDDEN)
    return last in NOTHING or (first in NO and not forbids)


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


def animate(group: Sequence[Phrase]) -> bool:
    """Whether people or animals are among things."""
    return any(noun_lemma(phrase.words[-1].text) in lexicon().animate for phrase in group)


def likeness(words: Sequence[Token]) -> str:
    """How a relation says what its subject is like: "like" of "looks like", "shaped like"; "" of all other relations.

    Args:
        words: Those of the relation, a verb first.
    """
    verb, *others = [word.text for word in words]
    if others[-1:] != ["like"]:
        return ""
    return "like" if len(others) == 1 and verb_lemma(verb) in ("look", "seem", "appear") else " ".join([verb, *others])


def meant(subject: Phrase, relation: str, object_: Phrase) -> str:
    """What a preposition means between two things: a man in a hat wears it, a bowl of fruit has fruit."""
    known = lexicon()
    if relation == "in" and object_.words[-1].text in known.worn and animate([subject]):
        return "wearing"
    return "has" if relation == "of" and subject.label in known.holders else relation
