"""The way of one sample from its bytes to a typed batch: decode, check, augment, write texts, collate.

`stages` has the order; `transforms` and `randaugment` change images, `text` makes tokens, `collate` makes batches,
`preprocess` is what evaluation needs of all this, `host_images` and `host_tokenizer` serve models of other codebases.
"""

from relpretrain.data.pipeline.collate import TextWriter, collate
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.data.pipeline.stages import Pipeline
from relpretrain.data.pipeline.text import TextEncoder, load_tokenizer
from relpretrain.data.pipeline.transforms import augment, to_tensor

__all__ = [
    "Pipeline",
    "Preprocess",
    "TextEncoder",
    "TextWriter",
    "augment",
    "collate",
    "load_tokenizer",
    "to_tensor",
]
