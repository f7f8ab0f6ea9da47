"""Annotation sources: each reads one data set's files and yields records in the sample format."""

from relpretrain.sources.coco import read_coco
from relpretrain.sources.common import SourceRecord
from relpretrain.sources.image_text import read_image_text
from relpretrain.sources.vrd import read_vrd

__all__ = ["SourceRecord", "read_coco", "read_image_text", "read_vrd"]
