import pytest

from relpretrain.scene_graph import Box, holds

LEFT, RIGHT = Box(0, 0, 10, 10), Box(20, 5, 30, 15)
BIG = Box(0, 0, 40, 40)
LEFT_WORDS = [
    *("left of", "to the left of", "on the left of", "at the left side of", "on the left side of", "to left of"),
    *(
        "left",
        "on the left-hand side of",
        "Standing to the  Left of",
        "to_the_left_of",
        "parked on the left of",
        "parked left of",
        "left of a",
    ),
]


@pytest.mark.parametrize("name", LEFT_WORDS)
def test_left_family_and_its_mirror(name):
    assert holds(name, LEFT, RIGHT) is True
    assert holds(name, RIGHT, LEFT) is False
    mirrored = name.replace("left", "right").replace("Left", "right")
    assert holds(mirrored, RIGHT, LEFT) is True
    assert holds(mirrored, LEFT, LEFT) is False


@pytest.mark.parametrize("name", ["above", "over", "flying over", "higher than"])
def test_above_family(name):
    assert holds(name, LEFT, RIGHT) is True
    assert holds(name, RIGHT, LEFT) is False


@pytest.mark.parametrize("name", ["below", "under", "beneath", "underneath", "standing under"])
def test_below_family(name):
    assert holds(name, RIGHT, LEFT) is True
    assert holds(name, LEFT, RIGHT) is False


def test_inside_and_outside():
    assert holds("inside", LEFT, BIG) is True
    assert holds("in", BIG, LEFT) is False
    assert holds("contains", BIG, RIGHT) is True
    assert holds("outside of", LEFT, RIGHT) is True
    assert holds("outside", LEFT, BIG) is False


@pytest.mark.parametrize(
    "name",
    [
        "on",
        "wearing",
        "behind",
        "in front of",
        "right behind",
        "leftover of",
        "near",
        "has",
        "draped over",
        "covered in",
        "held in the left hand of",
    ],
)
def test_not_spatial(name):
    assert holds(name, LEFT, RIGHT) is None


def test_centres_decide():
    tall, low = Box(0, 0, 10, 40), Box(0, 10, 10, 20)  # centres at 20 and 15
    assert holds("above", low, tall) is True
    assert holds("above", tall, low) is False
    assert holds("left of", Box(0, 0, 40, 5), Box(10, 0, 20, 5)) is False
