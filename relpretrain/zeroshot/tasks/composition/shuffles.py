"""The four ways in which ARO's Order sets shuffle a caption."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

import numpy as np

_NOUNS, _ADJECTIVES = ("NN", "NNS", "NNP", "NNPS"), ("JJ", "JJR", "JJS")


class Shuffler:
    """Shuffles captions as the authors' code does, in the same sequence of draws.

    Two generators with one seed stand for the two global ones of the official code, seeded with 1 by `main_aro.py`.

    Args:
        tag: Splits a text into (word, Penn Treebank tag).
        split: Splits a text into words, for the shuffles of three words.
        seed: Of the draws.
    """

    def __init__(
        self, tag: Callable[[str], Sequence[tuple[str, str]]], split: Callable[[str], Sequence[str]], seed: int = 1
    ) -> None:
        self.tag = tag
        self.split = split
        self._words = np.random.RandomState(seed)
        self._threes = random.Random(seed)

    def all(self, caption: str) -> tuple[str, str, str, str]:
        """Nouns and adjectives shuffled, all other words, words within threes, and threes, in the official order."""
        return self.nouns(caption), self.others(caption), self.within_threes(caption), self.threes(caption)

    def nouns(self, caption: str) -> str:
        """The nouns change places, and so do the adjectives."""
        tagged = self.tag(caption)
        words = np.array([word for word, _ in tagged], dtype=object)
        for kinds in (_NOUNS, _ADJECTIVES):
            self._permute(words, [i for i, (_, tag) in enumerate(tagged) if tag in kinds])
        return " ".join(words)

    def others(self, caption: str) -> str:
        """All words but nouns and adjectives change places."""
        tagged = self.tag(caption)
        words = np.array([word for word, _ in tagged], dtype=object)
        self._permute(words, [i for i, (_, tag) in enumerate(tagged) if tag not in _NOUNS + _ADJECTIVES])
        return " ".join(words)

    def within_threes(self, caption: str) -> str:
        """The words of each three change places."""
        threes = self._split(caption)
        for three in threes:
            self._threes.shuffle(three)
        return " ".join(word for three in threes for word in three)

    def threes(self, caption: str) -> str:
        """The threes change places."""
        threes = self._split(caption)
        self._threes.shuffle(threes)
        return " ".join(word for three in threes for word in three)

    def _permute(self, words: np.ndarray, places: list[int]) -> None:
        words[places] = self._words.permutation(words[places])

    def _split(self, caption: str) -> list[list[str]]:
        words = list(self.split(caption))
        return [words[start : start + 3] for start in range(0, len(words), 3)]


def official_shuffler() -> Shuffler:
    """The shuffler with the tools of the official code: spaCy's `en_core_web_sm` and nltk's `word_tokenize`.

    Raises:
        ValueError: If one of them is not installed, saying how to do without.
    """
    try:
        import nltk
        import spacy

        pipeline = spacy.load("en_core_web_sm")
        nltk.word_tokenize("a b")
    except (ImportError, OSError, LookupError) as error:
        why = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise ValueError(
            "The shuffles of ARO's Order sets need spaCy with en_core_web_sm, and nltk with its tokenizer data "
            f'({type(error).__name__}: {why}). Install them (pip install "relpretrain[benchmarks]"; python -m spacy '
            "download en_core_web_sm; python -m nltk.downloader punkt_tab), put ready-made cases beside the captions "
            "(coco_order.json, flickr30k_order.json), or choose other sets with --split relation attribution."
        ) from error
    return Shuffler(lambda text: [(token.text, token.tag_) for token in pipeline(text)], nltk.word_tokenize)


def clean(caption: str, max_words: int) -> str:
    """Clean a caption as ARO does: lower case, . ! " ( ) * # : ; ~ to spaces, commas and apostrophes kept, cut off."""
    text = re.sub(r'[.!"()*#:;~]', " ", caption.lower())
    text = re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ")
    words = text.split(" ")
    return " ".join(words[:max_words]) if len(words) > max_words else text
