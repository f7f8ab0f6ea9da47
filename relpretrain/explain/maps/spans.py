"""Which wordpieces are which words, and which of a verbalised triplet are its subject, predicate and object."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from torch import Tensor

from relpretrain.data.pipeline.text import NO_WORD, TextEncoder, Tokens
from relpretrain.errors import counted

Reduce = Literal["mean", "max"]
"""How the maps of several wordpieces become one."""

ROLES = ("subject", "predicate", "object")


class Word(NamedTuple):
    """A word of a text, and the numbers of its wordpieces among the text's tokens."""

    text: str
    places: tuple[int, ...]


class Spans(NamedTuple):
    """The tokens of a verbalised triplet by what they name, each as numbers among the text's tokens."""

    subject: tuple[int, ...]
    predicate: tuple[int, ...]
    object: tuple[int, ...]


def words_of(tokens: Tokens, encoder: TextEncoder) -> list[Word]:
    """The words of a text, without special tokens; punctuation marks are words of their own."""
    pieces = encoder.tokenizer.convert_ids_to_tokens(tokens.ids)
    places: dict[int, list[int]] = {}
    for place, word in enumerate(tokens.words):
        if word != NO_WORD:
            places.setdefault(word, []).append(place)
    return [
        Word("".join(pieces[place].removeprefix("##") for place in own), tuple(own)) for own in places.values()
    ]  # fmt: skip


def find(words: str, tokens: Tokens, encoder: TextEncoder, text: str) -> tuple[int, ...]:
    """The numbers of the tokens of some words, where these come first in a text.

    Raises:
        ValueError: If the text does not have them, or only after the model's limit.
    """
    wanted = encoder.ids(words)
    for start in range(1, len(tokens) - len(wanted) + 1):
        end = start + len(wanted)
        numbers = (*tokens.words, NO_WORD)
        whole = numbers[start - 1] != numbers[start] and numbers[end - 1] != numbers[end]
        if wanted and tuple(tokens.ids[start:end]) == wanted and whole:
            return tuple(range(start, end))
    has = " ".join(word.text for word in words_of(tokens, encoder))
    raise ValueError(f"{words!r} is not among the words that the model sees of {text!r}, which are: {has!r}.")


def triplet_spans(subject: str, predicate: str, object_: str, encoder: TextEncoder) -> tuple[Tokens, Spans]:
    """Tokens of "subject predicate object", and which of them name what.

    A tokenizer splits texts at blanks, so that each part has the tokens that it has alone.

    Raises:
        ValueError: If a part has no token, or the text is longer than the model reads.
    """
    parts = [encoder.ids(part) for part in (subject, predicate, object_)]
    text = " ".join(f"{subject} {predicate} {object_}".split())
    tokens = encoder.caption(text)
    needed = sum(map(len, parts))
    for role, part, words in zip(ROLES, parts, (subject, predicate, object_), strict=True):
        if not part:
            raise ValueError(f"The {role} {words!r} of {text!r} has no word that the model reads.")
    if encoder.ids(text) != sum(parts, ()) or len(tokens) < 1 + needed + encoder.separator:
        raise ValueError(
            f"The triplet {text!r} takes {counted(needed, 'token')} beside the special ones, and the model sees "
            f"{len(tokens) - 1 - encoder.separator} of them: leave it out."
        )
    borders = [1, 1 + len(parts[0]), 1 + len(parts[0]) + len(parts[1]), 1 + needed]
    return tokens, Spans(*(tuple(range(a, b)) for a, b in pairwise(borders)))


def differing(one: Sequence[int], other: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The places at which two texts differ: all between what they begin and what they end with alike.

    Args:
        one: Token ids of a text.
        other: Token ids of another.

    Returns:
        Places in either; those of a text that only lacks tokens of the other are the ones around the gap.
    """
    shortest = min(len(one), len(other))
    begin = next((i for i in range(shortest) if one[i] != other[i]), shortest)
    end = next((i for i in range(shortest - begin) if one[-1 - i] != other[-1 - i]), shortest - begin)
    return _between(begin, len(one) - end, len(one)), _between(begin, len(other) - end, len(other))


def _between(begin: int, end: int, length: int) -> tuple[int, ...]:
    if begin < end:
        return tuple(range(begin, end))
    return tuple(place for place in (begin - 1, begin) if 0 < place < length) or tuple(range(length))


def over(maps: Tensor, places: Sequence[int], reduce: Reduce = "mean") -> Tensor:
    """One map, (rows, columns), of some of the maps (tokens, rows, columns).

    Raises:
        ValueError: If no token is named, or `reduce` is unknown.
    """
    if not places:
        raise ValueError("A map needs the number of one token at least; got none.")
    if reduce not in ("mean", "max"):
        raise ValueError(f"reduce must be 'mean' or 'max'; got {reduce!r}.")
    chosen = maps[list(places)]
    return chosen.mean(0) if reduce == "mean" else chosen.amax(0)
