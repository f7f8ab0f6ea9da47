"""Which of two frames of a video came first, and what changed."""

from __future__ import annotations

import numpy as np

from relpretrain.dialogues.scene import Scene
from relpretrain.dialogues.wording import ORDINALS, Turn, choice, drawn, mixed, quoted
from relpretrain.scene_graph.foils import RULES


def temporal_turns(one: Scene, other: Scene, rng: np.random.Generator) -> list[Turn]:
    """Questions about two frames of one video, whose numbers say which is the earlier one.

    What changed is a relation that both graphs state of the same two things, each the only one of its name, and that
    cannot have been true before, as the table of contradictions has it.
    """
    if one.frame is None or other.frame is None or one.frame.video != other.frame.video:
        return []
    if one.frame.number == other.frame.number:
        return []
    first = int(one.frame.number > other.frame.number)
    right, wrong = (f"The {ORDINALS[place]} image" for place in (first, 1 - first))
    question = "These are two frames of one video. Which one comes earlier?"
    found = [choice("earlier", question, right, [wrong], rng)]
    early, late = (one, other) if first == 0 else (other, one)
    changes = [
        (before, after)
        for before in early.statements
        for after in late.statements
        if (before.subject, before.object) == (after.subject, after.object)
        and RULES.false_with(before.relation, after.relation)
        and all(scene.only(label) is not None for scene in (early, late) for label in (before.subject, before.object))
    ]
    if changes:
        before, after = drawn(changes, rng)
        question = f"How does the relation of the {before.subject} and the {before.object} change in the video?"
        found.append(Turn("change", question, f"At first {quoted(before.text)}, later {quoted(after.text)}."))
    return mixed(found, rng)
