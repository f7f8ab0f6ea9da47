"""What two images share and where they differ: things, attributes and relations that both graphs state."""

from __future__ import annotations

import numpy as np

from relpretrain.dialogues.scene import Scene
from relpretrain.dialogues.single import foils
from relpretrain.dialogues.wording import ORDINALS, Turn, choice, drawn, listed, mixed, quoted
from relpretrain.scene_graph.foils import RULES, Statement

_MOST = 6  # names in a list


def semantic_turns(one: Scene, other: Scene, rng: np.random.Generator) -> list[Turn]:
    """Questions about two images, at most one of each form, in a random order.

    What is shared is what both graphs name. That a thing is absent is said only where both graphs are exhaustive. Of
    relations "no" is said only where the graph contradicts it.
    """
    pair = (one, other)
    made = (_common(pair), _relations(pair, rng), _attributes(pair, rng), _which(pair, rng), _both(pair, rng))
    found = [turn for turn in made if turn is not None]
    if one.exhaustive and other.exhaustive:
        found += [turn for turn in (_lacking(pair, rng), _counts(pair)) if turn is not None]
    return mixed(found, rng)


def shared(one: Scene, other: Scene) -> bool:
    """Whether there is something that both show."""
    return not set(one.labels).isdisjoint(other.labels)


def _common(pair: tuple[Scene, Scene]) -> Turn | None:
    names = [label for label in pair[0].labels if label in pair[1].labels][:_MOST]
    if not names:
        return None
    said = [f"Both images show {listed(names)}."]
    theirs = set(pair[1].statements)
    if both := [quoted(statement.text) for statement in pair[0].statements if statement in theirs][:_MOST]:
        said.append(f"In both images: {listed(both)}.")
    return Turn("common", "What do the two images have in common?", " ".join(said))


def _relations(pair: tuple[Scene, Scene], rng: np.random.Generator) -> Turn | None:
    """How the same two things relate in each image."""
    found = []
    for statement in pair[0].statements:
        ends = (statement.subject, statement.object)
        if all(scene.only(label) is not None for scene in pair for label in ends):
            found += [(statement, other) for other in pair[1].statements if (other.subject, other.object) == ends]
    if not found:
        return None
    compared = [(both, word) for both in found if (word := _compared(*both))]
    (first, second), word = drawn(compared, rng) if compared else (drawn(found, rng), "")
    said = f"In the first image: {quoted(first.text)}. In the second image: {quoted(second.text)}.{word}"
    question = f"How do the {first.subject} and the {first.object} relate in each image?"
    return Turn("relation_in_each", question, said)


def _compared(first: Statement, second: Statement) -> str:
    """How two relations of the same things compare; empty where they answer different questions."""
    if RULES.same(first.relation, second.relation):
        return " The relation is the same."
    contrary = RULES.false_with(first.relation, second.relation)
    return " The relations contradict each other." if contrary else ""


def _attributes(pair: tuple[Scene, Scene], rng: np.random.Generator) -> Turn | None:
    """What the same thing is like in each image."""
    found = []
    for label in pair[0].labels:
        numbers = [scene.only(label) for scene in pair]
        if None not in numbers:
            said = [
                scene.graph.entities[number].attributes
                for scene, number in zip(pair, numbers, strict=True)
                if number is not None
            ]
            if all(said):
                found.append((label, said))
    if not found:
        return None
    label, said = drawn(found, rng)
    first, second = (listed(names[:_MOST]) for names in said)
    answer = f"In the first image: {first}. In the second image: {second}."
    return Turn("attributes", f"What is the {label} like in each image?", answer)


def _told_apart(pair: tuple[Scene, Scene]) -> list[tuple[int, Statement]]:
    """Statements that one image makes and the other contradicts, with the number of the one that makes it."""
    return [
        (number, statement)
        for number in (0, 1)
        for statement in pair[number].statements
        if pair[1 - number].denies(statement)
    ]


def _which(pair: tuple[Scene, Scene], rng: np.random.Generator) -> Turn | None:
    found = _told_apart(pair)
    if not found:
        return None
    number, statement = drawn(found, rng)
    right, wrong = (f"The {ORDINALS[place]} image" for place in (number, 1 - number))
    return choice("which_image", f"Which image shows {quoted(statement.text)}?", right, [wrong], rng)


def _both(pair: tuple[Scene, Scene], rng: np.random.Generator) -> Turn | None:
    """Whether a statement is true of both images; as often yes as no, where both can be asked."""
    theirs = set(pair[1].statements)
    true = [statement for statement in pair[0].statements if statement in theirs]
    false = [(number, statement) for number, statement in _told_apart(pair)]
    never = [other for statement in true for other in foils(pair[0], statement) if pair[1].denies(other)]
    if true and (rng.random() < 0.5 or not (false or never)):
        return _asked(drawn(true, rng), "Yes.")
    if false:
        number, statement = drawn(false, rng)
        return _asked(statement, f"No, only of the {ORDINALS[number]} image.")
    return _asked(drawn(never, rng), "No, of neither.") if never else None


def _asked(statement: Statement, answer: str) -> Turn:
    return Turn("true_of_both", f"Is this true of both images: {quoted(statement.text)}?", answer)


def _lacking(pair: tuple[Scene, Scene], rng: np.random.Generator) -> Turn | None:
    """What one image shows and the other does not: of exhaustive graphs alone."""
    number = int(rng.integers(2))
    names = [label for label in pair[number].labels if label not in pair[1 - number].labels]
    if not names:
        return None
    mine, theirs = ORDINALS[number], ORDINALS[1 - number]
    question = f"What does the {mine} image show that the {theirs} does not?"
    return Turn("only_in_one", question, f"Only the {mine} image shows {listed(names)}.")


def _counts(pair: tuple[Scene, Scene]) -> Turn | None:
    counts = [len(scene.graph.entities) for scene in pair]
    if counts[0] == counts[1]:
        answer = f"Both show {counts[0]}."
    else:
        more = ORDINALS[counts[1] > counts[0]]
        answer = f"The {more} image: the first shows {counts[0]}, the second {counts[1]}."
    return Turn("more_things", "Which image shows more things?", answer)
