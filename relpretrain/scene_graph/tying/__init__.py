"""From what captions say to a scene graph: their entities are tied to the boxes of the image. Needs no torch."""

from relpretrain.scene_graph.tying.assignment import Tie, tie
from relpretrain.scene_graph.tying.captions import Labelled, follow_captions, label_captions, without_relations
from relpretrain.scene_graph.tying.names import SYNONYMS, Names, resolve_synonyms

__all__ = [
    "SYNONYMS",
    "Labelled",
    "Names",
    "Tie",
    "follow_captions",
    "label_captions",
    "resolve_synonyms",
    "tie",
    "without_relations",
]
