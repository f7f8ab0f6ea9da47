"""Objectives: one file each, an equation as a pure function and a thin module around it."""

from relpretrain.objectives.base import Objective, ViewObjective, ViewSum
from relpretrain.objectives.box import BOX
from relpretrain.objectives.contrastive import ITC
from relpretrain.objectives.language import MLM
from relpretrain.objectives.masked_region import VMA
from relpretrain.objectives.matching import ITM
from relpretrain.objectives.multi_positive import MultiPositive
from relpretrain.objectives.relation import MRC
from relpretrain.objectives.scene_graph import VSG
from relpretrain.objectives.tagger import RelationTagger
from relpretrain.objectives.text_foil import TextFoil
from relpretrain.objectives.units import RelationUnits

__all__ = [
    "BOX",
    "ITC",
    "ITM",
    "MLM",
    "MRC",
    "VMA",
    "VSG",
    "MultiPositive",
    "Objective",
    "RelationTagger",
    "RelationUnits",
    "TextFoil",
    "ViewObjective",
    "ViewSum",
]
