import itertools

import numpy as np
import pytest

from relpretrain.scene_graph import Box, Entity
from relpretrain.scene_graph.parse import ParsedCaption, ParsedEntity, ParsedRelation
from relpretrain.scene_graph.tying import Names, tie

NAMES = Names("table")


def caption(*nouns, relations=()):
    entities = tuple(ParsedEntity(*((n, None) if isinstance(n, str) else (n[0], None, n[1:]))) for n in nouns)
    return ParsedCaption(entities, tuple(ParsedRelation(*r) for r in relations))


def places(ties):
    return [None if t is None else t.entity for t in ties]


PEOPLE = (
    Entity("person", Box(0, 0, 20, 60)),
    Entity("horse", Box(100, 30, 150, 70)),
    Entity("person", Box(110, 10, 130, 50)),
    Entity("person", Box(160, 20, 180, 80)),
)


def test_of_several_boxes_of_one_name_the_relation_decides():
    """The rider is the person at the horse, wherever it stands in the annotation."""
    for order in itertools.permutations(range(4)):
        entities = [PEOPLE[i] for i in order]
        ties = tie(caption("man", "horse", relations=[(0, "riding", 1)]), entities, NAMES)
        assert [order[p] for p in places(ties)] == [2, 1]
        assert ties[1].certainty == 1.0


def test_boxes_say_which_one_is_left():
    ties = tie(caption("man", "horse", relations=[(0, "to the left of", 1)]), PEOPLE[:2] + PEOPLE[3:], NAMES)
    assert places(ties) == [0, 1]
    ties = tie(caption("man", "horse", relations=[(0, "to the right of", 1)]), PEOPLE[:2] + PEOPLE[3:], NAMES)
    assert places(ties) == [2, 1]


def test_two_nouns_of_a_caption_are_two_boxes_never_all_pairs():
    ties = tie(caption("man", "woman", "child", relations=[(0, "beside", 1)]), PEOPLE, NAMES)
    assert sorted(places(ties)) == [0, 2, 3]
    ties = tie(caption("horse", "horse"), PEOPLE, NAMES)
    assert sorted(places(ties), key=str) == [1, None]


def test_attributes_decide_between_equals():
    entities = [Entity("car", Box(0, 0, 9, 9), ("blue",)), Entity("car", Box(20, 0, 29, 9), ("red", "old"))]
    assert places(tie(caption(("car", "red")), entities, NAMES)) == [1]
    assert places(tie(caption(("car", "red"), ("car", "blue")), entities, NAMES)) == [1, 0]


def test_equal_boxes_make_a_doubtful_tie_and_copies_of_one_a_sure_one():
    apart = [Entity("dog", Box(0, 0, 10, 10)), Entity("dog", Box(50, 0, 60, 10))]
    (found,) = tie(caption("dog"), apart, NAMES)
    assert found.certainty == pytest.approx(0.5)
    (found,) = tie(caption("dog"), [*apart, Entity("dog", Box(80, 0, 90, 10))], NAMES)
    assert found.certainty == pytest.approx(1 / 3)
    (found,) = tie(caption("dog"), [apart[0], Entity("dog", Box(0, 0, 10, 11))], NAMES)
    assert found.certainty == pytest.approx(1.0)


def test_an_exact_name_wins_over_a_broader_one():
    entities = [Entity("person", Box(0, 0, 9, 9)), Entity("woman", Box(20, 0, 29, 9))]
    (found,) = tie(caption("woman"), entities, NAMES)
    assert found.entity == 1


@pytest.mark.parametrize("nouns", [(), ("tree",)])
def test_nothing_fits(nouns):
    assert tie(caption(*nouns), PEOPLE, NAMES) == [None] * len(nouns)
    assert tie(caption(*nouns), [Entity("tree")], NAMES) == [None] * len(nouns)


def test_the_first_assignment_is_the_best_of_all():
    """Against all ways to give the nouns boxes, where no relation ties the nouns to each other."""
    from relpretrain.scene_graph.tying import assignment as module

    rng = np.random.default_rng(0)
    colours = ("red", "blue", "old")
    for _ in range(20):
        entities = []
        for _ in range(5):
            x, y, w, h = rng.integers(1, 40, 4)
            entities.append(Entity("dog", Box(x, y, x + w, y + h), (colours[rng.integers(3)],)))
        nouns = caption(*[("dog", colours[i]) for i in rng.integers(3, size=3)])
        small = module._smallness([e.box for e in entities])

        def cost(chosen, nouns=nouns, entities=entities, small=small):
            return sum(
                module.SIZE * small[b] + module.ATTRIBUTES * (noun.attributes[0] not in entities[b].attributes)
                for noun, b in zip(nouns.entities, chosen, strict=True)
            )

        best = min(map(cost, itertools.permutations(range(5), 3)))
        assert cost(places(tie(nouns, entities, NAMES))) == pytest.approx(best)
