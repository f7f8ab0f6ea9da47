"""What travels between the rooms: typed batches, loss records and the protocols of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

_Record = TypeVar("_Record", bound="Movable")

Kind = Literal["captions", "regions", "graphs"]
"""What a stream is about, and so the type of its batches."""

IGNORE = -100
"""Label that a cross-entropy leaves out."""


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, tuple | str) and not value)


def _brief(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    return f"<{len(value)}>" if isinstance(value, tuple) and len(value) > 8 else repr(value)


class Movable:
    """A dataclass of tensors that moves to a device (or into pinned memory) as one."""

    def _map(self: _Record, function: Any) -> _Record:
        changes: dict[str, Any] = {}
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if isinstance(value, Tensor):
                changes[f.name] = function(value)
            elif isinstance(value, Movable):
                changes[f.name] = value._map(function)
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def __repr__(self) -> str:
        """One line: shapes instead of numbers, and only what is there."""
        values = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))  # type: ignore[arg-type]
        shown = (f"{name}={_brief(value)}" for name, value in values if not _empty(value))
        return f"{type(self).__name__}({', '.join(shown)})"

    def to(self: _Record, device: torch.device | str, non_blocking: bool = False) -> _Record:
        """Return a copy whose tensors are on `device`."""
        return self._map(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self: _Record) -> _Record:
        """Return a copy whose tensors are in page-locked memory."""
        return self._map(lambda t: t.pin_memory())


@dataclass(repr=False)
class TextBatch(Movable):
    """Token ids of n texts, right-padded, beginning with the tokenizer's [CLS].

    Args:
        input_ids: Token ids, (n, length), int64.
        attention_mask: True at real tokens, (n, length), bool.
        masked_input_ids: `input_ids` with words masked for MLM, (n, length); None where no text is masked.
        labels: The original ids at masked positions and -100 elsewhere, (n, length); None likewise.
    """

    input_ids: Tensor
    attention_mask: Tensor
    masked_input_ids: Tensor | None = None
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(repr=False)
class Pairs(Movable):
    """Texts, each paired with an image of the batch or with a region of one.

    Args:
        text: The n texts.
        image_index: Which image of the batch each text belongs to, (n,), int64.
        text_keys: Identity of each text as the model sees it unmasked, (n,), int64; equal numbers mean the same text.
        boxes: (cx, cy, w, h) as shares of the image, (n, 4); None when texts describe whole images.
        whole: True where a row of a region batch stands for its whole image, (n,), bool; None if none does.
    """

    text: TextBatch
    image_index: Tensor
    text_keys: Tensor
    boxes: Tensor | None = None
    whole: Tensor | None = None

    def __len__(self) -> int:
        return len(self.text)


@dataclass(kw_only=True, repr=False)
class Batch(Movable):
    """One step's samples: one type of data from one dataset.

    Args:
        images: Normalised images, (batch, 3, height, width).
        image_ids: Identity of each image, (batch,), int64; equal numbers mean the same image.
        pairs: The texts. Captions, region texts or verbalised graphs, by the type of the batch.
        stream: Name of the stream that the batch comes from.
        objectives: Names of the objectives that consume it.
        step: The step that the batch belongs to.
        keys: Where each sample comes from, as "dataset/shard/key".
        skipped: What the batch lost, as (dataset, reason, "shard/key"); reasons of lost parts begin with "part: ".
    """

    images: Tensor
    image_ids: Tensor
    pairs: Pairs
    stream: str = ""
    objectives: tuple[str, ...] = ()
    step: int = 0
    keys: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.images)


@dataclass(kw_only=True, repr=False)
class CaptionBatch(Batch):
    """Images with captions."""


@dataclass(kw_only=True, repr=False)
class RegionBatch(Batch):
    """Images with texts for boxes in them; `pairs.boxes` is set."""


@dataclass(kw_only=True, repr=False)
class GraphBatch(Batch):
    """Images with scene graphs: `pairs` are verbalised graphs (VSG), the rest are triplets (MRC).

    Args:
        entities: Labels of entities paired with their boxes, e rows.
        subjects: Row of `entities` of each triplet's subject, (triplets,), int64.
        objects: Row of `entities` of each triplet's object, (triplets,), int64.
        relations: Relation of each triplet, as annotated.
    """

    entities: Pairs
    subjects: Tensor
    objects: Tensor
    relations: tuple[str, ...]


class Regions(NamedTuple):
    """Regions of a batch of images: which image, and which of its patches are visible."""

    image_index: Tensor  # (regions,), int64
    patch_mask: Tensor  # (regions, patches), bool, row by row from the top left


class ImageFeatures(NamedTuple):
    """Tokens of whole images, and of the regions that were asked for. Index 0 stands for all ([CLS])."""

    tokens: Tensor  # (batch, 1 + patches, dim)
    mask: Tensor  # (batch, 1 + patches), bool
    region_tokens: Tensor | None = None  # (regions, 1 + patches, dim)
    region_mask: Tensor | None = None  # (regions, 1 + patches), bool


@runtime_checkable
class Backbone(Protocol):
    """What an objective needs of a model. Ours satisfy it; an adapter makes others satisfy it."""

    fusion_dim: int
    """Width of the fused tokens."""
    patch_grid: tuple[int, int]
    """Rows and columns of the patches that `encode_image` returns for the model's own image size."""

    @property
    def temperature(self) -> Tensor:
        """Divisor of the cosine similarities, a scalar tensor."""
        ...

    def encode_image(self, images: Tensor, regions: Regions | None = None) -> ImageFeatures:
        """Encode (batch, 3, height, width) once, and the regions out of the same pass."""
        ...

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode (n, length) ids to (n, length, dim)."""
        ...

    def fuse(self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> Tensor:
        """Let text tokens (n, length, dim) attend to image tokens (n, 1 + patches, dim): (n, length, fusion_dim)."""
        ...

    def project_image(self, tokens: Tensor) -> Tensor:
        """Unit vectors (n, embed_dim) of image tokens (n, 1 + patches, dim)."""
        ...

    def project_text(self, tokens: Tensor) -> Tensor:
        """Unit vectors (n, embed_dim) of text tokens (n, length, dim)."""
        ...

    def match_logits(self, fused: Tensor) -> Tensor:
        """(n, 2) logits of fused tokens (n, length, fusion_dim); index 1 means that the pair matches."""
        ...

    def word_logits(self, fused: Tensor) -> Tensor:
        """Vocabulary logits (positions, vocabulary) of fused tokens at those positions (positions, fusion_dim)."""
        ...


@runtime_checkable
class BoxBackbone(Backbone, Protocol):
    """A backbone that also predicts boxes."""

    def boxes(self, fused: Tensor) -> Tensor:
        """(cx, cy, w, h) as shares of the image, (n, 4), of fused tokens (n, length, fusion_dim)."""
        ...


@runtime_checkable
class CachedFusion(Protocol):
    """A backbone whose images and texts do once what of fusion depends on them alone; ours do."""

    def precompute_image_kv(self, image: Tensor) -> tuple[Tensor, ...]:
        """The images' part of fusion, of tokens (m, 1 + patches, dim): tensors with a row for each image."""
        ...

    def precompute_text(self, text: Tensor, text_mask: Tensor) -> Tensor:
        """The texts' part of matching, of tokens (n, length, dim): a row for each text."""
        ...

    def fuse_cached(self, text: Tensor, text_mask: Tensor, image: tuple[Tensor, ...], image_mask: Tensor) -> Tensor:
        """`fuse` text tokens (n, length, dim) with images that have begun, one for each: (n, length, fusion_dim)."""
        ...

    def match(self, text: Tensor, text_mask: Tensor, image: tuple[Tensor, ...], image_mask: Tensor) -> Tensor:
        """Match logits (n, 2) of texts with m images, all of which have begun, each image for n / m texts in a row."""
        ...


PARTS: dict[str, tuple[str, ...]] = {
    "contrast": ("project_image", "project_text"),
    "matching": ("fuse", "match_logits"),
    "words": ("fuse", "word_logits"),
    "regions": ("fuse",),
    "boxes": ("fuse", "boxes"),
}
"""What a backbone can serve beside encoding images and texts, and the methods that each part takes.

A backbone that serves only some of them names those in an attribute `provides`; one without it must serve all.
"""


class Queue(Protocol):
    """Embeddings of earlier steps that serve as further negatives (ALBEF, section 3.2)."""

    image: Tensor  # (embed_dim, size)
    text: Tensor  # (embed_dim, size)
    image_ids: Tensor  # (size,), -1 where unknown
    text_ids: Tensor  # (size,), of `Pairs.text_keys`; -1 where unknown


class Teacher(Protocol):
    """A momentum copy of a backbone and what distillation needs beside it (ALBEF, section 3.3)."""

    model: Backbone
    queue: Queue | None

    @property
    def alpha(self) -> float:
        """Share of the soft targets, in [0, 1]."""
        ...

    def update(self, student: Any) -> None:
        """Move the copy towards the student: once an optimizer step, before its features are computed."""
        ...

    def enqueue(
        self, image: Tensor, text: Tensor, image_ids: Tensor, text_keys: Tensor, sizes: list[int] | None = None
    ) -> None:
        """Put a batch's embeddings (n, embed_dim) into the queue: after the losses of its optimizer step.

        `sizes` is n by rank, if known.
        """
        ...


@runtime_checkable
class PairScorer(Protocol):
    """Says how well texts match images: what the zero-shot benchmarks ask of a model."""

    def encode_images(self, images: Sequence[Any]) -> Any:
        """Encode PIL images; the result is indexable by image and handed back to `score`."""
        ...

    def score(self, image_features: Any, index: Sequence[int], texts: Sequence[str]) -> Tensor:
        """Match logits (n, 2) of each text with image `index[i]` of the encoded ones; index 1 means match."""
        ...


@dataclass
class ObjectiveOutput:
    """What an objective returns.

    Args:
        loss: Weighted sum of `parts`: the scalar to add.
        parts: Each loss by name, scalars without the objective's own weight.
        count: How many terms went into the loss on this process; 0 means that nothing happened and nothing is logged.
        metrics: Further scalars worth logging, such as accuracies: means over as many terms on this process.
        counts: The number of terms of those parts and metrics for which it is not `count`, by name.
        classes: Which class each of n terms belongs to, -100 for none, (n,), and whether it was found, (n,), by the
            name of what is logged of them: the mean over classes of the share that was found.
    """

    loss: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    count: int = 0
    metrics: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int | Tensor] = field(default_factory=dict)
    classes: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
