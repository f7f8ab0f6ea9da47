"""What nltk's data sets add, where they were downloaded: its tagger, and the lemmas of WordNet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from relpretrain.errors import ConfigError
from relpretrain.scene_graph.parse.lemmas import noun_lemma
from relpretrain.scene_graph.parse.words import CLOSED


def nltk_tagger() -> Callable[[Sequence[str]], list[str]]:
    """Nltk's averaged perceptron; words of closed classes keep their tags.

    Raises:
        ConfigError: If its data are missing.
    """
    from nltk.tag import PerceptronTagger

    try:
        tagger = PerceptronTagger()
    except LookupError:
        raise _missing("averaged_perceptron_tagger_eng") from None

    def tags(words: Sequence[str]) -> list[str]:
        return [CLOSED.get(word, tag) for word, tag in tagger.tag(list(words))] if words else []

    return tags


class WordNetNouns:
    """Singulars of nouns by WordNet.

    Raises:
        ConfigError: If WordNet is missing.
    """

    def __init__(self) -> None:
        from nltk.corpus import wordnet
        from nltk.stem import WordNetLemmatizer

        try:
            wordnet.ensure_loaded()
        except LookupError:
            raise _missing("wordnet") from None
        self._lemmatize = WordNetLemmatizer().lemmatize

    def __call__(self, name: str) -> str:
        """The singular of a name, of whose words the last one counts; by rule where WordNet does not know it."""
        before, space, last = name.rpartition(" ")
        lemma = self._lemmatize(last, "n")
        return f"{before}{space}{lemma if lemma != last else noun_lemma(last)}"


def _missing(data: str) -> ConfigError:
    return ConfigError(
        f"nltk's {data} is not on this machine: python -m nltk.downloader averaged_perceptron_tagger_eng wordnet, or "
        "parse without nltk_data"
    )
