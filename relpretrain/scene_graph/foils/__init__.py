"""Foils: false texts that differ from a true one in one thing.

`predicates` and `nouns` know which words mean the same and which contradict each other, `truth` asks an image's graph
whether a statement is true of it, `graph` makes foils of triplets and `captions` of whole texts. A foil is certainly
false as far as the annotation tells: what may be true is left out.
"""

from relpretrain.scene_graph.foils.captions import caption_foils, graph_of
from relpretrain.scene_graph.foils.graph import GRAPH_KINDS, KINDS, Foil, check_kinds, triplet_foils
from relpretrain.scene_graph.foils.nouns import NOUNS
from relpretrain.scene_graph.foils.predicates import RULES, PredicateRules
from relpretrain.scene_graph.foils.truth import Statement, Witness

__all__ = [
    "GRAPH_KINDS",
    "KINDS",
    "NOUNS",
    "RULES",
    "Foil",
    "PredicateRules",
    "Statement",
    "Witness",
    "caption_foils",
    "check_kinds",
    "graph_of",
    "triplet_foils",
]
