import pytest

from relpretrain.scene_graph.parse.graph_text import read_graph_text
from relpretrain.scene_graph.parse.record import ParsedCaption, ParsedEntity, ParsedRelation
from relpretrain.scene_graph.parse.scores import Share, f1, facts, relation_kind, set_match, shares


def graph(*triplets, **attributes):
    names = list(dict.fromkeys([name for s, _, o in triplets for name in (s, o)] + list(attributes)))
    entities = tuple(ParsedEntity(name, None, tuple(attributes.get(name, ()))) for name in names)
    return ParsedCaption(entities, tuple(ParsedRelation(names.index(s), r, names.index(o)) for s, r, o in triplets))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (graph(("man", "sitting on", "bench")), "( men , sit on , bench )"),
        (graph(("leg", "of", "table")), "( table , have , leg )"),
        (graph(("cake", "cut by", "man")), "( man , cut , cake )"),
        (graph(("car", "parked by", "house")), "( car , park by , house )"),
        (graph(("street", "covered with", "snow")), "( snow , cover , street )"),
        (graph(("cup", "to the left of", "plate")), "( cup , at the left of , plate )"),
        (graph(("cat", "lying on the side of", "bed")), "( cat , lay on side of , bed )"),
        (
            graph(("surf board", "beneath", "man"), man=["two", "t-shirt"]),
            "( surfboard , under , man ) , ( man , is , 2 ) , ( man , is , t shirt )",
        ),
    ],
)
def test_facts_do_not_depend_on_who_says_them(ours, theirs):
    assert facts(ours) == facts(read_graph_text(theirs))
    assert set_match(ours, read_graph_text(theirs))
    assert f1(ours, read_graph_text(theirs)) == 1


def test_f1_is_that_of_a_count_by_hand():
    ours, theirs = graph(("cat", "on", "sofa"), cat=["black"]), graph(("cat", "on", "sofa"), cat=["big"], dog=[])
    # cat, sofa, (cat on sofa) of ours' 4 and theirs' 5
    assert f1(ours, theirs) == pytest.approx(2 * 3 / 9)
    assert not set_match(ours, theirs)
    assert f1(graph(), graph()) == 1
    assert f1(graph(), theirs) == 0


def test_synonyms_agree_if_they_share_a_meaning_and_each_fact_once():
    meanings = {"sofa": ["s"], "couch": ["s"], "settee": ["s"]}
    ours, theirs = graph(sofa=[], settee=[]), graph(couch=[])
    assert f1(ours, theirs) == 0
    assert f1(ours, theirs, lambda word: meanings.get(word, [])) == pytest.approx(2 * 1 / 3)


def test_shares_by_kind():
    truth = [graph(("man", "on", "horse"), ("man", "wearing", "hat"), ("man", "has", "hand"), ("sign", "for", "bus"))]
    parsed = [graph(("man", "on", "horse"), ("man", "holding", "hat"))]
    by_kind = shares(parsed, truth)
    assert by_kind["spatial"] == Share(1, 1, 1)
    assert by_kind["verb"] == Share(0, 1, 1)
    assert by_kind["possession"] == Share(0, 0, 1)
    assert by_kind["other"] == Share(0, 0, 1)
    assert by_kind["things"].both == 3
    assert by_kind["spatial"].f1 == 1


@pytest.mark.parametrize(
    ("relation", "kind"), [("next to", "spatial"), ("sit on", "verb"), ("with", "possession"), ("for", "other")]
)
def test_kinds(relation, kind):
    assert relation_kind(relation) == kind
