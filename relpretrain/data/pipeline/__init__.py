"""The way of one sample from its shard to a batch: parse, decode, check, augment, write texts, collate.

`stages` has the order, and `sample` the forms between; `images` reads files, `transforms` and `randaugment` change
images, `text` makes tokens, `text_writer` the texts of a sample, `collate` batches, `preprocess` is what evaluation
needs of all this, `host_images` and `host_tokenizer` serve models of other codebases.
"""

from relpretrain.data.pipeline.collate import collate
from relpretrain.data.pipeline.images import decode, to_tensor
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.data.pipeline.stages import Pipeline, check, parse
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.text_writer import TextWriter
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.data.pipeline.transforms import augment

__all__ = [
    "Pipeline",
    "Preprocess",
    "TextEncoder",
    "TextWriter",
    "augment",
    "check",
    "collate",
    "decode",
    "load_tokenizer",
    "parse",
    "to_tensor",
]
