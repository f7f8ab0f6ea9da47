"""Questions about one image: which relation two things have, and whether a statement is true."""

from __future__ import annotations

import numpy as np

from relpretrain.dialogues.scene import Scene
from relpretrain.dialogues.wording import Turn, choice, drawn, mixed, quoted
from relpretrain.scene_graph.foils import RULES, Statement


def foils(scene: Scene, statement: Statement) -> list[Statement]:
    """Statements with another relation that are certainly false of an image, of one that is true of it."""
    false = (statement._replace(relation=name) for name in RULES.contradicting(statement.relation))
    return [other for other in false if scene.denies(other)]


def single_turns(scene: Scene, rng: np.random.Generator, where: str = "the image") -> list[Turn]:
    """Questions about one image, at most one of each form.

    Args:
        scene: The image.
        rng: Where choices are drawn from.
        where: How the image is called.
    """
    known = [(statement, false) for statement in scene.statements if (false := foils(scene, statement))]
    found = []
    if known:
        statement, false = drawn(known, rng)
        question = f"Which of these is true of {where}?"
        found.append(
            choice("which_relation", question, statement.text, [other.text for other in mixed(false, rng)[:3]], rng)
        )
    if known:
        statement, false = drawn(known, rng)
        asked = statement if rng.random() < 0.5 else drawn(false, rng)
        answer = "Yes." if asked == statement else f"No. It shows {quoted(statement.text)}."
        found.append(Turn("is_true", f"Is this true of {where}: {quoted(asked.text)}?", answer))
    return found
