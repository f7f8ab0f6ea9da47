"""Parts of speech by the bundled lexicon; or by nltk's tagger, with lemmas of WordNet, where its data are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from nltk.tag import RegexpTagger, UnigramTagger

from relpretrain.errors import ConfigError
from relpretrain.scene_graph.parse.lexicon.lemmas import IRREGULAR_FORMS, noun_lemma, verb_lemma
from relpretrain.scene_graph.parse.lexicon.words import CLOSED, lexicon, listed

Tagger = Callable[[Sequence[str]], list[str]]
"""Penn Treebank tags of words in lower case."""

_BY_ENDING = [
    (r"^\d+(?:[.,]\d+)*$", "CD"), (r"^['’]s?$", "POS"), (r"^\W+$", "."), (r".+ing$", "VBG"), (r".+ed$", "VBN"),
    (r".+ly$", "RB"), (r".+(?:ous|ful|ish|able|less|ic|al|-.*ed|-.*ing)$", "JJ"), (r".+[^su]s$", "NNS"), (r".*", "NN"),
]  # fmt: skip
_NOUNS = ("NN", "NNS", "NNP", "NNPS")
_BEFORE_NOUN = ("DT", "PRP$", "CD", "JJ", "JJR", "JJS", "POS", "IN", "^", ".", ",")
_TAKES_OBJECT = listed("wearing holding eating carrying playing riding using having")


@cache
def _by_word() -> UnigramTagger:
    return UnigramTagger(model={**IRREGULAR_FORMS, **lexicon().tags, **CLOSED}, backoff=RegexpTagger(_BY_ENDING))


def bundled_tags(words: Sequence[str]) -> list[str]:
    """The most frequent tag of each word, put right by what stands beside it."""
    tags = [tag for _, tag in _by_word().tag(list(words))]
    for i, word in enumerate(words):
        if tuple(words[i : i + 3]) == ("side", "by", "side"):
            tags[i : i + 3] = ["RB"] * 3
        elif tuple(words[i : i + 2]) in (("each", "other"), ("one", "another")):
            tags[i : i + 2] = ["PRP"] * 2
        elif word in ("ca", "wo") and tuple(words[i + 1 : i + 2]) in (("n't",), ("n’t",)):
            tags[i] = "MD"
            continue
        elif word in ("left", "right") and tuple(words[i + 1 : i + 2]) == ("of",) and _follows_a_thing(tags[:i]):
            tags[i] = "IN"
            continue
        before = tags[i - 1] if i else "^"
        after = tags[i + 1] if i + 1 < len(tags) else "$"
        tags[i] = _corrected(word, tags[i], before, after, words[i - 1] if i else "")
    return tags


def _follows_a_thing(tags: Sequence[str]) -> bool:
    """Whether what comes next is said of a thing before it: "a cup left of", "is left of", but not "on the left of"."""
    return bool(tags) and (tags[-1] in _NOUNS or tags[-1].startswith("V"))


def _corrected(word: str, tag: str, before: str, after: str, word_before: str) -> str:
    """The tag of a word between others."""
    if word in ("'s", "’s"):
        return "VBZ" if after in ("VBG", "DT", "IN") or before in ("PRP", "EX", "DT") else "POS"
    if tag in ("VBG", "VBN", "VBD") and after in (*_NOUNS, "JJ") and before in _BEFORE_NOUN:
        return tag if word in _TAKES_OBJECT and before in ("^", "IN") else "JJ"
    if tag == "VBD" and after == "IN" and word.endswith("ed"):
        return "VBN"
    if word == "that" and before in _NOUNS and after.startswith("V"):
        return "WDT"
    if tag in ("VB", "VBP", "VBZ") and before in ("DT", "JJ", "PRP$", "CD", "POS") and word_before != "that":
        return "NNS" if word.endswith("s") else "NN"
    if tag == "VBG" and before in ("DT", "PRP$", "JJ") and after not in _NOUNS:
        return "NN"
    if tag == "JJ" and before in ("DT", "PRP$", "JJ") and word in _ALSO_NOUN and not after.startswith(("N", "J", "C")):
        return "NN"
    return _verb_after_noun(word, tag, before, after)


def _verb_after_noun(word: str, tag: str, before: str, after: str) -> str:
    """The tag of a word that may be a verb, after a noun: "men ride horses", "a dog takes a nap"."""
    known, lemma = lexicon(), verb_lemma(word)
    if lemma not in known.verbs or before not in _NOUNS:
        return tag
    if before == "NNS" and lemma == word and tag in ("NN", "VB", "JJ"):
        return "VBP"
    unknown = tag == "NNS" and word not in known.tags
    return "VBZ" if tag in ("NN", "NNS") and (after in ("DT", "PRP$", "VBZ") or unknown) else tag


_ALSO_NOUN = listed("orange white front back left right top inside young glass plastic metal square")


def nltk_tagger() -> Tagger:
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
