"""From a dependency tree to things and triplets: one rule for each way that English relates things."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from relpretrain.scene_graph.parse.clauses import LONGEST_LIST
from relpretrain.scene_graph.parse.lexicon.lemmas import noun_lemma, participle, verb_lemma
from relpretrain.scene_graph.parse.lexicon.tokens import Token
from relpretrain.scene_graph.parse.lexicon.words import NO, NOT, PARTS, SIDES, lexicon
from relpretrain.scene_graph.parse.phrases import Phrase, divide, likeness, meant, says_none
from relpretrain.scene_graph.parse.record import ParsedCaption, ParsedEntity, ParsedRelation

Word = Any
"""A token of spaCy."""

CONFIDENCE = 0.75
"""The share of triplets that the annotators of FACTUAL's development captions have as well."""

_SUBJECTS = ("nsubj", "nsubjpass")
_DESCRIBE = ("amod", "nummod", "compound", "nmod", "acl")
_OBJECTS = ("dobj", "obj", "dative", "attr", "oprd", "acomp", "agent", "prep", "pobj")


def read_tree(doc: Any) -> ParsedCaption:
    """The things and triplets of a parsed caption; what it denies is left out, as `clauses.relate` does.

    Args:
        doc: A `spacy.tokens.Doc` with tags and dependencies as spaCy's English pipelines name them. One so deep that
            Python cannot walk it, of hundreds of words each within the other, gives an empty record.
    """
    try:
        return _Reader(doc).record()
    except RecursionError:
        return ParsedCaption()


def _token(word: Word) -> Token:
    return Token(word.text.lower(), word.idx, word.idx + len(word.text))


def _children(word: Word, *relations: str) -> list[Word]:
    return [child for child in word.children if child.dep_ in relations]


def _conjuncts(word: Word) -> Iterator[Word]:
    """What is joined with a word by "and", commas or "or", each to the one before."""
    for other in _children(word, "conj"):
        yield other
        yield from _conjuncts(other)


def _span(words: list[Word]) -> tuple[int, int]:
    """Where words stand; of words apart from each other, the longest part that stands together."""
    runs: list[list[Word]] = []
    for word in sorted(words, key=lambda word: word.i):
        if runs and word.i == runs[-1][-1].i + 1:
            runs[-1].append(word)
        else:
            runs.append([word])
    longest = max(runs, key=lambda run: run[-1].idx + len(run[-1].text) - run[0].idx)
    return longest[0].idx, longest[-1].idx + len(longest[-1].text)


class _Reader:
    def __init__(self, doc: Any) -> None:
        self.doc = doc
        self.phrases: dict[int, Phrase] = {}
        self.relations: dict[tuple[int, str, int], tuple[int, int]] = {}
        self.order: list[int] = []
        self.denied = {word.i for denying in doc for word in self._denied_by(denying)}
        for word in doc:
            if word.i not in self.denied and self._is_thing(word):
                self._add(word)
        for word in doc:
            if word.i in self.phrases:
                self._thing(word)
            elif word.tag_.startswith("VB") and not self._is_denied(word):
                self._verb(word)

    def record(self) -> ParsedCaption:
        """What was found."""
        place = {index: i for i, index in enumerate(self.order)}
        entities = (
            ParsedEntity(p.label, p.span, tuple(p.attributes)) for p in map(self.phrases.__getitem__, self.order)
        )
        relations = (
            ParsedRelation(place[s], name, place[o], span, CONFIDENCE) for (s, name, o), span in self.relations.items()
        )
        return ParsedCaption(tuple(entities), tuple(relations))

    # what is not so

    def _denied_by(self, word: Word) -> Iterator[Word]:
        """Nouns that a word says are not there: its own, of "no cars", or the objects of what does not hold."""
        first = next((child.lower_ for child in word.children if child.lower_ in NO), "")
        before = (child.lower_ for child in word.lefts if child.lower_ != first)
        none = says_none([first, *before, word.lower_])
        if word.tag_.startswith(("NN", "CD")) and (none or self._is_denied(word)):
            yield word
            yield from self._joined(word)
        elif self._likens(word):
            yield from self._alike(word)
        elif word.lower_ == "without" or (word.tag_.startswith("VB") and self._is_denied(word)):
            yield from self._objects(word)

    def _is_denied(self, word: Word) -> bool:
        """Whether "not" belongs to a word."""
        return any(child.dep_ == "neg" and child.lower_ in NOT for child in word.children)

    def _likens(self, word: Word) -> bool:
        """Whether a word is the "like" of "looks like": what comes after it is not there."""
        verb = word.head
        likens = word.lower_ == "like" and word.dep_ == "prep" and verb.tag_.startswith("VB")
        return likens and verb_lemma(verb.lower_) != "be"

    def _alike(self, like: Word) -> Iterator[Word]:
        """The nouns of which a "like" says that something looks like them."""
        for thing in _children(like, "pobj"):
            yield from (thing, *_conjuncts(thing))

    def _joined(self, word: Word) -> Iterator[Word]:
        """What "or" joins with a noun, and what "and" does if it has no article of its own."""
        either = any(child.lower_ in ("or", "nor") for child in _children(word, "cc"))
        for other in _children(word, "conj"):
            if either or not _children(other, "det"):
                yield other
                yield from self._joined(other)

    def _objects(self, word: Word) -> Iterator[Word]:
        """The nouns that a verb or a preposition governs, but for its subjects and further clauses."""
        for child in _children(word, *_OBJECTS):
            yield child
            yield from _conjuncts(child)
            yield from self._objects(child)

    # things

    def _is_thing(self, word: Word) -> bool:
        """Whether a noun names something, rather than a kind, a number, or a part that says where."""
        if word.dep_ == "ROOT" and word.i == 0 and not _children(word, *_SUBJECTS, "dobj"):  # "building with windows"
            return str(lexicon().tags.get(word.lower_, word.tag_)).startswith("NN")
        if not word.tag_.startswith("NN") or word.dep_ in ("compound", "nmod", "amod", "npadvmod"):
            return False
        if self._counted(word) is not None:
            return False
        return not (word.dep_ == "pobj" and self._is_side(word))

    def _counted(self, word: Word) -> Word | None:
        """What "a group of" counts."""
        of = next((child for child in _children(word, "prep") if child.lower_ == "of"), None)
        things = _children(of, "pobj") if of is not None else []
        if not things or not things[0].tag_.startswith("NN"):
            return None
        return things[0] if noun_lemma(word.lower_) in lexicon().quantities else None

    def _is_side(self, word: Word) -> bool:
        described = {child.lower_ for child in _children(word, *_DESCRIBE)}
        return word.lower_ in SIDES and described <= PARTS and not _children(word, "poss")

    def _add(self, word: Word) -> None:
        self.phrases[word.i] = self._phrase(word)
        self.order.append(word.i)

    def _phrase(self, word: Word) -> Phrase:
        """A noun with the words that describe it."""
        before = [child for child in word.lefts if child.dep_ in _DESCRIBE and child.tag_ not in ("DT", "PRP$")]
        words = sorted({inner.i for child in before for inner in self._described(child)} | {word.i})
        texts = [_token(self.doc[i]) for i in words]
        nouns = 1
        while (
            nouns < len(words)
            and self.doc[words[-1 - nouns]].tag_.startswith("NN")
            and words[-nouns] - words[-1 - nouns] == 1
        ):
            nouns += 1
        name, attributes = divide(texts, nouns)
        if attributes and any(child.lower_ in NO for child in word.lefts):  # a "no parking" sign
            attributes = [" ".join(["no", *attributes])]
        return Phrase(name, attributes)

    def _described(self, word: Word) -> Iterator[Word]:
        """A describing word with those that belong to it, but for adverbs and marks."""
        yield word
        for child in word.children:
            if child.dep_ in ("conj", "amod", "compound", "nmod", "npadvmod") and not child.is_punct:
                yield from self._described(child)

    def _things(self, word: Word) -> list[int]:
        """The things that a word stands for, with those that "and" joins to it."""
        if word.tag_ in ("WP", "WDT") or word.lower_ == "that":
            clause = next((a for a in word.ancestors if a.dep_ == "relcl"), None)
            return self._things(clause.head) if clause is not None else []
        counted = self._counted(word) if word.tag_.startswith("NN") else None
        found = self._things(counted) if counted is not None else [word.i] if word.i in self.phrases else []
        for other in _children(word, "conj"):
            found += self._things(other)
        return found

    # relations

    def _relate(self, subjects: list[int], name: str, objects: list[int], words: list[Word]) -> None:
        for subject in subjects[:LONGEST_LIST]:
            for object_ in objects[:LONGEST_LIST]:
                if subject != object_:
                    meaning = meant(self.phrases[subject], name, self.phrases[object_])
                    self.relations.setdefault((subject, meaning, object_), _span(words))

    def _describe(self, things: list[int], text: str) -> None:
        for thing in things:
            attributes = self.phrases[thing].attributes
            if text not in attributes and text not in lexicon().plain:
                attributes.append(text)

    def _thing(self, word: Word) -> None:
        """What a noun governs: its owner, and prepositions."""
        for owner in _children(word, "poss"):
            mark = _children(owner, "case")
            self._relate(self._things(owner), "has", [word.i], mark or [owner])
        self._prepositions(word, [word.i], [])
        if word.dep_ == "conj" and not _children(word.head, "prep"):
            self._prepositions(word, [i for i in self._things(word.head) if i < word.i], [])
        of_it = word.dep_ == "pobj" and word.head.lower_ == "of"
        counted = self._counted(word.head.head) if of_it else None
        if counted is not None and counted.i == word.i:
            counter = word.head.head
            way = lexicon().quantities[noun_lemma(counter.lower_)]
            described = [c.lower_ for c in _children(counter, "amod", "nummod") if c.lower_ not in lexicon().plain]
            self.phrases[word.i].attributes[:0] = [*described, *filter(None, [way])]
            self._prepositions(counter, [word.i], [], skip="of")

    def _verb(self, verb: Word) -> None:
        """What a verb relates: its subjects with its objects and with those of its prepositions."""
        subjects = self._subjects(verb)
        if not subjects:
            return
        be = verb_lemma(verb.lower_) == "be"
        particles = _children(verb, "prt")
        done = False
        if be:
            for complement in _children(verb, "acomp"):
                if complement.lower_ not in ("next", "close", "full"):
                    self._describe(subjects, complement.lower_)
                self._prepositions(
                    complement, subjects, [complement] if complement.lower_ in ("next", "close", "full") else []
                )
            self._prepositions(verb, subjects, [])
            return
        name = self._named(verb)
        for object_ in _children(verb, "dobj", "obj"):
            things = self._things(object_)
            self._relate(subjects, " ".join([name, *(p.lower_ for p in particles)]), things, [verb, *particles])
            done = done or bool(things) or object_.i in self.denied
        agents = [(agent, thing) for agent in _children(verb, "agent") for thing in _children(agent, "pobj")]
        for agent, thing in agents:
            self._relate(subjects, f"{name} by", self._things(thing), [verb, agent])
            done = True
        for like in filter(self._likens, verb.children):
            way = likeness([_token(verb), _token(like)])
            for phrase in map(self._phrase, self._alike(like)):
                self._describe(subjects, " ".join([way, *phrase.attributes, phrase.label]))
                done = True
        related = self._prepositions(verb, subjects, [] if done else [verb, *particles])
        if not done and not related and verb.tag_ in ("VBG", "VBN"):
            self._describe(subjects, verb.lower_)

    def _named(self, verb: Word) -> str:
        if verb_lemma(verb.lower_) == "have":
            return "has"
        return verb.lower_ if verb.tag_ in ("VBN", "VBG") else participle(verb_lemma(verb.lower_))

    def _subjects(self, verb: Word) -> list[int]:
        """Who does what a verb says, or to whom it is done."""
        for subject in _children(verb, *_SUBJECTS):
            return self._things(subject)
        if verb.dep_ in ("acl", "relcl"):
            return self._things(verb.head)
        if verb.dep_ in ("conj", "advcl", "xcomp", "ccomp", "pcomp") and verb.head.tag_.startswith("VB"):
            return self._subjects(verb.head)
        if _children(verb, "expl"):
            return [thing for attribute in _children(verb, "attr", "dobj") for thing in self._things(attribute)]
        return []

    def _prepositions(self, head: Word, subjects: list[int], before: list[Word], skip: str = "") -> bool:
        """Relate subjects to the objects of a word's prepositions; returns whether there was one."""
        found = False
        for preposition in _children(head, "prep", "advmod"):
            if preposition.lower_ == skip or (
                preposition.dep_ == "advmod" and not _children(preposition, "prep", "pobj")
            ):
                continue
            for words, things in self._chains(preposition):
                if before and before[0].tag_.startswith("VB"):
                    words = [before[0], *before[1:], *words]
                    name = " ".join([self._named(words[0]), *self._texts(words[1:])])
                else:
                    words = [*before, *words]
                    name = " ".join(self._texts(words))
                self._relate(subjects, name, things or self._holders(subjects), words)
                found = found or bool(things)
        return found

    def _holders(self, subjects: list[int]) -> list[int]:
        """What has the subjects, for which a pronoun stands: in "a plate with a fork on it", which is no "with"."""
        links = [key for key in self.relations if key[1] in ("with", "has") and key[2] in subjects]
        for key in links:
            if key[1] == "with":
                del self.relations[key]
        return list(dict.fromkeys(holder for holder, _, _ in links))

    def _texts(self, words: list[Word]) -> list[str]:
        return [word.lower_ for word in words]

    def _chains(self, preposition: Word) -> Iterator[tuple[list[Word], list[int]]]:
        """The ways of a preposition to things: "on", "on top of", "next to", "out of"."""
        for further in _children(preposition, "prep"):
            for words, things in self._chains(further):
                yield [preposition, *words], things
        for object_ in _children(preposition, "pobj"):
            if self._is_side(object_):
                parts = [child for child in object_.lefts if child.dep_ in ("det", *_DESCRIBE)]
                for of in _children(object_, "prep"):
                    for words, things in self._chains(of) if of.lower_ == "of" else ():
                        yield [preposition, *self._side(preposition, parts, object_), *words], things
            elif (things := self._things(object_)) or object_.lower_ in ("it", "them"):
                yield [preposition], things

    def _side(self, preposition: Word, parts: list[Word], side: Word) -> list[Word]:
        """The words of a side: with its article but for "on top of" and "in front of"."""
        fixed = (preposition.lower_, side.lower_) in (("on", "top"), ("in", "front")) and len(parts) <= 1
        return [side] if fixed else [*parts, side]
