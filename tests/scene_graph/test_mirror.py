import time

import pytest

from relpretrain.scene_graph import FlipRefused, mentions_side, mirror_relation


@pytest.mark.parametrize(
    ("relation", "mirrored"),
    [
        ("to the left of", "to the right of"),
        ("on the right of", "on the left of"),
        ("at the left side of", "at the right side of"),
        ("on the left-hand side of", "on the right-hand side of"),
        ("Left of", "Right of"),
        ("left", "right"),
        ("left_of", "right_of"),
        ("to_the_left_of", "to_the_right_of"),
        ("facing left", "facing right"),
        ("parked left of", "parked right of"),
        ("are middle right of", "are middle left of"),
        ("right hand holding", "left hand holding"),
        ("at the leftmost edge of", "at the rightmost edge of"),
        ("to the left of or to the right of", None),
        ("behind", "behind"),
        ("right behind", "right behind"),
        ("right next to", "right next to"),
        ("bright in", "bright in"),
    ],
)
def test_mirror(relation, mirrored):
    if mirrored is None:
        mirrored = "to the right of or to the left of"
    assert mirror_relation(relation) == mirrored
    assert mirror_relation(mirrored) == relation


@pytest.mark.parametrize("relation", ["left behind", "left on", "was left with", "right angle to", "has right"])
def test_refuses_what_is_no_direction(relation):
    with pytest.raises(FlipRefused) as error:
        mirror_relation(relation)
    assert error.value.reason == "ambiguous_side"


def test_mentions_side():
    assert all(map(mentions_side, ["left shoe", "a man on the Right", "rightmost cup", "left-handed", "left_of"]))
    assert not any(map(mentions_side, ["bright light", "upright man", "leftover food", "copyright sign", "cleft"]))


def test_a_long_text_takes_no_quadratic_time():
    start = time.process_time()
    assert mirror_relation("right behind " * 20_000) == "right behind " * 20_000
    assert time.process_time() - start < 2  # 30 s if every word looks at all that stands before it
