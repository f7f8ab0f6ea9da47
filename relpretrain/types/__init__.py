"""Shared types: typed batches, what an objective gives, and the protocols of a model."""

from relpretrain.kinds import Kind
from relpretrain.types.batches import (
    IGNORE,
    NO_RELATION,
    Batch,
    CaptionBatch,
    Foils,
    GraphBatch,
    Pairs,
    RegionBatch,
    TextBatch,
    Units,
    WantedRegions,
)
from relpretrain.types.movable import Movable, send
from relpretrain.types.normalisation import Normalisation
from relpretrain.types.outputs import ObjectiveOutput
from relpretrain.types.protocols import (
    PARTS,
    Backbone,
    BoxBackbone,
    CachedFusion,
    ImageFeatures,
    PackedTokens,
    Packing,
    PairScorer,
    Queue,
    Regions,
    Teacher,
)

__all__ = [
    "IGNORE",
    "NO_RELATION",
    "PARTS",
    "Backbone",
    "Batch",
    "BoxBackbone",
    "CachedFusion",
    "CaptionBatch",
    "Foils",
    "GraphBatch",
    "ImageFeatures",
    "Kind",
    "Movable",
    "Normalisation",
    "ObjectiveOutput",
    "PackedTokens",
    "Packing",
    "PairScorer",
    "Pairs",
    "Queue",
    "RegionBatch",
    "Regions",
    "Teacher",
    "TextBatch",
    "Units",
    "WantedRegions",
    "send",
]
