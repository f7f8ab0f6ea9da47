"""Objectives: one file each, an equation as a pure function and a thin module around it."""

from relpretrain.objectives.base import Objective, ViewObjective, ViewSum
from relpretrain.objectives.box import BOX
from relpretrain.objectives.contrastive import ITC
from relpretrain.objectives.language import MLM
from relpretrain.objectives.masked_region import VMA
from relpretrain.objectives.matching import ITM
from relpretrain.objectives.relation import MRC
from relpretrain.objectives.scene_graph import VSG
from relpretrain.objectives.tagger import RelationTagger

__all__ = ["BOX", "ITC", "ITM", "MLM", "MRC", "VMA", "VSG", "Objective", "RelationTagger", "ViewObjective", "ViewSum"]
