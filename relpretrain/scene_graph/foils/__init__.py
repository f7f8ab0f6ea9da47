"""Foils: false texts that differ from a true one in one thing.

`predicates` and `nouns` know which words mean the same and which contradict each other, `wordnet` knows more of them,
and `truth` asks an image's graph whether a statement is true of it. `graph` makes foils of triplets, `captions` of
whole texts, `swap` of texts by parts of speech alone, and `mirrored` tells which mirror images are negatives of their
texts. A foil is certainly false as far as the annotation tells: what may be true is left out.
"""

from relpretrain.scene_graph.foils.captions import caption_foils, graph_of
from relpretrain.scene_graph.foils.graph import GRAPH_KINDS, KINDS, SWAPS, Foil, check_kinds, graph_kinds, triplet_foils
from relpretrain.scene_graph.foils.mirrored import Mirrored, mirrored
from relpretrain.scene_graph.foils.nouns import NOUNS, WORDS, WordRules
from relpretrain.scene_graph.foils.predicates import RULES, PredicateRules
from relpretrain.scene_graph.foils.swap import TAGGERS, Tagger, build_tagger, read_caption, swapped
from relpretrain.scene_graph.foils.truth import Statement, Witness, claim_of
from relpretrain.scene_graph.foils.wordnet import Synonyms, WordNetRules, chosen, word_rules

__all__ = [
    "GRAPH_KINDS",
    "KINDS",
    "NOUNS",
    "RULES",
    "SWAPS",
    "TAGGERS",
    "WORDS",
    "Foil",
    "Mirrored",
    "PredicateRules",
    "Statement",
    "Synonyms",
    "Tagger",
    "Witness",
    "WordNetRules",
    "WordRules",
    "build_tagger",
    "caption_foils",
    "check_kinds",
    "chosen",
    "claim_of",
    "graph_kinds",
    "graph_of",
    "mirrored",
    "read_caption",
    "swapped",
    "triplet_foils",
    "word_rules",
]
