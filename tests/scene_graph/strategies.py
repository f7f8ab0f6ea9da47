"""Random scene graphs for property tests."""

from hypothesis import strategies as st

from relpretrain.scene_graph import Box, Entity, Relation, SceneGraph

WIDTH, HEIGHT = 64.0, 48.0
SPATIAL = (
    *("to the left of", "on the right of", "at the left side of", "at the right side of", "left of"),
    *("above", "below", "inside", "contains", "outside"),
)
OTHER = ("wearing", "behind", "next to", "right behind")


@st.composite
def boxes(draw, width=WIDTH, height=HEIGHT):
    """Boxes on a grid of 1/4 pixel, whose coordinates floats hold exactly."""
    x = sorted(draw(st.lists(st.integers(0, int(width * 4)), min_size=2, max_size=2, unique=True)))
    y = sorted(draw(st.lists(st.integers(0, int(height * 4)), min_size=2, max_size=2, unique=True)))
    return Box(x[0] / 4, y[0] / 4, x[1] / 4, y[1] / 4)


@st.composite
def graphs(draw, relations=SPATIAL + OTHER):
    labels = st.sampled_from(["duck with sunglasses", "man", "tree"])
    origin = st.sampled_from([{}, {"source": "p 1"}, {"caption": 1}, {"caption": 0, "span": (2, 5), "source": "p 1"}])
    places = st.one_of(boxes(), boxes(), st.none())
    drawn = draw(st.lists(st.tuples(labels, places, origin), max_size=6))
    entities = [Entity(label, box, id=i, **of) for i, (label, box, of) in enumerate(drawn)]
    if not entities:
        return SceneGraph()
    index = st.integers(0, len(entities) - 1)
    confidence = st.sampled_from([1.0, 0.25])
    triplets = st.builds(
        lambda s, name, o, sure, of: Relation(s, name, o, confidence=sure, **of),
        *(index, st.sampled_from(relations), index, confidence, origin),
    )
    return SceneGraph(tuple(entities), tuple(draw(st.lists(triplets, max_size=10))))
