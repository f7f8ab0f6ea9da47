"""Scene graphs: what is in an image, where, and how it relates. Needs no torch."""

from relpretrain.scene_graph.coverage import Coverage, coverage, coverage_lines, tell_outside, warn_outside
from relpretrain.scene_graph.entity import Entity, Relation, fit_box
from relpretrain.scene_graph.errors import FlipRefused, GraphError
from relpretrain.scene_graph.geometry import Box, holds
from relpretrain.scene_graph.graph import MIN_VISIBLE, SceneGraph
from relpretrain.scene_graph.mirror import mentions_side, mirror_relation
from relpretrain.scene_graph.pairs import all_pairs
from relpretrain.scene_graph.verbalise import (
    choose_relations,
    claim_meaning,
    triplet_meaning,
    triplet_text,
    verbalise,
    verbalised,
)
from relpretrain.scene_graph.vocabulary import RelationVocabulary

__all__ = [
    "MIN_VISIBLE",
    "Box",
    "Coverage",
    "Entity",
    "FlipRefused",
    "GraphError",
    "Relation",
    "RelationVocabulary",
    "SceneGraph",
    "all_pairs",
    "choose_relations",
    "claim_meaning",
    "coverage",
    "coverage_lines",
    "fit_box",
    "holds",
    "mentions_side",
    "mirror_relation",
    "tell_outside",
    "triplet_meaning",
    "triplet_text",
    "verbalise",
    "verbalised",
    "warn_outside",
]
