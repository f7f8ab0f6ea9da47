"""Whether a caption's noun and the label of a box name the same kind of thing."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

from relpretrain.scene_graph.geometry import normalise
from relpretrain.scene_graph.parse.lexicon.lemmas import noun_lemma
from relpretrain.scene_graph.tying.synonyms import MISLEADING, NARROWER

Source = Literal["table", "wordnet"]
SYNONYMS: tuple[str, ...] = ("auto", "table", "wordnet")
"""Where synonyms come from: a table of ours, WordNet as well, or that where its data is installed."""

SAME, KIND, HEAD = 1.0, 0.9, 0.8
"""Agreement of equal names, of a narrower name with a broader or equal one, and of names with one head."""


class Names:
    """Compares names by whole words and lemmas.

    Args:
        source: "table" for a table of our own, "wordnet" to look up what it lacks in nltk's WordNet.

    Raises:
        ValueError: If WordNet is asked for and its data is not installed.
    """

    def __init__(self, source: Source = "table") -> None:
        self.source = source
        self._wordnet: Any = None
        if source == "wordnet" and (found := _wordnet()) is None:
            raise ValueError(
                "WordNet's data is not installed: fetch it with `python -m nltk.downloader wordnet`, or take "
                "--synonyms table"
            )
        elif source == "wordnet":
            self._wordnet = found
        self.agreement = lru_cache(maxsize=1 << 16)(self._agreement)

    def __reduce__(self) -> tuple[Any, ...]:
        return Names, (self.source,)

    def _agreement(self, mention: str, label: str) -> float:
        """How well a caption's noun fits the label of a box: 1 if they are equal, 0 if it names something else.

        A narrower noun fits a broader label ("puppy" a box of a dog), not the other way round. Of names of several
        words the last one is the head: "coffee cup" fits "cup", and "cup" fits "coffee cup". "hot dog" fits no dog.

        Args:
            mention: The caption's noun, of one or several words, in lower case.
            label: The label of a box.
        """
        mention, label = noun_lemma(normalise(mention)), noun_lemma(normalise(label))
        if mention == label:
            return SAME
        if label in NARROWER.get(mention, ()) or self._is_kind(mention, label):
            return KIND
        if MISLEADING & {mention, label}:
            return 0.0
        head = mention.rpartition(" ")[2]
        if head == label or mention == label.rpartition(" ")[2]:
            return 0.0 if self._known_otherwise(mention, head) else HEAD
        if head != mention and (label in NARROWER.get(head, ()) or self._is_kind(head, label)):
            return HEAD
        return 0.0

    def _is_kind(self, mention: str, label: str) -> bool:
        """Whether WordNet knows what the noun most often means as a kind of what the label most often means.

        Rarer senses would make a "computer" a person who calculates.
        """
        broad, narrow = self._synsets(label)[:1], self._synsets(mention)[:1]
        if not (broad and narrow):
            return False
        return broad[0] == narrow[0] or broad[0] in narrow[0].closure(lambda sense: sense.hypernyms())

    def _known_otherwise(self, mention: str, head: str) -> bool:
        """Whether WordNet has a compound as a name of its own and not as a kind of its head: "sea horse"."""
        return " " in mention and bool(self._synsets(mention)) and not self._is_kind(mention, head)

    def _synsets(self, name: str) -> list[Any]:
        if self._wordnet is None:
            return []
        found: list[Any] = self._wordnet.synsets(name.replace(" ", "_"), "n")
        return found


def resolve_synonyms(source: str) -> Source:
    """Where synonyms come from on this machine: "auto" is WordNet where its data is installed, else the table."""
    if source == "auto":
        return "table" if _wordnet() is None else "wordnet"
    return "wordnet" if source == "wordnet" else "table"


def _wordnet() -> Any:
    """The reader of nltk for WordNet; None where it or its data is not installed."""
    try:
        from nltk.corpus import wordnet

        wordnet.ensure_loaded()
    except (ImportError, LookupError, OSError):  # or incomplete
        return None
    return wordnet
