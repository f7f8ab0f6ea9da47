"""What a horizontal flip does to words."""

from __future__ import annotations

import functools
import re

from relpretrain.scene_graph.errors import FlipRefused

_SIDE = re.compile(r"(?<![a-z])(left|right)(?=(?:most|wards?|hand|handed)?(?![a-z]))", re.IGNORECASE)
_THE = re.compile(r"(?<![a-z])the[\s_]*$", re.IGNORECASE)
_NEAR = 40  # characters before a side that may say what it means
_OTHER = {"left": "right", "right": "left", "Left": "Right", "Right": "Left", "LEFT": "RIGHT", "RIGHT": "LEFT"}

# "to the left of", "facing left", "on the upper right"
_BEFORE = re.compile(
    r"(?:^|(?<![a-z])(?:the|to|on|at|in|from|toward|towards|facing|looking|pointing|turning|turned|leaning|moving|going"
    r"|upper|lower|top|bottom|far|immediate|its|his|her|their))[\s_-]*$",
    re.IGNORECASE,
)
# "left of", "left side of", "right-hand"; the end of the relation
_AFTER = re.compile(
    r"(?:most|wards?|hand(?:ed)?)(?![a-z])|[\s_-]+(?:of|side|hand|end|edge|half|part|corner|from)(?![a-z])|\s*$",
    re.IGNORECASE,
)
# "parked left of": clear whatever comes before
_CLEAR = re.compile(r"[\s_-]+(?:(?:hand[\s_-]+)?side|of)(?![a-z])", re.IGNORECASE)
# "right behind": the word only stresses the one that follows
_STRESS = re.compile(
    r"[\s_]+(?:next|beside|behind|in|inside|above|below|under|underneath|beneath|over|on|by|at|near|across|against"
    r"|around|before|after|outside|up|down|through|between)(?![a-z])",
    re.IGNORECASE,
)


@functools.lru_cache(maxsize=4096)
def mentions_side(text: str) -> bool:
    """Whether a text speaks of left or right, in whatever sense ("left-hand" does, "bright" does not)."""
    return _SIDE.search(text) is not None


@functools.lru_cache(maxsize=4096)
def mirror_relation(relation: str) -> str:
    """Say what a relation becomes when the image is flipped horizontally.

    Left and right are exchanged where they are directions ("at the left side of", "facing right"), and stay where
    "right" only stresses another word ("right behind").

    Raises:
        FlipRefused: If left or right is neither ("left behind", "right to").
    """

    def swap(match: re.Match[str]) -> str:
        word, start, end = match.group(1), match.start(), match.end()
        near = max(0, start - _NEAR)  # all of a long text before every word would take quadratic time
        stressed = word.lower() == "right" and _STRESS.match(relation, end)
        if stressed and not _THE.search(relation, near, start):
            return word
        if _CLEAR.match(relation, end) or (_BEFORE.search(relation, near, start) and _AFTER.match(relation, end)):
            return _OTHER.get(word) or _OTHER[word.lower()]
        raise FlipRefused("ambiguous_side", f"cannot tell what a flip makes of the relation {relation!r:.80}")

    return _SIDE.sub(swap, relation)
