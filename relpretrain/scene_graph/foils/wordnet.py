"""What WordNet knows of words beside the tables: synonyms, and kinds of kinds, through nltk where its data is there."""

from __future__ import annotations

import os
import warnings
from functools import cache, lru_cache
from typing import Any, Literal, Protocol

from relpretrain.errors import ConfigError
from relpretrain.scene_graph.foils.nouns import WORDS, WordRules, singular

Synonyms = Literal["auto", "table", "wordnet"]
"""What knows synonyms: the tables alone, WordNet as well, or WordNet where its data is on this machine."""


class Reader(Protocol):
    """The part of nltk's `WordNetCorpusReader` that is asked."""

    def synsets(self, lemma: str, pos: str) -> list[Any]:
        """The senses of a word as a part of speech, the most frequent one first."""
        ...


class WordNetRules(WordRules):
    """The tables and WordNet: two words of one sense, or one of which is a kind of the other, may be said of one thing.

    Of a word's senses the first counts, and those in which it occurs in WordNet's tagged texts: a cat is also a man,
    but nobody says so. Nouns of several words are asked as a whole, and by their last word.

    Args:
        reader: WordNet; None for nltk's.

    Raises:
        ConfigError: If nltk's WordNet is not on this machine; says how to get it.
    """

    def __init__(self, reader: Reader | None = None) -> None:
        self._own = reader
        self._reader = _nltk_wordnet() if reader is None else reader
        self._process = os.getpid()
        self._senses = lru_cache(maxsize=16384)(self._read_senses)
        self._related = lru_cache(maxsize=65536)(self._read_related)

    def __reduce__(self) -> tuple[Any, ...]:
        return WordNetRules, (self._own,)  # into data workers, which open WordNet themselves

    def may_be_one(self, one: str, other: str) -> bool:
        """Whether two nouns may name one thing, by the tables or by WordNet."""
        if super().may_be_one(one, other):
            return True
        return any(
            self._related(a, b, "n") for a in _wholes(singular(one)) for b in _wholes(singular(other)) if a and b
        )

    def alike(self, one: str, other: str) -> bool:
        """Whether people use two adjectives for the same, by the tables or by WordNet."""
        return super().alike(one, other) or self._related(one.lower(), other.lower(), "a")

    def _read_related(self, one: str, other: str, pos: str) -> bool:
        first, second = self._senses(one, pos), self._senses(other, pos)
        return any(sense in wider for sense, _ in first for _, wider in second) or any(
            sense in wider for sense, _ in second for _, wider in first
        )

    def _read_senses(self, word: str, pos: str) -> list[tuple[Any, frozenset[Any]]]:
        """The senses that count of a word, each with itself and all that it is a kind of, or is like."""
        if self._own is None and self._process != os.getpid():  # forked: its files would be read by both
            self._reader, self._process = _nltk_wordnet(), os.getpid()
        lemma = word.replace(" ", "_")
        found = []
        for number, sense in enumerate(self._reader.synsets(lemma, pos)):
            if number and not any(x.name().lower() == lemma and x.count() for x in sense.lemmas()):
                continue
            wider = sense.similar_tos() if pos == "a" else sense.closure(_kinds)
            found.append((sense, frozenset([sense, *wider])))
        return found


def word_rules(synonyms: Synonyms = "auto") -> WordRules:
    """What follows from nouns and adjectives, by what knows synonyms.

    Raises:
        ConfigError: If there is no such choice, or WordNet is asked for and not on this machine.
    """
    if synonyms not in ("auto", "table", "wordnet"):
        raise ConfigError(f"synonyms must be auto, table or wordnet, got {synonyms!r}")
    return _wordnet_rules() if chosen(synonyms) == "wordnet" else WORDS


def chosen(synonyms: Synonyms) -> Literal["table", "wordnet"]:
    """What "auto" means on this machine; any other choice is itself."""
    if synonyms != "auto":
        return synonyms
    return "wordnet" if _is_there() else "table"


@cache
def _is_there() -> bool:
    """Whether nltk's WordNet is on this machine, packed or not."""
    from nltk.data import find

    for place in ("corpora/wordnet", "corpora/wordnet.zip"):
        try:
            find(place)
        except LookupError:
            continue
        return True
    return False


@cache
def _wordnet_rules() -> WordNetRules:
    return WordNetRules()


def _nltk_wordnet() -> Reader:
    """A reader of this process's own: it seeks in files that it keeps open."""
    from nltk.corpus.reader import WordNetCorpusReader
    from nltk.corpus.util import LazyCorpusLoader

    reader: Any = LazyCorpusLoader("wordnet", WordNetCorpusReader, None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it knows no other languages
            reader.ensure_loaded()
    except (LookupError, OSError) as error:
        why = f"cannot be read ({error})" if isinstance(error, OSError) else "is not on this machine"
        raise ConfigError(
            f"nltk's WordNet {why}: python -m nltk.downloader wordnet, or set foil_synonyms=table"
        ) from None
    loaded: Reader = reader
    return loaded


def _kinds(sense: Any) -> list[Any]:
    return [*sense.hypernyms(), *sense.instance_hypernyms()]


def _wholes(noun: str) -> set[str]:
    """A noun of several words, and its last word."""
    return {noun, noun.split()[-1] if noun.split() else ""}
