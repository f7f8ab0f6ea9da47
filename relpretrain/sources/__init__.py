"""Annotation sources: each reads one data set's files and yields what they say of each image."""

from relpretrain.sources.coco import read_coco
from relpretrain.sources.common.annotation import Annotation, Later, Rules, check
from relpretrain.sources.gqa import read_gqa
from relpretrain.sources.hico import read_hico
from relpretrain.sources.image_text import read_albef, read_image_text
from relpretrain.sources.open_images import read_open_images
from relpretrain.sources.own import read_own
from relpretrain.sources.psg import read_psg
from relpretrain.sources.visual_genome import read_visual_genome
from relpretrain.sources.vrd import read_vrd
from relpretrain.sources.xvlm import read_xvlm

__all__ = [
    "Annotation",
    "Later",
    "Rules",
    "check",
    "read_albef",
    "read_coco",
    "read_gqa",
    "read_hico",
    "read_image_text",
    "read_open_images",
    "read_own",
    "read_psg",
    "read_visual_genome",
    "read_vrd",
    "read_xvlm",
]
