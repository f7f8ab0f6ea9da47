"""What a recipe says of its data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["captions", "regions", "graphs"]


@dataclass
class Stream:
    """A source of batches of one type.

    Args:
        kind: Type of its batches.
        datasets: Shards by dataset name: a path, glob, brace pattern, folder, or a list of these. A batch comes from
            one dataset, drawn uniformly.
        batch_size: Images in a step's batch, over all processes together.
        objectives: Names of the objectives that consume the batches.
        ratio: How often the stream is drawn, relative to the others.
        max_tokens: Limit of a text's length, special tokens included.
        entities_per_image: Regions drawn from an image (regions).
        relations_per_text: Triplets verbalised into one text, K (graphs, VSG).
        relations_per_image: Triplets drawn from an image for classification (graphs, MRC).
        min_scale: Smallest share of the image's area that a random crop keeps; 1 switches cropping off.
        flip: Chance of a horizontal flip, taken only where it leaves every text true.
        color: Whether colours are jittered.
    """

    kind: Kind
    datasets: dict[str, str | list[str]]
    batch_size: int
    objectives: list[str] = field(default_factory=list)
    ratio: float = 1.0
    max_tokens: int = 36
    entities_per_image: int = 4
    relations_per_text: int = 8
    relations_per_image: int = 2
    min_scale: float = 0.5
    flip: float = 0.5
    color: bool = True
