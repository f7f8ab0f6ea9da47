"""From the things of a caption and the words between them to triplets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from relpretrain.scene_graph.parse.lemmas import noun_lemma, participle, verb_lemma
from relpretrain.scene_graph.parse.phrases import Item, Mark, Phrase
from relpretrain.scene_graph.parse.tokens import Token
from relpretrain.scene_graph.parse.words import ANIMATE_VERBS, PARTS, SIDES, lexicon


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
    return _Walk(_measured(_sides(list(sequence)))).run()


def _measured(sequence: list[Item]) -> list[Item]:
    """Join "a group of" with the things that it counts."""
    known = lexicon().quantities
    place = 0
    while place + 2 < len(sequence):
        counts, of, counted = sequence[place : place + 3]
        if isinstance(counts, Phrase) and _is(of, "of") and isinstance(counted, Phrase):
            way = known.get(counts.label)
            if way is not None:
                counted.attributes = [*counts.attributes, *filter(None, [way]), *counted.attributes]
                counted.determined, counted.first = counts.determined, counts.first
                del sequence[place : place + 2]
                continue
        place += 1
    return sequence


def _animate(group: Sequence[Phrase]) -> bool:
    return any(noun_lemma(phrase.words[-1].text) in lexicon().animate for phrase in group)


def _is(item: Item, text: str) -> bool:
    return isinstance(item, Mark) and item.token.text == text


def _sides(sequence: list[Item]) -> list[Item]:
    """Make one word of "on the left side of", a preposition, and one of "on the left", a place."""
    done: list[Item] = []
    place = 0
    while place < len(sequence):
        item = sequence[place]
        side = sequence[place + 1] if place + 1 < len(sequence) else None
        place += 1
        if not (isinstance(item, Mark) and item.kind in "it" and isinstance(side, Phrase) and _is_side(side)):
            done.append(item)
            continue
        place += 1
        words = [item.token.text, *side.attributes, *(word.text for word in side.words)]
        of = sequence[place] if place < len(sequence) else None
        if isinstance(of, Mark) and of.token.text == "of":
            place += 1
            done.append(Mark("i", Token(" ".join([*words, "of"]), item.token.start, of.token.end)))
        else:
            words[1:1] = ["the"] if side.determined else []
            done.append(Mark("y", Token(" ".join(words), item.token.start, side.span[1])))
    return done


def _is_side(phrase: Phrase) -> bool:
    """Whether a phrase names a part of a thing that says where another one is."""
    return phrase.owner is None and phrase.words[-1].text in SIDES and {*phrase.attributes} <= PARTS


def _meant(subject: Phrase, relation: str, object_: Phrase) -> str:
    """What a preposition means between two things: a man in a hat wears it, a bowl of fruit has fruit."""
    known = lexicon()
    if relation == "in" and object_.words[-1].text in known.worn and _animate([subject]):
        return "wearing"
    return "has" if relation == "of" and subject.label in known.holders else relation


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
        self.adjacent = False
        self.fronted: list[Phrase] = []

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
            self.fronted = self.recent if self.adjacent else []
            self.main = self.acting = group
        self.adjacent = True
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
                    name = _meant(subject, pending.name(), object_)
                    self.triplets.append(Triplet(subject, name, object_, pending.words))
        self.last, self.pending = pending, None

    # words between things

    def mark(self, mark: Mark, place: int) -> None:
        kind = mark.kind
        self.adjacent = kind == "w"
        if kind in "fvp" or kind in "bh":
            self.verb(mark)
        elif kind in "it" or (kind == "r" and self.pending):
            self.preposition(mark)
        elif kind == "y":
            self.side(mark.token)
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

    def subjects(self, kind: str, word: str) -> list[Phrase]:
        """Who does what the next verb says."""
        if self.copula is not None:
            return self.copula
        if kind in "vp" and not self.relative and not _animate(self.recent) and _animate(self.main):
            if verb_lemma(word) in ANIMATE_VERBS:
                return self.main
        if self.relative or kind in "vp":
            return self.recent
        return self.main or self.recent

    def verb(self, mark: Mark) -> None:
        word = mark.token.text
        if mark.kind == "b":
            subjects = self.subjects("f", word)
            self.close()
            self.copula = subjects
            return
        subjects = self.subjects(mark.kind, word)
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

    def side(self, place: Token) -> None:
        """ "With a bell on top": on top of what has the bell; else a place describes its thing."""
        link = self.link(self.recent)
        if self.pending is None and link is not None and self.copula is None:
            text = place.text.replace(" the ", " ")
            self.pending = _Pending(self.recent, [place._replace(text=f"{text} of")])
            self.refer(link)
            return
        subjects = self.pending.subjects if self.pending else self.copula or self.recent
        self.close()
        self.attribute(subjects, place.text)

    def link(self, things: list[Phrase]) -> Triplet | None:
        """The triplet that says that a thing has these."""
        had = (t for t in reversed(self.triplets) if t.object in things and t.relation in ("with", "has"))
        return next(had, None)

    def refer(self, link: Triplet) -> None:
        """The pending relation is one to the thing that has its subjects; "with" then says nothing more."""
        assert self.pending is not None
        subjects = self.pending.subjects
        self.triplets = [t for t in self.triplets if t.relation != "with" or t.object not in subjects]
        self.complete([link.subject])

    def pronoun(self, mark: Mark) -> None:
        """ "It" is what has the subject of the relation, or what the caption is about."""
        if self.pending is None:
            return
        link = self.link(self.pending.subjects)
        if link is not None:
            self.refer(link)
        elif self.main and self.main[0] not in self.pending.subjects:
            self.complete(self.main)
        else:
            self.close()

    def close(self) -> None:
        """A verb without object says what its subject is like."""
        pending, self.pending, self.copula = self.pending, None, None
        if pending is not None and pending.verb and self.fronted and self.fronted[0] not in pending.subjects:
            self.pending = pending
            self.complete(self.fronted)
            self.fronted = []
        elif pending is not None and pending.verb:
            self.attribute(pending.subjects, pending.words[0].text)
