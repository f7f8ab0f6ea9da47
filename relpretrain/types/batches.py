"""Typed batches: one step's samples, and the texts, foils and regions in them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import Tensor

from relpretrain.types.movable import Movable
from relpretrain.types.normalisation import Normalisation
from relpretrain.types.protocols import Packing

IGNORE = -100
"""Label of positions that cross-entropy ignores."""

NO_RELATION = ""
"""Relation of a placeholder: it is in no vocabulary, and MRC runs on its entities for the sake of other processes."""


@dataclass(repr=False)
class TextBatch(Movable):
    """Token ids of n texts, beginning with the tokenizer's [CLS] and padded on the right.

    Args:
        input_ids: Token ids, (n, length), int64.
        attention_mask: True at real tokens, (n, length), bool.
        masked_input_ids: `input_ids` with words masked for MLM, (n, length); None if no text is masked.
        labels: The original ids at masked positions, -100 elsewhere, (n, length); None if no text is masked.
        positions: Where `labels` are not -100: flat indices into (n * length), (masked,), int64. None: not yet known.
        packing: Tables of the real tokens, for a backbone with `PackedTokens`.
    """

    input_ids: Tensor
    attention_mask: Tensor
    masked_input_ids: Tensor | None = None
    labels: Tensor | None = None
    positions: Tensor | None = None
    packing: Packing | None = None

    def __len__(self) -> int:
        return len(self.input_ids)

    def located(self) -> TextBatch:
        """The same texts with `positions`. Found before the texts leave the CPU, they cost no wait for the device."""
        if self.labels is None or self.positions is not None:
            return self
        return dataclasses.replace(self, positions=(self.labels.flatten() != IGNORE).nonzero().squeeze(1))


@dataclass(repr=False)
class Pairs(Movable):
    """Texts, each paired with an image of the batch or with a region of one.

    Args:
        text: The n texts.
        image_index: Index in the batch of the image that each text belongs to, (n,), int64.
        text_keys: Identity of each text before masking, (n,), int64; equal numbers mean the same text.
        boxes: (cx, cy, w, h) as fractions of the image's size, (n, 4); None when texts describe whole images.
        whole: True at rows of a region batch that stand for the whole image, (n,), bool; None if there are none.
        weights: How much each text counts in a loss, in [0, 1], (n,), fp32; None for all alike.
    """

    text: TextBatch
    image_index: Tensor
    text_keys: Tensor
    boxes: Tensor | None = None
    whole: Tensor | None = None
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.text)


@dataclass(repr=False)
class Foils(Movable):
    """False texts, each of an image that a true text is about.

    Args:
        pairs: The m texts, with the image of their true text.
        of: Row of the true text of each among the pairs that they are foils of, (m,), int64.
        slot: Which of its text's foils each is, from 0, (m,), int64.
        kinds: What was changed, as a number in `scene_graph.foils.KINDS`, (m,), int64.
        width: The most foils that a text may have: larger than every slot.
    """

    pairs: Pairs
    of: Tensor
    slot: Tensor
    kinds: Tensor
    width: int = 1

    def __len__(self) -> int:
        return len(self.of)


@dataclass(repr=False)
class Units(Movable):
    """Several short true texts to an image, such as its triplets one by one.

    Args:
        pairs: The u texts.
        slot: Which of its image's texts each is, from 0, (u,), int64.
        foils: False texts of `pairs`, at most one each.
    """

    pairs: Pairs
    slot: Tensor
    foils: Foils

    def __len__(self) -> int:
        return len(self.slot)


@dataclass(repr=False)
class WantedRegions(Movable):
    """The regions that a step looks at, and how to encode them.

    Args:
        image_index: Image of each region, (regions,), int64.
        patch_mask: Patches of each, (regions, patches), bool.
        packing: Tables of their visible tokens, for a backbone with `PackedTokens`.
        whole: Whether whole images are looked at as well.
    """

    image_index: Tensor
    patch_mask: Tensor
    packing: Packing | None = None
    whole: bool = True


@dataclass(kw_only=True, repr=False)
class Batch(Movable):
    """One step's samples: one type of data from one dataset.

    Args:
        images: (batch, 3, height, width): pixels, uint8, to be normalised on the device; or, without `normalisation`,
            a model's input as it is.
        image_ids: Identity of each image, (batch,), int64; equal numbers mean the same image.
        pairs: The texts: captions, region texts or verbalised graphs, depending on the type of the batch.
        normalisation: What makes the model's input of `images`; None where they are it.
        stream: Name of the stream that the batch comes from.
        objectives: Names of the objectives that consume it.
        step: The training step of the batch.
        keys: Origin of each sample, as "dataset/shard/key"; mirror images (`Stream.mirrored`), which stand behind the
            images of the samples, have none.
        skipped: Samples that were skipped, as (dataset, reason, "shard/key"); where only a part of a sample was, the
            reason begins with "part: ".
        regions: What `wanted_regions` finds for the step's objectives, if it was asked before the batch left the CPU.
        foils: False texts of `pairs`; None where the stream makes none.
        units: Several short texts to an image, with a foil each; None likewise.
    """

    images: Tensor
    image_ids: Tensor
    pairs: Pairs
    normalisation: Normalisation | None = None
    stream: str = ""
    objectives: tuple[str, ...] = ()
    step: int = 0
    keys: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str, str], ...] = ()
    regions: WantedRegions | None = None
    foils: Foils | None = None
    units: Units | None = None

    def __len__(self) -> int:
        return len(self.images)

    def model_images(self) -> Tensor:
        """The images as a model takes them, (batch, 3, height, width), normalised on the device where they are."""
        return self.images if self.normalisation is None else self.normalisation(self.images)


@dataclass(kw_only=True, repr=False)
class CaptionBatch(Batch):
    """Images with captions."""


@dataclass(kw_only=True, repr=False)
class RegionBatch(Batch):
    """Images with texts for boxes in them; `pairs.boxes` is set."""


@dataclass(kw_only=True, repr=False)
class GraphBatch(Batch):
    """Images with scene graphs: verbalised in `pairs` (VSG), and as triplets of entities (MRC).

    Args:
        entities: Labels of entities, paired with their boxes.
        subjects: Index in `entities` of each triplet's subject, (triplets,), int64.
        objects: Index in `entities` of each triplet's object, (triplets,), int64.
        relations: Relation of each triplet, as annotated.
        weights: How much each triplet counts in a loss, in [0, 1], (triplets,), fp32; None for all alike.
    """

    entities: Pairs
    subjects: Tensor
    objects: Tensor
    relations: tuple[str, ...]
    weights: Tensor | None = None
