"""Base class of the adapters."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, ClassVar, NoReturn

from torch import Tensor, nn

from relpretrain.types import ImageFeatures, Regions


class HostAdapter:
    """Adapts a model of another codebase (the host) to `relpretrain.types.Backbone`.

    A subclass lists the host's attributes in `needs` and the parts that it implements in `provides`, and defines their
    methods. It calls the host's own modules and imports nothing from the host's package. It is not an `nn.Module` and
    has no state but the host: it is created whenever it is needed, so that it always uses the host's present modules
    and weights and the host's state dict keys do not change.

    Parts in `provides`, and the methods that each needs beside `encode_image` and `encode_text`:

    - "contrast": `project_image`, `project_text`, `temperature`;
    - "matching": `fuse`, `match_logits`;
    - "words": `fuse`, `word_logits`, for masked language modelling;
    - "regions": `fuse`, `fusion_dim`, `patch_grid`, and `encode_image` with regions. `fuse(...)[:, 0]` must then
      represent a region together with its label; a host without cross-attention may combine them in another way;
    - "boxes": `fuse`, `boxes`.

    Args:
        host: The host's module.
    """

    name: ClassVar[str] = ""
    """Name of the host in messages, such as "ALBEF of salesforce/ALBEF"."""
    needs: ClassVar[Mapping[str, str]] = {}
    """Attributes by which a host is recognised, described: {"visual_encoder.blocks": "image encoder"}."""
    note: ClassVar[str] = ""
    """A remark for the user on how the host is adapted, printed once; a sentence, or empty."""
    provides: frozenset[str] = frozenset()
    """Parts that the adapter implements; set in `__init__` where they depend on the host."""

    def __init__(self, host: Any) -> None:
        self.host = host

    @classmethod
    def missing(cls, module: nn.Module) -> list[str]:
        """The attributes in `needs` that a module lacks, with their descriptions; empty if it is such a host."""
        return [f"{path} ({what})" for path, what in cls.needs.items() if not has(module, path)]

    @classmethod
    def recognises(cls, module: nn.Module) -> bool:
        """Whether a module is such a host, by its attributes."""
        return bool(cls.needs) and not cls.missing(module)

    @property
    def fusion_dim(self) -> int:
        """Width of the fused tokens."""
        self._lacks("fusion_dim")

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns of the patches that `encode_image` returns for the host's own image size."""
        self._lacks("patch_grid")

    @property
    def temperature(self) -> Tensor:
        """Divisor of the cosine similarities, a scalar tensor."""
        self._lacks("temperature")

    def encode_image(self, images: Tensor, regions: Regions | None = None) -> ImageFeatures:
        """Encode images (batch, 3, height, width), and regions of them in the same pass.

        Args:
            images: Normalised images.
            regions: Given only if "regions" is provided.

        Returns:
            Tokens, of which token 0 represents the whole image or region, and masks of those that may be attended to.
        """
        self._lacks("encode_image")

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode token ids (n, length) to text tokens (n, length, dim).

        Args:
            ids: Ids of the host's own tokenizer, padded as it pads (mostly on the right), (n, length), int64.
            mask: True at real tokens, (n, length), bool.

        Returns:
            Tokens, of which token 0 represents the whole text: a host that pools at another position puts its token
            first. Without fusion, (n, 1, dim) is enough.
        """
        self._lacks("encode_text")

    def fuse(self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> Tensor:
        """Fuse text tokens (n, length, dim) with image tokens (n, 1 + patches, dim): (n, length, fusion_dim).

        Args:
            text: Text tokens from `encode_text`.
            text_mask: (n, length), bool.
            image: Tokens of whole images or of regions from `encode_image`.
            image_mask: (n, 1 + patches), bool.
        """
        self._lacks("fuse")

    def project_image(self, tokens: Tensor) -> Tensor:
        """Unit-norm embeddings (n, embed_dim) of image tokens (n, 1 + patches, dim)."""
        self._lacks("project_image")

    def project_text(self, tokens: Tensor) -> Tensor:
        """Unit-norm embeddings (n, embed_dim) of text tokens (n, length, dim)."""
        self._lacks("project_text")

    def match_logits(self, fused: Tensor) -> Tensor:
        """Matching logits (n, 2) of fused tokens (n, length, fusion_dim); class 1 is "match"."""
        self._lacks("match_logits")

    def word_logits(self, fused: Tensor) -> Tensor:
        """Vocabulary logits (positions, vocabulary) of fused tokens (positions, fusion_dim)."""
        self._lacks("word_logits")

    def boxes(self, fused: Tensor) -> Tensor:
        """Boxes (cx, cy, w, h) as fractions of the image's size, (n, 4), of fused tokens (n, length, fusion_dim)."""
        self._lacks("boxes")

    def _lacks(self, method: str) -> NoReturn:
        raise TypeError(f"{type(self).__name__}, for {self.name or type(self.host).__name__}, defines no {method}.")


def has(module: Any, path: str) -> bool:
    """Whether the attribute at a dotted path exists and is not None."""
    try:
        return attrgetter(path)(module) is not None
    except AttributeError:
        return False
