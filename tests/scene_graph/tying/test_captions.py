import pytest

from relpretrain.scene_graph import Box, Entity, Relation, SceneGraph
from relpretrain.scene_graph.parse import ParsedCaption, ParsedEntity, ParsedRelation
from relpretrain.scene_graph.tying import Names, follow_captions, label_captions, without_relations

NAMES = Names("table")
MAN_HORSE = ParsedCaption(
    (ParsedEntity("man", (2, 5)), ParsedEntity("horse", (15, 20), ("brown",))),
    (ParsedRelation(0, "riding", 1, (6, 12)),),
)
PLAIN = SceneGraph((Entity("man", Box(0, 0, 9, 20)), Entity("horse", Box(0, 10, 30, 30))))


def triplets(graph):
    name = [entity.label for entity in graph.entities]
    return [(name[r.subject], r.relation, name[r.object]) for r in graph.relations]


def test_without_boxes_a_graph_of_words():
    found = label_captions(SceneGraph(), [MAN_HORSE], "p 1", NAMES)
    assert triplets(found.graph) == [("man", "riding", "horse")]
    man, horse = found.graph.entities
    assert (man.box, man.caption, man.span, man.source) == (None, 0, (2, 5), "p 1")
    assert horse.attributes == ("brown",)
    (relation,) = found.graph.relations
    assert (relation.source, relation.caption, relation.span, relation.confidence) == ("p 1", 0, (6, 12), 1.0)
    assert found.counts == {"entities": 2, "triplets": 1, "triplets_written": 1}


def test_with_boxes_nouns_are_tied_and_what_people_said_of_them_stays():
    found = label_captions(PLAIN, [ParsedCaption(), MAN_HORSE], "p 1", NAMES)
    assert found.graph.entities == PLAIN.entities
    man, _ = found.graph.entities
    assert (man.caption, man.span, man.source) == (1, (2, 5), "")
    assert found.counts["tied"] == found.counts["placeable"] == 2
    assert found.counts["triplets_boxed"] == 1


def test_a_triplet_of_people_is_not_said_again_in_whatever_form():
    told = [("rides", "riding"), ("riding", "riding"), ("left of", "to the left of"), ("above", "above")]
    for known, read in told:
        graph = SceneGraph(PLAIN.entities, (Relation(0, known, 1),))
        found = label_captions(graph, [ParsedCaption(MAN_HORSE.entities, (ParsedRelation(0, read, 1),))], "p 1", NAMES)
        if known == "left of":
            assert len(found.graph.relations) == 2  # other words may mean something else
        else:
            assert found.graph.relations == graph.relations
            assert found.dropped == {"repeats_annotated": 1}
    graph = SceneGraph(PLAIN.entities, (Relation(1, "below", 0),))
    above = ParsedCaption(MAN_HORSE.entities, (ParsedRelation(0, "above", 1),))
    assert label_captions(graph, [above], "p 1", NAMES).dropped == {"repeats_annotated": 1}


def test_captions_that_say_the_same_give_one_triplet_with_the_higher_confidence():
    doubtful = ParsedCaption(MAN_HORSE.entities, (ParsedRelation(0, "riding", 1, (6, 12), 0.4),))
    for captions in ([doubtful, MAN_HORSE], [MAN_HORSE, doubtful]):
        found = label_captions(SceneGraph(), captions, "p 1", NAMES)
        assert [r.confidence for r in found.graph.relations] == [1.0]
        assert len(found.graph.entities) == 2
        assert found.dropped == {"repeated_triplet": 1}
    again = label_captions(found.graph, captions, "p 1", NAMES)
    assert again.graph == found.graph


def test_two_of_one_name_in_a_caption_are_two():
    two = ParsedCaption(
        (ParsedEntity("man", None, ("old",)), ParsedEntity("man", None, ("young",))), (ParsedRelation(0, "beside", 1),)
    )
    young = ParsedCaption(
        (ParsedEntity("man", None, ("young",)), ParsedEntity("hat", None)), (ParsedRelation(0, "in", 1),)
    )
    found = label_captions(SceneGraph(), [two, young], "p 1", NAMES)
    assert [(e.label, e.attributes) for e in found.graph.entities] == [
        ("man", ("old",)),
        ("man", ("young",)),
        ("hat", ()),
    ]
    assert [r.subject for r in found.graph.relations] == [0, 1]


def test_a_doubtful_tie_is_none_and_a_tie_lowers_the_confidence():
    graph = SceneGraph((Entity("person", Box(0, 0, 9, 9)), Entity("person", Box(50, 0, 59, 9)), PLAIN.entities[1]))
    beside = ParsedCaption(MAN_HORSE.entities, (ParsedRelation(0, "near", 1, None, 0.9),))
    found = label_captions(graph, [beside], "p 1", NAMES, min_tie=0.95)
    assert found.dropped == {"doubtful_tie": 1}
    assert found.graph.relations[0].subject == 3  # an entity without a box
    assert found.graph.relations[0].confidence == 0.9
    found = label_captions(graph, [beside], "p 1", NAMES, min_tie=0.0)
    assert found.graph.relations[0].subject == 0
    assert 0.4 < found.graph.relations[0].confidence < 0.9 * 0.9


def test_starting_anew_keeps_the_boxes_alone():
    found = label_captions(PLAIN, [MAN_HORSE, ParsedCaption((ParsedEntity("idea", None),))], "p 1", NAMES)
    bare = without_relations(found.graph)
    assert bare == PLAIN
    assert [e.caption for e in bare.entities] == [None, None]


@pytest.mark.parametrize(("after", "caption"), [(["b", "a"], 1), (["b"], None), (["a", "b"], 0)])
def test_places_follow_their_captions(after, caption):
    found = label_captions(SceneGraph(), [MAN_HORSE], "p 1", NAMES).graph
    moved = follow_captions(found, ["a", "b"], after)
    assert moved == found
    for thing in (*moved.entities, *moved.relations):
        assert thing.caption == caption
        assert (thing.span is None) == (caption is None)
