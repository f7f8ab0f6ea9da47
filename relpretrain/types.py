"""Shared types: batches, outputs of objectives, and the protocols of a model."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from relpretrain.kinds import Kind as Kind

_Record = TypeVar("_Record", bound="Movable")

IGNORE = -100
"""Label of positions that cross-entropy ignores."""

NO_RELATION = ""
"""Relation of a placeholder: it is in no vocabulary, and MRC runs on its entities for the sake of other processes."""


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, tuple | str) and not value)


def _brief(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    return f"<{len(value)}>" if isinstance(value, tuple) and len(value) > 8 else repr(value)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the CPU to a device without waiting for it, through page-locked memory."""
    if device.type == "cuda" and torch.cuda.is_available():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


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
            elif isinstance(value, tuple) and value and isinstance(value[0], Movable):
                changes[f.name] = tuple(part._map(function) for part in value)
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def __repr__(self) -> str:
        """One line with shapes instead of values, without empty fields."""
        values = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))  # type: ignore[arg-type]
        shown = (f"{name}={_brief(value)}" for name, value in values if not _empty(value))
        return f"{type(self).__name__}({', '.join(shown)})"

    def to(self: _Record, device: torch.device | str, non_blocking: bool | None = None) -> _Record:
        """Return a copy whose tensors are on `device`.

        Args:
            device: Where to.
            non_blocking: Whether this process goes on before pinned tensors are copied; None for a copy to a CUDA
                device, which orders what uses them after it. Lightning asks this of single tensors only.
        """
        wait = torch.device(device).type != "cuda" if non_blocking is None else not non_blocking
        return self._map(lambda t: t.to(device, non_blocking=not wait))

    def pin_memory(self: _Record) -> _Record:
        """Return a copy whose tensors are in page-locked memory."""
        return self._map(lambda t: t.pin_memory())


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


class Normalisation(NamedTuple):
    """Makes a model's input of pixels: mean and deviation of the colour channels, each in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalise pixels (..., 3, height, width) in [0, 255] on their device; float32."""
        scale, shift = _colours(self, pixels.device)
        copy = pixels.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        return copy.mul_(scale).sub_(shift)


@functools.lru_cache
def _colours(of: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    """What [0, 255] is multiplied by, and what is then taken away, each (3, 1, 1); kept on each device."""
    scale = torch.tensor([1 / (255 * s) for s in of.std]).view(3, 1, 1)
    shift = torch.tensor([m / s for m, s in zip(of.mean, of.std, strict=True)]).view(3, 1, 1)
    return send(scale, device), send(shift, device)


class Packing(Protocol):
    """Tables of the visible tokens of n regions or texts: T in all, laid flat, row by row."""

    mask: Tensor  # (n, longest), bool: True at the real tokens of what `pad` returns
    first: Tensor  # (n,), int64: flat place of each row's token 0

    def pad(self, x: Tensor) -> Tensor:
        """Flat tokens (T, dim) to rows that are padded to the longest, (n, longest, dim)."""
        ...


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


class Regions(NamedTuple):
    """Regions of a batch of images: the image of each, and a mask of the patches inside it."""

    image_index: Tensor  # (regions,), int64
    patch_mask: Tensor  # (regions, patches), bool, row by row from the top left


class ImageFeatures(NamedTuple):
    """Tokens of images, and of regions if there were any. Token 0 represents the whole ([CLS])."""

    tokens: Tensor  # (batch, 1 + patches, dim)
    mask: Tensor  # (batch, 1 + patches), bool
    region_tokens: Tensor | None = None  # (regions, 1 + patches, dim)
    region_mask: Tensor | None = None  # (regions, 1 + patches), bool


@runtime_checkable
class Backbone(Protocol):
    """The interface of a model that objectives use: `ALBEF`, `XVLM`, and any model behind an adapter have it."""

    fusion_dim: int
    """Width of the fused tokens."""
    patch_grid: tuple[int, int]
    """Rows and columns of the patches that `encode_image` returns for the model's own image size."""

    @property
    def temperature(self) -> Tensor:
        """Divisor of the cosine similarities, a scalar tensor."""
        ...

    def encode_image(self, images: Tensor, regions: Regions | None = None) -> ImageFeatures:
        """Encode images (batch, 3, height, width), and regions of them in the same pass."""
        ...

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode token ids (n, length) with their attention mask (n, length) to text tokens (n, length, dim)."""
        ...

    def fuse(self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> Tensor:
        """Fuse text tokens (n, length, dim) with image tokens (n, 1 + patches, dim): (n, length, fusion_dim)."""
        ...

    def project_image(self, tokens: Tensor) -> Tensor:
        """Unit-norm embeddings (n, embed_dim) of image tokens (n, 1 + patches, dim)."""
        ...

    def project_text(self, tokens: Tensor) -> Tensor:
        """Unit-norm embeddings (n, embed_dim) of text tokens (n, length, dim)."""
        ...

    def match_logits(self, fused: Tensor) -> Tensor:
        """Matching logits (n, 2) of fused tokens (n, length, fusion_dim); class 1 is "match"."""
        ...

    def word_logits(self, fused: Tensor) -> Tensor:
        """Vocabulary logits (positions, vocabulary) of fused tokens (positions, fusion_dim)."""
        ...


@runtime_checkable
class BoxBackbone(Backbone, Protocol):
    """A backbone that also predicts boxes."""

    def boxes(self, fused: Tensor) -> Tensor:
        """Boxes (cx, cy, w, h) as fractions of the image's size, (n, 4), of fused tokens (n, length, fusion_dim)."""
        ...


@runtime_checkable
class CachedFusion(Protocol):
    """A backbone that caches the parts of fusion that depend on the image or the text alone (`ALBEF`, `XVLM`)."""

    def precompute_image_kv(self, image: Tensor) -> tuple[Tensor, ...]:
        """Precompute cross-attention keys and values per layer, of image tokens (m, 1 + patches, dim): m rows each."""
        ...

    def precompute_text(self, text: Tensor, text_mask: Tensor) -> Tensor:
        """Precompute what of `match` depends on text tokens (n, length, dim) alone: a row for each text."""
        ...

    def fuse_cached(self, text: Tensor, text_mask: Tensor, image: tuple[Tensor, ...], image_mask: Tensor) -> Tensor:
        """`fuse` text tokens (n, length, dim) with n images from `precompute_image_kv`: (n, length, fusion_dim)."""
        ...

    def match(self, text: Tensor, text_mask: Tensor, image: tuple[Tensor, ...], image_mask: Tensor) -> Tensor:
        """Match logits (n, 2) of n texts from `precompute_text` with m images from `precompute_image_kv`.

        Each image belongs to n / m consecutive texts.
        """
        ...


@runtime_checkable
class PackedTokens(Protocol):
    """A `CachedFusion` backbone that leaves hidden tokens out of its computation (`ALBEF`, `XVLM`).

    Its `encode_text`, `precompute_text`, `fuse_cached`, `fuse_first` (the first token of `fuse_cached`) and `match`
    take the packing of the texts as their last argument. Tables are of type `Movable`; made of masks on the CPU, they
    cost no wait for a device.
    """

    def pack_regions(self, patch_mask: Tensor) -> Packing:
        """Tables of regions with the given patches, (regions, patches), bool."""
        ...

    def pack_texts(self, mask: Tensor) -> Packing | None:
        """Tables of texts with the given real tokens, (n, length), bool; None if it wants none."""
        ...

    def encode_visible(self, images: Tensor, regions: Regions, packing: Packing, whole: bool) -> ImageFeatures:
        """`encode_image`, with region tokens (T, dim) that are laid flat, and with the mask of the packing.

        Keys and values are then precomputed of (1, T, dim). If `whole` images are not wanted, there may be 0 of them.
        """
        ...


PARTS: dict[str, tuple[str, ...]] = {
    "contrast": ("project_image", "project_text"),
    "matching": ("fuse", "match_logits"),
    "words": ("fuse", "word_logits"),
    "regions": ("fuse",),
    "boxes": ("fuse", "boxes"),
}
"""Parts of a backbone beside its encoders, and the methods that each part consists of.

A backbone without some of them lists those it has in an attribute `provides`; without that attribute it must have all.
"""


class Queue(Protocol):
    """Embeddings of earlier steps, used as additional negatives (ALBEF, section 3.2)."""

    image: Tensor  # (embed_dim, size)
    text: Tensor  # (embed_dim, size)
    image_ids: Tensor  # (size,), -1 where unknown
    text_ids: Tensor  # (size,), of `Pairs.text_keys`; -1 where unknown


class Teacher(Protocol):
    """A momentum teacher: a slowly moving copy of a backbone, with an optional queue (ALBEF, section 3.3)."""

    model: Backbone
    queue: Queue | None

    @property
    def alpha(self) -> float:
        """Weight of the soft targets, in [0, 1]."""
        ...

    def update(self, student: Any) -> None:
        """Move the copy towards the student: once per optimizer step, before its features are computed."""
        ...

    def enqueue(
        self, image: Tensor, text: Tensor, image_ids: Tensor, text_keys: Tensor, sizes: list[int] | None = None
    ) -> None:
        """Add a batch's embeddings (n, embed_dim) to the queue, after the losses of its optimizer step.

        `sizes` is n by rank, if known.
        """
        ...


@runtime_checkable
class PairScorer(Protocol):
    """The interface of a model that the zero-shot benchmarks use: scores how well texts match images."""

    def encode_images(self, images: Sequence[Any]) -> Any:
        """Encode PIL images; the result can be indexed by image and is passed to `score`."""
        ...

    def score(self, image_features: Any, index: Sequence[int], texts: Sequence[str]) -> Tensor:
        """Match logits (n, 2) of `texts[i]` with encoded image `index[i]`; class 1 is "match"."""
        ...


@dataclass
class ObjectiveOutput:
    """Output of an objective.

    Args:
        loss: Weighted sum of `parts`, a scalar.
        parts: Each loss by name, scalars without the objective's own weight.
        count: Number of terms in the loss on this process; with 0 nothing is logged. A tensor where the CPU does not
            know it, so that nobody waits for the device.
        metrics: Further scalars to log, such as accuracies: means over `count` terms on this process.
        counts: Number of terms of those parts and metrics for which it is not `count`, by name.
        classes: By name of a macro-averaged accuracy: the class of each of n terms (-100 for none), (n,), and whether
            it was predicted correctly, (n,).
    """

    loss: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    count: int | Tensor = 0
    metrics: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int | Tensor] = field(default_factory=dict)
    classes: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
