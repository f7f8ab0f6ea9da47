"""A caption's words, each with its place."""

from __future__ import annotations

from typing import NamedTuple

from nltk.tokenize import RegexpTokenizer

LONGEST = 4000
"""Characters of a caption that are read; what comes after them is left out."""
LONGEST_WORD = 60
"""Characters of a word; what is longer is no word."""

_WORDS = RegexpTokenizer(
    r"(?i)[^\W_]+(?=n['’]t\b)|n['’]t\b|[^\W_]+(?:[-.][^\W_]+)*|['’](?:s|re|ve|ll|d|m|t)\b|[^\w\s]|_"
)


class Token(NamedTuple):
    """A word or a mark, in lower case, with its first character in the caption and the one after its last."""

    text: str
    start: int
    end: int


def tokenise(caption: str) -> list[Token]:
    """The words and marks of a caption; "man's" is two, "man" and "'s", and so is "isn't", "is" and "n't"."""
    caption = caption[:LONGEST]
    return [
        Token(caption[start:end].lower(), start, end)
        for start, end in _WORDS.span_tokenize(caption)
        if end - start <= LONGEST_WORD
    ]
