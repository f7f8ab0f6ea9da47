"""The model card of exported weights."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.showing import markdown
from relpretrain.version import __version__

_CARD = """---
library_name: relpretrain
tags:
- vision-language
- image-text-matching
---

# {name}

{model} with {parameters:,} parameters, written by relpretrain {version}{origin}.

| | |
|---|---|
| images | {image_size} x {image_size} pixels, resized without regard to their aspect |
| texts | at most {max_tokens} tokens, {ending}{cleaned} |
| vocabulary | {words} words |
| objectives | {objectives} |

```python
import relpretrain

loaded = relpretrain.Loaded.from_pretrained("NAME_OR_FOLDER")  # .backbone, .preprocess, .objectives
```

Training data, intended use and results: to be filled in by whoever publishes these weights.
"""


def card(name: str, backbone: nn.Module, preprocess: Preprocess, objectives: Iterable[str], official: bool) -> str:
    """Text of the model card, as far as it follows from the weights; data and results are left to the publisher.

    Args:
        name: Name of the weights.
        backbone: The model.
        preprocess: Preprocessing of its images and texts.
        objectives: Names of its objectives.
        official: Whether the weights came from a checkpoint of the official code.
    """
    return _CARD.format(
        name=markdown(name),
        model=type(backbone).__name__,
        parameters=sum(p.numel() for p in backbone.parameters() if p.requires_grad),
        version=__version__,
        origin=" from a checkpoint of the official code" if official else "",
        image_size=preprocess.image_size,
        max_tokens=preprocess.max_tokens,
        ending="[CLS] and [SEP]" if preprocess.separator else "[CLS] without [SEP]",
        cleaned=", cleaned as in ALBEF and X-VLM" if preprocess.clean else "",
        words=len(preprocess.tokenizer),
        objectives=markdown(", ".join(objectives)) or "none",
    )
