import pytest

from relpretrain.scene_graph.parse.graph_text import read_graph_text
from relpretrain.scene_graph.parse.placing import place_in
from relpretrain.scene_graph.parse.record import ParsedCaption

# captions and targets of FACTUAL's rows (Visual Genome's regions, CC BY 4.0)
INDEXED = (
    "( man:1 , under , canopy ) , ( man , v:wear , hat ) , ( man:1 , is , young ) , ( man , v:sit next to , man:1 )"
)


def placed(caption, text):
    parsed = place_in(caption, read_graph_text(text), 0.5)
    names = [(e.label, e.span and caption[slice(*e.span)]) for e in parsed.entities]
    return names, [(r.relation, r.span and caption[slice(*r.span)]) for r in parsed.relations]


def test_things_attributes_counts_and_triplets():
    parsed = read_graph_text("( stove , is , white ) , ( stove , is , 2 ) , ( stove , in , kitchen ) , ( sky )")
    assert [(e.label, e.attributes) for e in parsed.entities] == [
        ("stove", ("white", "2")),
        ("kitchen", ()),
        ("sky", ()),
    ]
    assert [(r.subject, r.relation, r.object) for r in parsed.relations] == [(0, "in", 1)]


def test_indices_keep_things_of_one_name_apart():
    parsed = read_graph_text(INDEXED)
    assert [(e.label, e.attributes) for e in parsed.entities] == [
        ("man", ("young",)),
        ("canopy", ()),
        ("man", ()),
        ("hat", ()),
    ]
    assert [(r.subject, r.relation, r.object) for r in parsed.relations] == [
        (0, "under", 1),
        (2, "wear", 3),
        (2, "sit next to", 0),
    ]
    assert read_graph_text("( a bench , pv:shade by , tree )").relations[0].relation == "shade by"


@pytest.mark.parametrize(
    "text", ["", "(", "( , , )", "a , b , c", ")(", "((((", "( , is , red )", "( a , , )", "(a" * 5000]
)
def test_what_is_no_fact_is_left_out(text):
    parsed = read_graph_text(text)
    assert not parsed.relations
    assert all(entity.label for entity in parsed.entities)


def test_a_graph_cut_short_keeps_its_whole_facts():
    parsed = read_graph_text("( cat , on , sofa ) , ( cat , is , black ) , ( do")
    assert [entity.label for entity in parsed.entities] == ["cat", "sofa"]


def test_places_and_forms_of_the_caption():
    assert placed("Five boats tied to a Dock.", "( boats , is , 5 ) , ( boats , tie to , dock )") == (
        [("boat", "boats"), ("dock", "Dock")],
        [("tied to", "tied to")],
    )
    assert placed("a dog lying on the side of a road", "( dog , lay on side of , road )")[1] == [
        ("lying on side of", "lying on the side of")
    ]
    assert placed("a man holds a surfboard", "( man , hold , surf board )") == (
        [("man", "man"), ("surf board", "surfboard")],
        [("holding", "holds")],
    )
    names, relations = placed("leg of the man", "( man , have , leg )")
    assert (sorted(names), relations) == ([("leg", "leg"), ("man", "man")], [("has", None)])


def test_two_of_one_name_have_two_places():
    caption = "a man in a hat next to a man under a canopy"
    parsed = place_in(caption, read_graph_text("( man , next to , man:1 ) , ( man:1 , under , canopy )"), 1.0)
    assert [entity.span for entity in parsed.entities] == [(2, 5), (25, 28), (37, 43)]


def test_what_the_caption_does_not_hold_has_no_place():
    parsed = place_in("xyz", read_graph_text("( cat , on , sofa )"), 0.25)
    assert [entity.span for entity in parsed.entities] == [None, None]
    assert (parsed.relations[0].span, parsed.relations[0].confidence) == (None, 0.25)
    assert place_in("", ParsedCaption(), 1.0) == ParsedCaption()


def test_real_rows_keep_their_facts(realdata):
    import csv

    from relpretrain.scene_graph.parse.scores import facts

    with (realdata / "factual" / "id_random_dev.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    graphs = [read_graph_text(row["scene_graph"]) for row in rows]
    found = [place_in(row["caption"], graph, 1.0) for row, graph in zip(rows, graphs, strict=True)]
    spans = [entity.span for one in found for entity in one.entities]
    assert sum(span is not None for span in spans) > 0.98 * len(spans)
    assert sum(facts(a) == facts(b) for a, b in zip(found, graphs, strict=True)) >= len(rows) - 2
