"""From the things of a caption and the words between them to triplets."""

from __future__ import annotations

from collections.abc import Sequence

from relpretrain.scene_graph.parse.lexicon.lemmas import verb_lemma
from relpretrain.scene_graph.parse.lexicon.tokens import Token
from relpretrain.scene_graph.parse.lexicon.words import ANIMATE_VERBS, NO, lexicon
from relpretrain.scene_graph.parse.phrases import Item, Mark, Phrase, animate, likeness, meant
from relpretrain.scene_graph.parse.triplets import Pending, Triplet

LONGEST_LIST = 12
"""Things that "and" joins; a longer list is several."""

_OR = ("or", "nor")
"""What goes on with what is denied."""


def _kind(item: Item | None) -> str:
    return item.kind if isinstance(item, Mark) else ""


def relate(sequence: Sequence[Item]) -> tuple[list[Phrase], list[Triplet]]:
    """The things of a caption, with attributes that its clauses give them, and their triplets.

    What the caption says is not so is left out: things that are not there ("no cars", "without a hat", "not a cloud")
    and relations that do not hold, with their objects ("is not wearing a helmet").
    """
    return _Walk(sequence).run()


class _Walk:
    """Reads the items from left to right.

    `main` is what the clause is about, `recent` the things just named, `acting` the subjects of the last verb, `copula`
    the subjects of "is" until its complement, `fronted` things that stand before a clause that they are the object of
    ("the wave the man rides"). `denying` says that "not" stands before what comes next, `denied` that it stood before
    the last relation.
    """

    def __init__(self, sequence: Sequence[Item]) -> None:
        self.items = sequence
        self.phrases: list[Phrase] = []
        self.triplets: list[Triplet] = []
        self.main: list[Phrase] = []
        self.recent: list[Phrase] = []
        self.acting: list[Phrase] = []
        self.copula: list[Phrase] | None = None
        self.pending: Pending | None = None
        self.relative = False
        self.last: Pending | None = None
        self.adjacent = False
        self.fronted: list[Phrase] = []
        self.denying = self.denied = False

    def run(self) -> tuple[list[Phrase], list[Triplet]]:
        """Read them all."""
        place = 0
        while place < len(self.items):
            item = self.items[place]
            if isinstance(item, Phrase):
                place = self.thing(place)
            else:
                self.mark(item, place)
                place += 1
        self.close()
        there = [phrase for phrase in self.phrases if not phrase.absent]
        return there, [t for t in self.triplets if not (t.subject.absent or t.object.absent)]

    def thing(self, place: int) -> int:
        """A thing, whose it is, and those that "and" joins with it; returns the place after them."""
        group: list[Phrase] = []
        was_object = self.pending is not None
        none = self.take_denial()
        if self.pending is not None:
            self.pending.denied |= none
        while True:
            phrase, place = self.owned(place)
            phrase.absent |= none or (self.pending is not None and self.pending.says_none)
            group.append(phrase)
            after = self.next_of_list(place, was_object)
            if after is None or len(group) == LONGEST_LIST:
                break
            none = phrase.absent and self.none_either(place, after)
            place = after
        if self.likens():
            group = self.liken(group, place)
        elif self.pending is not None:
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
        if phrase.owner is not None and phrase.owner.text == "whose" and self.recent:
            self.triplets.append(Triplet(self.recent[-1], "has", phrase, [phrase.owner], "owner"))
        while isinstance(mark := self.at(place + 1), Mark) and mark.kind == "s":
            owned = self.at(place + 2)
            if not isinstance(owned, Phrase):
                break
            self.phrases.append(owned)
            self.triplets.append(Triplet(phrase, "has", owned, [mark.token], "owner"))
            phrase, place = owned, place + 2
        return phrase, place + 1

    def next_of_list(self, place: int, was_object: bool) -> int | None:
        """Where the next thing of a list stands, if one does; not one that begins a clause of its own."""
        after = place
        while _kind(self.at(after)) == "k":
            after += 1
        phrase = self.at(after)
        if after == place or not isinstance(phrase, Phrase):
            return None
        return None if was_object and self.begins_clause(phrase, after + 1) else after

    def begins_clause(self, phrase: Phrase, place: int) -> bool:
        """Whether what "and" joins with an object has a verb of its own; `place` is the one after it.

        Of a man in "a shirt and jeans is talking" it is he who talks.
        """
        further = _kind(self.at(place))
        if further == "i":  # "under a table and a cat on it", but "with a fork and a knife on it"
            had = self.pending is not None and self.pending.words[0].text in ("with", "has")
            return phrase.determined and not had and _kind(self.at(place + 1)) == "o"
        if further not in ("b", "h", "f") and not (further == "v" and phrase.determined):
            return False
        while _kind(verb := self.at(place)) in ("b", "a", "z"):
            place += 1
        acts = isinstance(verb, Mark) and verb.kind in "fv" and verb_lemma(verb.token.text) in ANIMATE_VERBS
        return not (acts and animate(self.main) and not animate([phrase]))

    def none_either(self, start: int, place: int) -> bool:
        """Whether "no" is also said of the next thing of a list: "no cars or trucks", but not "no cars and a truck"."""
        phrase = self.items[place]
        assert isinstance(phrase, Phrase)
        joined = {item.token.text for item in self.items[start:place] if isinstance(item, Mark)}
        return not phrase.determined or not joined.isdisjoint(_OR)

    def take_denial(self) -> bool:
        """Whether "not" stands before what comes now; asked once."""
        denying, self.denying = self.denying, False
        return denying

    def denies(self, mark: Mark, place: int) -> bool:
        """Whether a word denies what comes next: "not", but not "not only"; "no one" and "no longer", not "no 2"."""
        after = self.at(place + 1)
        following = after.token.text if isinstance(after, Mark) else ""
        if mark.kind == "z":
            return following not in ("only", "just")
        return mark.kind == "d" and mark.token.text in NO and not following.isdigit()

    def at(self, place: int) -> Item | None:
        """The item at a place, if there is one."""
        return self.items[place] if place < len(self.items) else None

    def complete(self, group: list[Phrase]) -> None:
        """The pending relation has its objects."""
        pending = self.pending
        assert pending is not None
        theirs = group[0].owner is not None and pending.words[0].text == "with"
        if theirs and not animate(pending.subjects) and animate(self.main):
            pending.subjects = self.main
        several = len(group) > 1 or len(pending.subjects) > 1
        way = "attached" if pending.guess else "list" if several else "direct"
        for subject in pending.subjects:
            for object_ in group:
                if subject is not object_ and not pending.denied:
                    name = meant(subject, pending.name(), object_)
                    self.triplets.append(Triplet(subject, name, object_, pending.words, way))
        self.last, self.pending, self.denied = pending, None, pending.denied

    def likens(self) -> bool:
        """Whether the pending relation says what its subjects are like."""
        return self.pending is not None and self.pending.verb and likeness(self.pending.words) != ""

    def liken(self, group: list[Phrase], place: int) -> list[Phrase]:
        """What a thing looks like is not there: it says what the thing is like. Returns what is spoken of.

        In "it looks like a dog is asleep" a clause comes, `place` being that of its verb.
        """
        pending, self.pending = self.pending, None
        assert pending is not None
        if not self.relative and self.begins_clause(group[-1], place):
            self.main = self.acting = group
            return group
        for phrase in group:
            phrase.absent = True
            if not pending.denied:
                self.attribute(pending.subjects, " ".join([likeness(pending.words), *phrase.attributes, phrase.label]))
        self.last, self.denied = pending, pending.denied
        return pending.subjects

    def mark(self, mark: Mark, place: int) -> None:
        """A word between things."""
        kind = mark.kind
        self.adjacent = kind == "w"
        if kind in "wxou":
            self.denying = False
        if self.denies(mark, place):
            self.denying = True
        elif kind in "fvpbh":
            self.verb(mark)
        elif kind in "it" or (kind == "r" and self.pending):
            self.preposition(mark)
        elif kind == "y":
            self.side(mark.token)
        elif kind == "j" and self.denying and mark.token.text == "longer":
            pass  # "no longer": what comes next is denied still
        elif kind == "j" and self.pending is None:
            self.denied = self.take_denial()
            if not self.denied:
                self.attribute(self.recent if self.copula is None else self.copula, mark.token.text)
        elif kind == "w":
            self.close()
            self.relative = True
        elif kind == "u":
            self.close()
            self.recent = self.acting or self.recent
        elif kind == "k":
            self.conjunction(place)
        elif kind == "o":
            self.pronoun(mark.token.text)
        elif kind == "x" and mark.token.text in ".;:!?":
            self.close()

    def attribute(self, things: list[Phrase], text: str) -> None:
        """Things are like this."""
        for thing in things:
            if text not in thing.attributes and text not in lexicon().plain:
                thing.attributes.append(text)

    def subjects(self, kind: str, word: str) -> list[Phrase]:
        """Who does what the next verb says."""
        if self.copula is not None:
            return self.copula
        if kind in "vp" and not animate(self.recent) and verb_lemma(word) in ANIMATE_VERBS:
            actors = self.main if animate(self.main) else [p for p in self.phrases if animate([p])][-1:]
            return actors or self.recent
        if self.relative or kind in "vp":
            return self.recent
        return self.main or self.recent

    def verb(self, mark: Mark) -> None:
        """A verb begins a relation of its subjects, or tells that their description comes."""
        word = mark.token.text
        if self.fronted and mark.kind in "bhf" and self.pending is not None:
            self.close()
        if mark.kind == "b":
            subjects = self.subjects("f", word)
            self.close()
            self.copula = subjects
            return
        subjects, denied = self.subjects(mark.kind, word), self.take_denial()
        infinitive = self.pending is not None and self.pending.words[-1].text == "to"
        if self.pending is not None and self.pending.verb:
            subjects = self.pending.subjects
            self.pending = None
        self.close()
        if not subjects:
            return
        self.acting = subjects
        if mark.kind == "h":
            self.pending = Pending(subjects, [mark.token._replace(text="has")], denied=denied)
        else:
            guess = mark.kind in "vp" and self.recent is not self.main and not self.relative
            self.pending = Pending(subjects, [mark.token], True, "t" if infinitive else mark.kind, guess, denied)

    def preposition(self, mark: Mark) -> None:
        """A preposition belongs to the verb before it, or begins a relation."""
        denied = self.take_denial()
        if self.pending is not None:
            self.pending.words = [*self.pending.words, mark.token]
            self.pending.denied |= denied
            return
        subjects = self.copula if self.copula is not None else self.attached(mark.token.text)
        if subjects:
            guess = self.copula is None and self.recent is not self.main
            self.pending = Pending(subjects, [mark.token], guess=guess, denied=denied)

    def attached(self, preposition: str) -> list[Phrase]:
        """What a preposition after a thing belongs to: that thing, or who does something with it.

        In "a man riding a wave on a surfboard" the man is on it: so FACTUAL's annotators say in two of three such
        cases if who acts lives and the thing does not.
        """
        acting = self.last is not None and (self.last.verb or preposition in ("with", "at", "down"))
        if preposition != "of" and acting and animate(self.main) and not animate(self.recent):
            return self.main
        return self.recent

    def conjunction(self, place: int) -> None:
        """What "and" begins: another verb of who acts, or another preposition of the last relation's subjects."""
        after = self.at(place + 1)
        if _kind(after) in ("v", "p", "f", "b", "h"):
            self.close()
            self.recent = self.acting or self.recent
        elif _kind(after) == "i" and self.last is not None:
            self.close()
            self.recent = self.last.subjects
        elif isinstance(after, Phrase) and self.pending is None:
            self.copula = None
        mark = self.items[place]
        if isinstance(mark, Mark) and mark.token.text in _OR:
            self.denying |= self.denied

    def side(self, place: Token) -> None:
        """A place: with a bell "on top" it is on top of what has the bell; else it describes its thing."""
        if self.take_denial() or (self.pending is not None and self.pending.denied):
            self.close()
            return
        link = self.link(self.recent)
        if self.pending is None and link is not None and self.copula is None:
            text = place.text.replace(" the ", " ")
            self.pending = Pending(self.recent, [place._replace(text=f"{text} of")])
            self.refer(link)
            return
        subjects = self.pending.subjects if self.pending is not None else self.copula or self.recent
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
        number = len(self.triplets)
        self.complete([link.subject])
        for triplet in self.triplets[number:]:
            triplet.way = "pronoun"

    def pronoun(self, text: str) -> None:
        """A pronoun stands for what has the subject of the relation, or for what the caption is about."""
        if self.pending is None:
            return
        if self.likens():  # "looks like it is asleep"
            self.pending = None
            return
        link = self.link(self.pending.subjects)
        if text not in ("it", "them", "him", "her"):
            self.close()
        elif link is not None:
            self.refer(link)
        elif self.main and self.main[0] not in self.pending.subjects:
            self.complete(self.main)
        else:
            self.close()

    def close(self) -> None:
        """A verb without object says what its subject is like."""
        pending, self.pending, self.copula = self.pending, None, None
        self.denied = pending is not None and pending.denied
        if pending is None or self.denied:
            return
        if pending.verb and self.fronted and self.fronted[0] not in pending.subjects:
            self.pending = pending
            self.complete(self.fronted)
            self.main, self.recent, self.fronted = self.fronted, self.fronted, []
        elif pending.verb and pending.kind != "t":
            self.attribute(pending.subjects, pending.name().split(" ", 1)[0])
