"""Scene graphs: what is in an image, where, and how it relates. Needs no torch."""

from relpretrain.scene_graph.errors import FlipRefused, GraphError
from relpretrain.scene_graph.geometry import Box, holds
from relpretrain.scene_graph.graph import Entity, Relation, SceneGraph, fit_box
from relpretrain.scene_graph.mirror import mentions_side, mirror_relation
from relpretrain.scene_graph.verbalise import choose_relations, triplet_meaning, triplet_text, verbalise
from relpretrain.scene_graph.vocabulary import RelationVocabulary

__all__ = [
    "Box",
    "Entity",
    "FlipRefused",
    "GraphError",
    "Relation",
    "RelationVocabulary",
    "SceneGraph",
    "choose_relations",
    "fit_box",
    "holds",
    "mentions_side",
    "mirror_relation",
    "triplet_meaning",
    "triplet_text",
    "verbalise",
]
