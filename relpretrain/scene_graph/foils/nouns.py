"""Names of things: which may name the same thing, and what adjectives in them say."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from relpretrain.scene_graph.geometry import normalise

FAMILIES = {
    "colour": "red blue green yellow black white brown gray grey orange purple pink silver gold golden beige tan cyan".split(),
    "material": "wooden metal plastic glass brick stone concrete leather paper cloth".split(),
    "size": "large big huge small little tiny".split(),
    "length": "long short".split(),
    "height": "tall low".split(),
    "age": "old young new".split(),
    "state": "open closed".split(),
    "wetness": "wet dry".split(),
    "fullness": "full empty".split(),
    "light": "bright dark".split(),
    "pattern": "striped plain checkered spotted".split(),
}
"""Adjectives that answer one question; a thing has one of a family, unless they are in one group of `ALIKE`."""

ALIKE = (
    *({"gray", "grey", "silver"}, {"gold", "golden", "yellow", "tan", "beige"}, {"large", "big", "huge"}),
    *({"small", "little", "tiny"}, {"white", "beige", "silver"}, {"brown", "tan", "orange", "red"}, {"old", "new"}),
    *(
        {"purple", "pink", "red"},
        {"cyan", "blue"},
        {"plain", "spotted"},
        {"stone", "brick", "concrete"},
        {"black", "dark"},
    ),
)
"""Adjectives that people use for the same thing: none of a group is called false where another one is true."""

MIXED_UP = (
    "person people human man woman boy girl child kid baby lady guy male female adult player skater skateboarder surfer "
    "skier snowboarder rider worker driver men women children batter catcher pitcher umpire crowd couple group family "
    "toddler gentleman pedestrian passenger friend student officer policeman soldier chef someone spectator fan",
    "car truck van suv automobile taxi cab jeep minivan pickup trailer",
    "bike bicycle motorcycle motorbike scooter moped cycle",
    "plane airplane aircraft jet airliner aeroplane",
    "boat ship vessel canoe kayak sailboat raft",
    *("dog puppy", "cat kitten", "horse pony", "cow bull calf cattle", "sheep lamb goat", "duck goose swan"),
    *("couch sofa loveseat", "seat chair armchair stool bench couch sofa"),
    "table desk counter surface stand nightstand countertop",
    "street road pavement sidewalk path ground lane highway asphalt floor walkway crosswalk driveway",
    "grass field ground lawn pasture meadow land dirt sand",
    "tree trees bush bushes plant shrub foliage leaves branch forest wood palm",
    "shirt t-shirt tshirt top jacket coat sweater blouse vest suit hoodie sweatshirt dress",
    *("pants jeans trousers shorts skirt", "shoe shoes sneaker sneakers boot boots sandal sandals"),
    *("hat cap helmet headwear beanie", "glasses sunglasses goggles eyeglasses"),
    "bag backpack purse luggage suitcase handbag",
    "phone cellphone telephone mobile",
    "laptop computer monitor screen tv television display",
    *("cup mug glass drink beverage bottle", "plate dish bowl tray platter", "sandwich burger hotdog bread"),
    "building house home structure tower skyscraper church hotel store shop apartment barn",
    *("sky cloud clouds", "water ocean sea lake river pond wave waves pool"),
    *("sign signs board post pole", "wall fence railing barrier", "window windows glass pane"),
    *("mountain mountains hill hills", "racket racquet", "picture photo painting poster frame art"),
    *("box container basket crate package", "lamp light lights lantern streetlight", "hair head face"),
)
"""Names that people give to the same thing."""

BROADER = {
    "animal": "dog puppy cat kitten horse pony cow bull calf sheep lamb goat bird duck elephant bear zebra giraffe cattle",
    "pet": "dog puppy cat kitten bird rabbit",
    "bird": "duck seagull pigeon parrot goose swan chicken",
    "vehicle": "car truck van bus suv automobile taxi cab jeep minivan pickup trailer bike bicycle motorcycle motorbike "
    "scooter train boat plane airplane tractor",
    "furniture": "couch sofa chair armchair stool bench table desk bed cabinet shelf dresser bookcase nightstand",
    "food": "meal pizza sandwich burger hotdog cake bread meat vegetable fruit snack dessert salad apple banana orange "
    "carrot broccoli donut",
    "fruit": "apple banana orange lemon grape strawberry",
    "vegetable": "carrot broccoli tomato pepper onion lettuce",
    "clothes": "shirt t-shirt tshirt top jacket coat sweater blouse vest suit dress pants jeans trousers shorts skirt hat "
    "shoe shoes sock tie uniform outfit",
    "ball": "baseball football basketball soccerball frisbee",
    "toy": "bear doll ball kite frisbee car",
}
"""Names of kinds, and what belongs to each: a dog is an animal, and no cat."""

_ALIASES = {"clothing": "clothes", "uniform": "clothes", "outfit": "clothes"}
_ANYTHING = frozenset("thing object item something stuff it part piece side top bottom".split())

_GROUPS: dict[str, set[int]] = {}
for _number, _group in enumerate(MIXED_UP):
    for _name in _group.split():
        _GROUPS.setdefault(_name, set()).add(_number)
_KINDS = {name: frozenset(kinds.split()) for name, kinds in BROADER.items()}
_FAMILY_OF = {word: family for family, words in FAMILIES.items() for word in words}
_IRREGULAR = {"men": "man", "women": "woman", "people": "person", "children": "child", "feet": "foot", "teeth": "tooth"}


class Phrase(NamedTuple):
    """A name of a thing, taken apart: adjectives of `FAMILIES`, and the rest without them."""

    adjectives: tuple[str, ...]
    noun: str


@lru_cache(maxsize=16384)
def take_apart(label: str) -> Phrase:
    """Take the leading adjectives off a label: "red wooden chair" is a chair that is red and wooden."""
    words = normalise(label).split()
    adjectives = []
    while len(words) > 1 and words[0] in _FAMILY_OF:
        adjectives.append(words.pop(0))
    return Phrase(tuple(adjectives), " ".join(words))


@lru_cache(maxsize=65536)
def may_be_one(one: str, other: str) -> bool:
    """Whether two nouns may name one thing: equal but for number, one a kind of the other, or often mixed up.

    Of nouns of several words the last ones are compared ("tennis player" is a player), and one that holds the other's
    words is a kind of it.
    """
    one, other = singular(one), singular(other)
    if one == other:
        return True
    words, others = one.split(), other.split()
    if set(words) <= set(others) or set(others) <= set(words):
        return True
    last, other_last = (_ALIASES.get(noun, noun) for noun in (words[-1], others[-1]))
    if (
        last == other_last
        or {last, other_last} & _ANYTHING
        or _GROUPS.get(last, set()) & _GROUPS.get(other_last, set())
    ):
        return True
    return other_last in _KINDS.get(last, ()) or last in _KINDS.get(other_last, ())


def singular(noun: str) -> str:
    """The singular of a noun's last word, roughly: enough to compare."""
    noun = normalise(noun)
    first, _, last = noun.rpartition(" ")
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif last.endswith("ies") and len(last) > 4:
        last = last[:-3] + "y"
    elif last.endswith(("ches", "shes", "sses", "xes")):
        last = last[:-2]
    elif last.endswith("s") and not last.endswith(("ss", "us", "is")) and len(last) > 3:
        last = last[:-1]
    return f"{first} {last}".strip()


def family(adjective: str) -> str | None:
    """The family of an adjective, None if it has none."""
    return _FAMILY_OF.get(normalise(adjective))


def excludes(one: str, other: str) -> bool:
    """Whether a thing that is `one` is not `other`: two adjectives of a family that nobody uses for the same."""
    one, other = normalise(one), normalise(other)
    if one == other or family(one) is None or family(one) != family(other):
        return False
    return not any({one, other} <= group for group in ALIKE)


def instead_of(adjective: str) -> list[str]:
    """Adjectives that are false where this one is true; empty if none is known."""
    kin = FAMILIES.get(family(adjective) or "", [])
    return [other for other in kin if excludes(adjective, other)]


def known_as(adjectives: Iterable[str], wanted: str) -> bool | None:
    """Whether a thing of some adjectives is `wanted`: yes, no where it is another one of the family, else unknown."""
    have = {normalise(a) for a in adjectives}
    if wanted in have or any({wanted, a} <= group for group in ALIKE for a in have):
        return True
    return False if any(excludes(a, wanted) for a in have) else None
