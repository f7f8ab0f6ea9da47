"""From the things of a caption and the words between them to triplets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from relpretrain.scene_graph.parse.lemmas import participle, verb_lemma
from relpretrain.scene_graph.parse.phrases import Item, Mark, Phrase
from relpretrain.scene_graph.parse.tokens import Token
from relpretrain.scene_graph.parse.words import PARTS, SIDES, lexicon


@dataclass
class Triplet:
    """Two things and the words that relate them."""

    subject: Phrase
    relation: str
    object: Phrase
    words: list[Token] = field(default_factory=list)


@dataclass
class _Pending:
    """A relation whose object is still to come."""

    subjects: list[Phrase]
    words: list[Token]
    verb: bool = False
    kind: str = ""

    def name(self) -> str:
        """The relation: verbs that are no past participles as present participles."""
        first, *others = [word.text for word in self.words]
        if self.verb and self.kind in "fv":
            first = participle(verb_lemma(first))
        return " ".join([first, *others])


def relate(sequence: Sequence[Item]) -> tuple[list[Phrase], list[Triplet]]:
    """The things of a caption, with attributes that its clauses give them, and their triplets."""
    return _Walk(_sides(_measured(list(sequence)))).run()


def _measured(sequence: list[Item]) -> list[Item]:
    """Join "a group of" with the things that it counts."""
    known = lexicon().quantities
    place = 0
    while place + 2 < len(sequence):
        counts, of, counted = sequence[place : place + 3]
        if isinstance(counts, Phrase) and _is(of, "of") and isinstance(counted, Phrase):
            word = counts.words[-1].text
            if len(counts.words) == 1 and word in known:
                way = [known[word]] if known[word] else []
                counted.attributes = [*counts.attributes, *way, *counted.attributes]
                counted.determined, counted.first = counts.determined, counts.first
                del sequence[place : place + 2]
                continue
        place += 1
    return sequence


def _is(item: Item, text: str) -> bool:
    return isinstance(item, Mark) and item.token.text == text


def _sides(sequence: list[Item]) -> list[Item]:
    """Make one preposition of "on the left side of"."""
    done: list[Item] = []
    place = 0
    while place < len(sequence):
        item = sequence[place]
        after = sequence[place + 1] if place + 1 < len(sequence) else None
        if isinstance(item, Mark) and item.kind in "it" and isinstance(after, Phrase) and after.owner is None:
            ends = place + 2 < len(sequence) and _is(sequence[place + 2], "of")
            words = [item.token, *after.words] if ends else []
            if ends and after.words[-1].text in SIDES and set(after.attributes) <= PARTS:
                span = Token(_between(item.token, after, sequence[place + 2]), item.token.start, _end(sequence[place + 2]))
                done.append(Mark("i", span))
                place += 3
                continue
            del words
        done.append(item)
        place += 1
    return done


def _between(first: Token, middle: Phrase, last: Item) -> str:
    del last
    described = " ".join([*middle.attributes, *(word.text for word in middle.words)])
    return f"{first.text} {described} of"


def _end(item: Item) -> int:
    return item.token.end if isinstance(item, Mark) else item.span[1]


class _Walk:
    """Reads the items from left to right."""

    def __init__(self, sequence: list[Item]) -> None:
        self.items = sequence
        self.phrases: list[Phrase] = []
        self.triplets: list[Triplet] = []
        self.main: list[Phrase] = []
        self.recent: list[Phrase] = []
        self.acting: list[Phrase] = []
        self.copula: list[Phrase] | None = None
        self.pending: _Pending | None = None
        self.relative = False
        self.last: _Pending | None = None

    def run(self) -> tuple[list[Phrase], list[Triplet]]:
        place = 0
        while place < len(self.items):
            item = self.items[place]
            if isinstance(item, Phrase):
                place = self.thing(place)
            else:
                self.mark(item, place)
                place += 1
        self.close()
        return self.phrases, self.triplets

    # things

    def thing(self, place: int) -> int:
        """A thing, whose it is, and those that "and" joins with it; returns the place after them."""
        group: list[Phrase] = []
        was_object = self.pending is not None
        while True:
            phrase, place = self.owned(place)
            group.append(phrase)
            after = self.next_of_list(place, was_object)
            if after is None:
                break
            place = after
        if self.pending is not None:
            self.complete(group)
        else:
            self.main = self.acting = group
        self.recent, self.copula, self.relative = group, None, False
        return place

    def owned(self, place: int) -> tuple[Phrase, int]:
        """A thing after its owners: the hand of "the man's hand"."""
        phrase = self.items[place]
        assert isinstance(phrase, Phrase)
        self.phrases.append(phrase)
        if phrase.owner is not None:
            owner = self.recent if phrase.owner.text == "whose" else self.main
            if owner and owner[0] is not phrase and phrase.owner.text == "whose":
                self.triplets.append(Triplet(owner[-1], "has", phrase, []))
        while (
            place + 2 < len(self.items)
            and isinstance(mark := self.items[place + 1], Mark)
            and mark.kind == "s"
            and isinstance(owned := self.items[place + 2], Phrase)
        ):
            self.phrases.append(owned)
            self.triplets.append(Triplet(phrase, "has", owned, [mark.token]))
            phrase, place = owned, place + 2
        return phrase, place + 1

    def next_of_list(self, place: int, was_object: bool) -> int | None:
        """Where the next thing of a list stands, if one does."""
        after = place
        while after < len(self.items) and isinstance(mark := self.items[after], Mark) and mark.kind == "k":
            after += 1
        if after == place or after >= len(self.items) or not isinstance(self.items[after], Phrase):
            return None
        if was_object:
            further = after + 1
            if further < len(self.items) and isinstance(mark := self.items[further], Mark) and mark.kind in "bhf":
                return None
            if isinstance(mark, Mark) and mark.kind == "v" and self.items[after].determined:  # type: ignore[union-attr]
                return None
        return after

    def complete(self, group: list[Phrase]) -> None:
        """The pending relation has its objects."""
        pending = self.pending
        assert pending is not None
        for subject in pending.subjects:
            for object_ in group:
                if subject is not object_:
                    self.triplets.append(Triplet(subject, pending.name(), object_, pending.words))
        self.last, self.pending = pending, None

    # words between things

    def mark(self, mark: Mark, place: int) -> None:
        kind = mark.kind
        if kind in "fvp" or kind in "bh":
            self.verb(mark)
        elif kind in "it" or (kind == "r" and self.pending):
            self.preposition(mark)
        elif kind == "j":
            target = self.copula if self.copula is not None else self.recent
            if self.pending is None:
                self.attribute(target, mark.token.text)
        elif kind == "w":
            self.close()
            self.relative = True
        elif kind == "k":
            self.conjunction(place)
        elif kind == "o":
            self.pronoun(mark)
        elif kind == "x" and mark.token.text in ".;:!?":
            self.close()

    def attribute(self, things: list[Phrase] | None, text: str) -> None:
        for thing in things or ():
            if text not in thing.attributes and text not in lexicon().plain:
                thing.attributes.append(text)

    def subjects(self, kind: str) -> list[Phrase]:
        """Who does what the next verb says."""
        if self.copula is not None:
            return self.copula
        if self.relative or kind in "vp":
            return self.recent
        return self.main or self.recent

    def verb(self, mark: Mark) -> None:
        word = mark.token.text
        if mark.kind == "b":
            subjects = self.subjects("f")
            self.close()
            self.copula = subjects
            return
        subjects = self.subjects(mark.kind)
        if self.pending is not None and self.pending.verb:
            subjects = self.pending.subjects
            self.pending = None
        self.close()
        if not subjects:
            return
        self.acting = subjects
        if mark.kind == "h":
            self.pending = _Pending(subjects, [mark.token._replace(text="has")])
        else:
            self.pending = _Pending(subjects, [mark.token], True, mark.kind)
        del word

    def preposition(self, mark: Mark) -> None:
        if self.pending is not None:
            self.pending.words = [*self.pending.words, mark.token]
            return
        subjects = self.copula if self.copula is not None else self.recent
        if subjects:
            self.pending = _Pending(subjects, [mark.token])

    def conjunction(self, place: int) -> None:
        after = self.items[place + 1] if place + 1 < len(self.items) else None
        if isinstance(after, Mark) and after.kind in "vpfbh":
            self.close()
            self.recent = self.acting or self.recent
            self.copula = None
        elif isinstance(after, Mark) and after.kind in "i" and self.last is not None:
            self.close()
            self.recent = self.last.subjects
        elif isinstance(after, Phrase) and self.pending is None:
            self.copula = None

    def pronoun(self, mark: Mark) -> None:
        if self.pending is None:
            return
        pending = self.pending
        link = next((t for t in reversed(self.triplets) if t.object in pending.subjects), None)
        if link is not None and link.relation in ("with", "has"):
            if link.relation == "with":
                self.triplets = [t for t in self.triplets if not (t.relation == "with" and t.object in pending.subjects)]
            self.complete([link.subject])
        elif self.main and self.main[0] not in pending.subjects:
            self.complete(self.main)
        else:
            self.close()

    def close(self) -> None:
        """A verb without object says what its subject is like."""
        pending, self.pending, self.copula = self.pending, None, None
        if pending is not None and pending.verb:
            self.attribute(pending.subjects, pending.words[0].text)
