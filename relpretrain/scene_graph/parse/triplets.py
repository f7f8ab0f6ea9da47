"""What the words of a caption relate: a triplet that was found, and a relation whose object is still to come."""

from __future__ import annotations

from dataclasses import dataclass, field

from relpretrain.scene_graph.parse.lexicon.lemmas import participle, verb_lemma
from relpretrain.scene_graph.parse.lexicon.tokens import Token
from relpretrain.scene_graph.parse.lexicon.words import EXCEPT
from relpretrain.scene_graph.parse.phrases import Phrase

CONFIDENCE = {"direct": 0.82, "list": 0.70, "owner": 0.76, "pronoun": 0.58, "of": 0.61, "attached": 0.40}
"""The share of triplets found in each way that the annotators of FACTUAL's development captions have as well.

"attached": a preposition or a participle after several things, of which the nearest or the living one was taken.
"""


@dataclass(eq=False)
class Triplet:
    """Two things and the words that relate them.

    Args:
        subject: The first thing.
        relation: How it relates.
        object: The second thing.
        words: The words that say so.
        way: How it was found, a key of `CONFIDENCE`.
    """

    subject: Phrase
    relation: str
    object: Phrase
    words: list[Token] = field(default_factory=list)
    way: str = "direct"

    @property
    def span(self) -> tuple[int, int] | None:
        """Where the caption says so; None if no word does."""
        return (self.words[0].start, self.words[-1].end) if self.words else None

    @property
    def confidence(self) -> float:
        """How sure it is."""
        return min(CONFIDENCE[self.way], CONFIDENCE["of"] if self.relation == "of" else 1.0)


@dataclass(eq=False)
class Pending:
    """A relation whose object is still to come.

    Args:
        subjects: The things that it is about.
        words: Its words so far.
        verb: Whether it begins with a verb.
        kind: The letter of that verb's form, t for an infinitive with "to".
        guess: Whether its subjects are a choice among several things.
        denied: Whether the caption says that it does not hold.
    """

    subjects: list[Phrase]
    words: list[Token]
    verb: bool = False
    kind: str = ""
    guess: bool = False
    denied: bool = False

    @property
    def says_none(self) -> bool:
        """Whether it says that its objects are not there."""
        return self.denied or self.words[-1].text in EXCEPT

    def name(self) -> str:
        """The relation: verbs that are no past participles as present participles, which stay as they are."""
        first, *others = [word.text for word in self.words]
        if self.verb and self.kind in "fvt" and not (self.kind == "v" and first.endswith("ing")):
            first = participle(verb_lemma(first))
        return " ".join([first, *others])
