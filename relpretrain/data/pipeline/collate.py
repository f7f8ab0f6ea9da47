"""From examples to typed batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from relpretrain.data.pipeline.foils import kind_number
from relpretrain.data.pipeline.text import collate_texts
from relpretrain.data.pipeline.text_writer import Example, Text
from relpretrain.types import Batch, CaptionBatch, Foils, GraphBatch, Kind, Pairs, RegionBatch, Units

BATCH_TYPES: dict[Kind, type[Batch]] = {"captions": CaptionBatch, "regions": RegionBatch, "graphs": GraphBatch}
"""Type of the batches of each kind of stream."""


def collate(kind: Kind, examples: Sequence[Example], pad_id: int, **origin: Any) -> Batch:
    """Put examples together.

    Args:
        kind: Type of the batch.
        examples: At least one, all of one pipeline. Their mirror images stand behind all of them.
        pad_id: Id of the padding token.
        **origin: Further fields of the batch: stream, objectives, step, skipped.
    """
    drawn = examples
    examples = [*drawn, *(example.mirrored for example in drawn if example.mirrored is not None)]
    common: dict[str, Any] = {
        "images": default_collate([example.image for example in examples]),  # in a worker: into shared memory at once
        "image_ids": torch.tensor([example.image_id for example in examples], dtype=torch.long),
        "pairs": _pairs([example.texts for example in examples], pad_id, boxes=kind == "regions", masked=True),
        "normalisation": examples[0].normalisation,
        "keys": tuple(example.key for example in drawn),
        **origin,
    }
    if any(example.foils is not None for example in examples):
        common["foils"] = _foils(examples, pad_id)
    if any(example.units is not None for example in examples):
        common["units"] = _units(examples, pad_id)
    if kind != "graphs":
        return BATCH_TYPES[kind](**common)
    first = np.cumsum([0] + [len(example.entities) for example in examples])
    triplets = [
        (start + s, start + o, relation)
        for start, example in zip(first.tolist(), examples, strict=False)
        for s, o, relation in example.triplets
    ]
    return GraphBatch(
        **common,
        entities=_pairs([example.entities for example in examples], pad_id, boxes=True, masked=False),
        subjects=torch.tensor([s for s, _, _ in triplets], dtype=torch.long),
        objects=torch.tensor([o for _, o, _ in triplets], dtype=torch.long),
        relations=tuple(relation for _, _, relation in triplets),
        weights=None if common["pairs"].weights is None else _weights(w for e in examples for w in e.weights),
    )


def _pairs(texts: Sequence[Sequence[Text]], pad_id: int, boxes: bool, masked: bool) -> Pairs:
    """Texts by image to pairs."""
    flat = [text for of_image in texts for text in of_image]
    masks = [text.masked for text in flat if text.masked is not None] if masked else None
    return Pairs(
        collate_texts([text.tokens for text in flat], pad_id, masks),
        torch.repeat_interleave(torch.tensor([len(of_image) for of_image in texts], dtype=torch.long)),
        torch.tensor([text.identity for text in flat], dtype=torch.long),
        torch.tensor([text.box for text in flat], dtype=torch.float32).reshape(-1, 4) if boxes else None,
        torch.tensor([text.whole for text in flat]) if any(text.whole for text in flat) else None,
        _weights(text.weight for text in flat) if flat and flat[0].weight is not None else None,
    )


def _foils(examples: Sequence[Example], pad_id: int) -> Foils:
    """The foils of all examples, each with the place of its true text among the pairs."""
    first = np.cumsum([0] + [len(example.texts) for example in examples]).tolist()
    of_image = [example.foils or [] for example in examples]
    of = [start + row for start, foils in zip(first, of_image, strict=False) for _, row, _ in foils]
    slots = [
        sum(other == row for _, other, _ in foils[:i]) for foils in of_image for i, (_, row, _) in enumerate(foils)
    ]
    return Foils(
        _pairs([[text for text, _, _ in foils] for foils in of_image], pad_id, boxes=False, masked=False),
        torch.tensor(of, dtype=torch.long),
        torch.tensor(slots, dtype=torch.long),
        torch.tensor([kind_number(kind) for foils in of_image for _, _, kind in foils], dtype=torch.long),
        max(slots, default=0) + 1,
    )


def _units(examples: Sequence[Example], pad_id: int) -> Units:
    """The units of all examples, and their foils."""
    of_image = [example.units or [] for example in examples]
    foils = [[foil for _, foil in units if foil is not None] for units in of_image]
    has_foil = [foil is not None for units in of_image for _, foil in units]
    of = torch.tensor([row for row, has in enumerate(has_foil) if has], dtype=torch.long)
    slots = [slot for units in of_image for slot in range(len(units))]
    return Units(
        _pairs([[text for text, _ in units] for units in of_image], pad_id, boxes=False, masked=False),
        torch.tensor(slots, dtype=torch.long),
        Foils(_pairs(foils, pad_id, boxes=False, masked=False), of, torch.zeros_like(of), torch.zeros_like(of)),
    )


def _weights(values: Iterable[Any]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float32)
