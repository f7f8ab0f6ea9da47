import math
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relpretrain.scene_graph import Box, Entity, FlipRefused, GraphError, Relation, SceneGraph, holds
from relpretrain.scene_graph import entity as module
from tests.scene_graph.strategies import HEIGHT, WIDTH, boxes, graphs

quick = settings(max_examples=150, deadline=None, derandomize=True)


def truths(graph):
    ends = [(r.relation, graph.entities[r.subject].box, graph.entities[r.object].box) for r in graph.relations]
    return [None if None in (subject, object_) else holds(name, subject, object_) for name, subject, object_ in ends]


def two(relation, first=(0, 0, 10, 10), second=(20, 0, 30, 10), labels=("cat", "dog")):
    entities = Entity(labels[0], Box(*first)), Entity(labels[1], Box(*second))
    return SceneGraph(entities, (Relation(0, relation, 1),))


@quick
@given(graphs())
def test_flip_twice_is_identity_and_keeps_truth(graph):
    flipped = graph.flip(WIDTH)
    assert truths(flipped) == truths(graph)
    assert flipped.flip(WIDTH) == graph


@quick
@given(graphs(), boxes(), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_crop_stays_inside_and_true(graph, window, min_visible):
    cropped, dropped = graph.crop(window, min_visible)
    frame = Box(0, 0, window.width, window.height)
    assert all(frame.contains(e.box) and e.box.area > 0 for e in cropped.entities if e.box is not None)
    assert len(graph.entities) == len(cropped.entities) + dropped["entity_cropped"]
    lost = dropped["relation_lost_entity"] + dropped["relation_untrue"]
    assert len(graph.relations) == len(cropped.relations) + lost
    # every relation that stayed belongs to one of before, and a true one is still true
    kept = [
        i
        for i, e in enumerate(graph.entities)
        if e.box is None or ((part := e.box.clip(window)).area > 0 and part.area >= min_visible * e.box.area)
    ]
    before = {(r.subject, r.relation, r.object): t for r, t in zip(graph.relations, truths(graph), strict=True)}
    for relation, now in zip(cropped.relations, truths(cropped), strict=True):
        was = before[kept[relation.subject], relation.relation, kept[relation.object]]
        assert now or not was


@quick
@given(graphs(), st.sampled_from([0.25, 0.5, 2.0]), st.sampled_from([0.5, 1.0, 4.0]))
def test_resize_scales_and_keeps_truth(graph, x, y):
    resized = graph.resize(x, y)
    assert truths(resized) == truths(graph)
    assert resized.resize(1 / x, 1 / y) == graph


@quick
@given(graphs(), boxes(), st.sampled_from([0.3, 0.5]))
def test_a_crop_to_a_size_is_a_crop_and_a_resize(graph, window, min_visible):
    at_once, dropped = graph.crop(window, min_visible, size=(24.0, 16.0))
    cropped, as_well = graph.crop(window, min_visible)
    assert at_once == cropped.resize(24 / window.width, 16 / window.height)
    assert dropped == as_well


@quick
@given(graphs())
def test_json_round_trip(graph):
    again = SceneGraph.from_json(graph.to_json(), WIDTH, HEIGHT)
    assert again == graph
    assert origins(again) == origins(graph)


def origins(graph):
    """What equality leaves out: where entities and relations come from."""
    things = [*graph.entities, *graph.relations]
    return [(t.caption, t.span, t.source, getattr(t, "confidence", None)) for t in things]


@quick
@given(graphs(), boxes())
def test_entities_without_a_box_stay_where_they_are_and_all_keep_their_origin(graph, window):
    whole = origins(graph)
    assert origins(graph.flip(WIDTH)) == origins(graph.resize(2, 3)) == whole
    cut, _ = graph.crop(window)
    numbers = {id_of(e) for e in cut.entities}
    unplaced = [e for e in graph.entities if e.box is None]
    assert [e for e in cut.entities if e.box is None] == unplaced
    kept = [e for i, e in enumerate(graph.entities) if i in numbers]
    assert [(e.label, e.caption, e.span, e.source) for e in cut.entities] == [
        (e.label, e.caption, e.span, e.source) for e in kept
    ]
    assert [e for e in graph.flip(WIDTH).entities if e.box is None] == unplaced
    left = [r for r in graph.relations if {r.subject, r.object} <= numbers]
    if all(graph.entities[i].box is None for r in left for i in (r.subject, r.object)):
        assert [(r.relation, r.confidence, r.source) for r in cut.relations] == [
            (r.relation, r.confidence, r.source) for r in left
        ]


def id_of(entity):
    return entity.id


def test_new_fields_are_written_only_where_they_are_set_and_leave_equality_alone():
    plain = SceneGraph.from_json({"entities": [ENTITY, ENTITY], "relations": [NEAR]}, WIDTH, HEIGHT)
    assert plain.to_json()["relations"] == [NEAR]
    assert set(plain.to_json()["entities"][0]) == {"label", "box", "attributes"}
    told = {"caption": 1, "span": [0, 3], "source": "lexicon 1"}
    other = {"entities": [ENTITY | told, ENTITY], "relations": [NEAR | told | {"confidence": 0.5}]}
    graph = SceneGraph.from_json(other, WIDTH, HEIGHT)
    assert graph == plain
    assert graph.to_json()["entities"][0] == ENTITY | told
    assert graph.to_json()["relations"] == [NEAR | {"confidence": 0.5} | told]
    null = {"entities": [{"label": "idea", "box": None, "caption": None, "source": None}]}
    assert SceneGraph.from_json(null, 9, 9).to_json() == {
        "entities": [{"label": "idea", "attributes": []}],
        "relations": [],
    }


def test_relations_below_a_confidence_are_left_out_and_pairs_of_boxes_found():
    entities = Entity("cat", Box(0, 0, 5, 5)), Entity("dog"), Entity("tree", Box(9, 0, 20, 20))
    sure, doubted = Relation(0, "near", 1), Relation(0, "under", 2, confidence=0.3)
    graph = SceneGraph(entities, (sure, doubted))
    assert graph.boxed_pairs() == [doubted]
    assert graph.confident(0.3) is graph
    assert graph.confident(0.31).relations == (sure,)
    assert graph.confident(0.31).entities == entities


@quick
@given(graphs())
def test_entities_read_at_once_are_those_read_one_by_one(graph):
    items = graph.to_json()["entities"]
    one_by_one = [module._entity(item, i, WIDTH, HEIGHT) for i, item in enumerate(items)]
    at_once = module._sound_entities(items, WIDTH, HEIGHT)
    assert at_once == (one_by_one or None)
    assert [e.id for e in at_once or ()] == list(range(len(items)))


@pytest.mark.parametrize(
    "change",
    [
        {"box": [0, 0, True, 5]},
        {"box": (0, 0, 5, 5)},
        {"box": [0, 0, 5, 10**400]},
        {"box": [-1, 0, 5, 5]},
        {"label": ""},
        {"attributes": None},
        {"attributes": [3]},
        {"box": [0, 0]},
    ],
)
def test_what_is_odd_is_read_one_by_one(change):
    assert module._sound_entities([ENTITY], math.inf, math.inf) is not None
    assert module._sound_entities([ENTITY, ENTITY | change], math.inf, math.inf) is None
    assert module._sound_entities([ENTITY | {"box": [0, 0, 5, math.inf]}], math.inf, math.inf) is None


def test_ids_are_positions_in_the_annotation_and_stay_with_their_entities():
    boxes = [[0, 0, 4, 9], [30, 0, 34, 9], [10, 2, 20, 9], [22, 2, 29, 9]]
    graph = SceneGraph.from_json({"entities": [{"label": "cat", "box": box} for box in boxes]}, WIDTH, HEIGHT)
    cut, _ = graph.crop(Box(8, 0, 30, 10))
    assert [e.id for e in graph.entities] == [0, 1, 2, 3]
    assert [e.id for e in cut.resize(2, 2).flip(44).entities] == [2, 3]
    plain = Entity("cat", Box(*boxes[2]))
    assert (plain, hash(plain), plain.id) == (graph.entities[2], hash(graph.entities[2]), -1)


def test_flip_swaps_sides_and_boxes():
    flipped = two("to the left of").flip(40)
    assert flipped.relations[0].relation == "to the right of"
    assert flipped.entities[0].box == (30, 0, 40, 10)


@pytest.mark.parametrize("labels", [("left shoe", "dog"), ("cat", "Right-hand door")])
def test_flip_refuses_sides_in_labels(labels):
    with pytest.raises(FlipRefused) as error:
        two("near", labels=labels).flip(40)
    assert error.value.reason == "side_in_label"


def test_flip_refuses_sides_in_attributes():
    with pytest.raises(FlipRefused, match="leftmost"):
        SceneGraph((Entity("cup", Box(0, 0, 1, 1), ("leftmost",)),)).flip(40)


def test_crop_drops_a_relation_that_becomes_untrue():
    # the wide cat's centre is left of the dog's, but not once its left part is cut off
    graph = two("to the left of", (0, 0, 60, 10), (30, 0, 40, 10))
    cropped, dropped = graph.crop(Box(25, 0, 64, 48))
    assert cropped.relations == ()
    assert dropped == {"relation_untrue": 1}
    assert len(cropped.entities) == 2


def test_crop_keeps_what_boxes_cannot_judge_and_what_was_untrue_before():
    for relation in ("chasing", "to the right of"):
        cropped, dropped = two(relation, (0, 0, 60, 10), (30, 0, 40, 10)).crop(Box(25, 0, 50, 48), 0.3)
        assert [r.relation for r in cropped.relations] == [relation]
        assert not dropped


def test_crop_drops_entity_and_its_relations_and_renumbers():
    entities = tuple(Entity(label, Box(x, 0, x + 10, 10)) for label, x in (("a", 0), ("b", 20), ("c", 30)))
    graph = SceneGraph(entities, (Relation(0, "near", 1), Relation(1, "near", 2)))
    cropped, dropped = graph.crop(Box(6, 2, 50, 20))
    assert cropped.relations == (Relation(0, "near", 1),)
    assert cropped.entities[0] == Entity("b", Box(14, 0, 24, 8))
    assert dropped == {"entity_cropped": 1, "relation_lost_entity": 1}


def test_crop_threshold_is_inclusive():
    graph = SceneGraph((Entity("a", Box(0, 0, 10, 10)),))
    assert len(graph.crop(Box(5, 0, 20, 20), 0.5)[0].entities) == 1
    assert len(graph.crop(Box(5.25, 0, 20, 20), 0.5)[0].entities) == 0


ENTITY = {"label": "cat", "box": [0, 0, 5, 5], "attributes": ["red"]}
NEAR = {"subject": 0, "relation": "near", "object": 0}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"entities": "cat"}, "malformed_entities"),
        ({"entities": {"box": [0, 0, 5, 5]}}, "malformed_entity"),
        ({"entities": ["cat"]}, "malformed_entity"),
        ({"entities": [{"box": [0, 0, 5, 5]}]}, "malformed_entity"),
        ({"entities": [ENTITY | {"caption": -1}]}, "malformed_entity"),
        ({"entities": [ENTITY | {"caption": True}]}, "malformed_entity"),
        ({"entities": [ENTITY | {"span": [0, 3]}]}, "malformed_entity"),
        ({"entities": [ENTITY | {"caption": 0, "span": [3, 3]}]}, "malformed_entity"),
        ({"entities": [ENTITY | {"caption": 0, "span": [0, 3, 4]}]}, "malformed_entity"),
        ({"entities": [ENTITY | {"caption": 0, "span": [0.0, 3]}]}, "malformed_entity"),
        ({"entities": [ENTITY | {"source": 3}]}, "malformed_entity"),
        ({"entities": [ENTITY], "relations": [NEAR | {"confidence": 1.5}]}, "malformed_confidence"),
        ({"entities": [ENTITY], "relations": [NEAR | {"confidence": "high"}]}, "malformed_confidence"),
        ({"entities": [ENTITY], "relations": [NEAR | {"confidence": True}]}, "malformed_confidence"),
        ({"entities": [ENTITY], "relations": [NEAR | {"source": ["x"]}]}, "malformed_relation"),
        ({"entities": [ENTITY], "relations": [NEAR | {"caption": 0, "span": [-1, 2]}]}, "malformed_relation"),
        ({"entities": [ENTITY | {"attributes": 3}]}, "malformed_entity"),
        ({"entities": [ENTITY | {"label": " "}]}, "empty_label"),
        ({"entities": [ENTITY | {"label": 3}]}, "empty_label"),
        ({"entities": [ENTITY | {"box": [0, 0, 5]}]}, "malformed_box"),
        ({"entities": [ENTITY | {"box": [0, 0, 5, "5"]}]}, "malformed_box"),
        ({"entities": [ENTITY | {"box": [0, 0, float("nan"), 5]}]}, "malformed_box"),
        ({"entities": [ENTITY | {"box": [0, 0, 0, 5]}]}, "empty_box"),
        ({"entities": [ENTITY | {"box": [5, 0, 0, 5]}]}, "empty_box"),
        ({"entities": [ENTITY | {"box": [0, 0, 15, 5]}]}, "box_outside_image"),
        ({"entities": [ENTITY | {"box": [-3, 0, 5, 5]}]}, "box_outside_image"),
        ({"entities": [ENTITY | {"box": [10.1, 0, 10.5, 5]}]}, "empty_box"),
        ({"entities": [ENTITY], "relations": "near"}, "malformed_relations"),
        ({"entities": [ENTITY], "relations": [[0, "near", 0]]}, "malformed_relation"),
        ({"entities": [ENTITY], "relations": [{"subject": 0, "object": 0}]}, "malformed_relation"),
        ({"entities": [ENTITY], "relations": [{"subject": 0, "relation": "", "object": 0}]}, "empty_relation"),
        (
            {"entities": [ENTITY], "relations": [{"subject": 0, "relation": "on", "object": 1}]},
            "relation_without_entity",
        ),
        (
            {"entities": [ENTITY], "relations": [{"subject": -1, "relation": "on", "object": 0}]},
            "relation_without_entity",
        ),
        (
            {"entities": [ENTITY], "relations": [{"subject": "0", "relation": "on", "object": 0}]},
            "relation_without_entity",
        ),
    ],
)
def test_malformed_records(record, reason):
    with pytest.raises(GraphError) as error:
        SceneGraph.from_json(record, 10, 10)
    assert error.value.reason == reason
    copy = pickle.loads(pickle.dumps(error.value))
    assert (copy.reason, str(copy)) == (reason, str(error.value))


def test_absent_and_null_parts_are_empty():
    assert SceneGraph.from_json({}, 10, 10) == SceneGraph()
    graph = SceneGraph.from_json({"entities": [{"label": "cat", "box": [0, 0, 5, 5]}], "relations": None}, 10, 10)
    assert graph.entities[0].attributes == ()


def test_rounding_is_clipped():
    graph = SceneGraph.from_json({"entities": [ENTITY | {"box": [-1, 0, 10.5, 11]}]}, 10, 10)
    assert graph.entities[0].box == (0, 0, 10, 10)


def test_frozen_and_hashable():
    graph = two("near")
    assert hash(graph) == hash(two("near"))
    with pytest.raises(AttributeError):
        graph.entities = ()
    with pytest.raises(GraphError):
        Entity("cat", Box(0, 0, 0, 1))


def test_box_relative():
    assert Box(0, 10, 20, 20).relative(40, 20) == (0.25, 0.75, 0.5, 0.5)


def test_one_thing_without_its_list_is_a_list_of_one():
    record = {
        "entities": ENTITY | {"attributes": "red"},
        "relations": {"subject": 0, "relation": "near", "object": 0},
    }
    graph = SceneGraph.from_json(record, 10, 10)
    assert graph.entities[0].attributes == ("red",)
    assert len(graph.relations) == 1
    nan = float("nan")
    absent = SceneGraph.from_json({"entities": [ENTITY | {"attributes": nan}], "relations": nan}, 10, 10)
    assert (absent.entities[0].attributes, absent.relations) == ((), ())
    with pytest.raises(GraphError, match="finite numbers"):
        SceneGraph.from_json({"entities": [ENTITY | {"box": [0, 0, 10**400, 5]}]}, 10, 10)
