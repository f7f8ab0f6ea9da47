"""The bundled word lists of captions: which words name things, which describe, which relate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from relpretrain.reading import read_json

FILE = Path(__file__).parent / "lexicon.json"


def listed(words: str) -> frozenset[str]:
    """Words written in a row."""
    return frozenset(words.split())


@dataclass(frozen=True)
class Lexicon:
    """Word lists, in lower case.

    Args:
        tags: The part of speech that each word most often has in a caption, as the Penn Treebank names it.
        verbs: Infinitives of verbs that relate things.
        compounds: Names of several words, such as "coffee table"; the last word is in the singular.
        attributes: Descriptions of several words, such as "light blue".
        modifiers: Nouns that describe the noun after them rather than name a kind of it: "brick" of "brick wall".
        kinds: Nouns, in the singular, that a noun before them gives a kind: "chair" of "office chair".
        plain: Adjectives that say nothing about a thing, such as "several".
        quantities: Nouns that count or measure what comes after their "of", such as "group"; each with the attribute
            that they give it, empty for none.
    """

    tags: dict[str, str]
    verbs: frozenset[str]
    compounds: frozenset[str]
    attributes: frozenset[str]
    modifiers: frozenset[str]
    kinds: frozenset[str]
    plain: frozenset[str]
    quantities: dict[str, str]
    holders: frozenset[str]
    animate: frozenset[str]
    worn: frozenset[str]


@cache
def lexicon() -> Lexicon:
    """The bundled lexicon, read once."""
    data = read_json(FILE, "word lists")
    tags = {word: tag for tag, words in data["tags"].items() for word in words.split()}
    lists = {key: frozenset(value) for key, value in data.items() if isinstance(value, list)}
    return Lexicon(tags=tags, quantities=data["quantities"], **lists)


_PREPOSITION_WORDS = (
    "on in under behind above near at over inside beside between by against around across along below beneath beyond "
    "outside alongside through from toward towards off into past among amongst opposite underneath atop onto upon "
    "within throughout amid with without for of about like as during next close to than down up out per via"
)
_CLAUSE_WORDS = "while because if since although though"
CLAUSES = listed(_CLAUSE_WORDS)
"""Words that begin another clause."""
PREPOSITIONS = listed(_PREPOSITION_WORDS)
"""Words that link a thing to the one after them."""

BE = listed("is are was were be been being am 's 're 'm ’s ’re ’m isn aren")
HAVE = listed("has have had having 've ’ve")

NOT = listed("not n't n’t 't ’t never cannot instead")
"""Words that deny what comes next."""
NO = listed("no neither")
"""Words that deny that there is what they stand before."""
NOTHING = listed("nothing nobody none noone")
"""What is said in the place of things that are not there."""
EXCEPT = listed("without except")
"""Prepositions whose objects are not there."""
DENIALS = NOT | NO | NOTHING | EXCEPT
"""Words with which a caption says what is not so."""

CLOSED = {
    word: tag
    for tag, words in {
        "DT": "a an the this that these those some any each every no another both all either neither half",
        "PRP$": "his her its their my your our",
        "PRP": "it he she they him them i we you us me himself herself itself themselves",
        "IN": _PREPOSITION_WORDS + " except " + _CLAUSE_WORDS,
        "CC": "and or & nor but plus",
        ",": ",",
        "VBZ": "is has does",
        "VBP": "are have do am",
        "VBD": "was were had did",
        "VB": "be",
        "VBN": "been",
        "VBG": "being having",
        "MD": "can cannot 'll ’ll 'd ’d could will would may might must shall should",
        "WDT": "which who",
        "WP$": "whose",
        "WRB": "where when how why",
        "EX": "there",
        "TO": "to",
        "RP": "",
        "CD": "zero one two three four five six seven eight nine ten eleven twelve twenty hundred dozen",
        "RB": "not n't n’t 't ’t never instead very just only also too so almost together away partially",
        "NN": "someone something nobody nothing none noone everyone everything man woman",
    }.items()
    for word in words.split()
}
"""Words whose part of speech is the same everywhere."""

SIDES = listed(
    "front top side sides back middle center centre edge edges bottom left right end ends corner corners rear base "
    "inside outside half face distance"
)
"""Parts of a thing by which captions say where another one is."""

PARTS = listed("left right other far near opposite very front back top bottom upper lower both either")
"""What may describe such a part."""

ANIMATE_VERBS = listed(
    "wear hold carry ride eat drink look watch talk play walk stand sit run jump smile swing catch throw use read "
    "surf ski wait kick pose lean reach lie lay have brush cut pull push sleep bite chew feed drive skateboard"
)
"""What only people and animals do, in the most cases."""
