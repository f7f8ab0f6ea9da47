"""The protocols of a model: what objectives ask of a backbone and of its teacher, and benchmarks of a scorer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor


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


class Packing(Protocol):
    """Tables of the visible tokens of n regions or texts: T in all, laid flat, row by row."""

    mask: Tensor  # (n, longest), bool: True at the real tokens of what `pad` returns
    first: Tensor  # (n,), int64: flat place of each row's token 0

    def pad(self, x: Tensor) -> Tensor:
        """Flat tokens (T, dim) to rows that are padded to the longest, (n, longest, dim)."""
        ...


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
