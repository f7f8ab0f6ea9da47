"""What every adapter is: a model of another codebase, seen as a `Backbone`."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, ClassVar, NoReturn

from torch import Tensor, nn

from relpretrain.types import ImageFeatures, Regions


class HostAdapter:
    """A model that somebody else wrote (the host), seen as a `relpretrain.types.Backbone`.

    A subclass names the host's attributes in `needs`, says in `provides` what it can serve, and writes the methods of
    that. It calls the host's own modules and imports nothing of the host's package. It is no `nn.Module` and keeps
    nothing but the host: it is made anew wherever it is needed, so copies, moves and loaded weights of the host are
    always the ones that are used, and no key of its state dict changes.

    Parts of `provides`, and the methods that each takes beside `encode_image` and `encode_text`:

    - "contrast": `project_image`, `project_text`, `temperature`;
    - "matching": `fuse`, `match_logits`;
    - "words": `fuse`, `word_logits`, which predict masked words;
    - "regions": `fuse`, `fusion_dim`, `patch_grid`, and `encode_image` with regions. `fuse(...)[:, 0]` then stands for
      a region together with its label; a host without cross-attention may join the two in another way;
    - "boxes": `fuse`, `boxes`.

    Args:
        host: The module that was recognised.
    """

    name: ClassVar[str] = ""
    """What the host is called in messages, such as "ALBEF of salesforce/ALBEF"."""
    needs: ClassVar[Mapping[str, str]] = {}
    """Attributes by which a host is recognised, and what each is: {"visual_encoder.blocks": "image encoder"}."""
    note: ClassVar[str] = ""
    """Anything that a user should know of how the host is served, told once; one sentence, or empty."""
    provides: frozenset[str] = frozenset()
    """What this host can serve; set on the class, or in `__init__` where it depends on the host."""

    def __init__(self, host: Any) -> None:
        self.host = host

    @classmethod
    def missing(cls, module: nn.Module) -> list[str]:
        """What the module lacks to be such a host: attributes, each with what it is; none if it is one."""
        return [f"{path} ({what})" for path, what in cls.needs.items() if not has(module, path)]

    @classmethod
    def recognises(cls, module: nn.Module) -> bool:
        """True if the module is such a host, judged by its attributes."""
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
        """Encode (batch, 3, height, width) once, and the regions out of the same pass.

        Args:
            images: Normalised images.
            regions: Asked for only where "regions" is provided. Their `patch_mask` is bool, (regions, patches).

        Returns:
            Tokens whose index 0 stands for the whole image or region, and bool masks of the tokens that may be seen.
        """
        self._lacks("encode_image")

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode (n, length) ids to (n, length, dim).

        Args:
            ids: Ids of the host's own tokenizer, padded as it pads: on the right, with few exceptions.
            mask: True at real tokens, (n, length), bool.

        Returns:
            Tokens whose index 0 stands for the whole text: a host that pools elsewhere (at the end of the text) puts
            that token first. Where nothing is fused, (n, 1, dim) is enough.
        """
        self._lacks("encode_text")

    def fuse(self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> Tensor:
        """Let text tokens (n, length, dim) attend to image tokens (n, 1 + patches, dim): (n, length, fusion_dim).

        Args:
            text: From `encode_text`.
            text_mask: (n, length), bool.
            image: From `encode_image`, of whole images or of regions.
            image_mask: (n, 1 + patches), bool.
        """
        self._lacks("fuse")

    def project_image(self, tokens: Tensor) -> Tensor:
        """Unit vectors (n, embed_dim) of image tokens (n, 1 + patches, dim)."""
        self._lacks("project_image")

    def project_text(self, tokens: Tensor) -> Tensor:
        """Unit vectors (n, embed_dim) of text tokens (n, length, dim)."""
        self._lacks("project_text")

    def match_logits(self, fused: Tensor) -> Tensor:
        """(n, 2) logits of fused tokens (n, length, fusion_dim); index 1 means that the pair matches."""
        self._lacks("match_logits")

    def word_logits(self, fused: Tensor) -> Tensor:
        """Vocabulary logits (positions, vocabulary) of fused tokens at those positions (positions, fusion_dim)."""
        self._lacks("word_logits")

    def boxes(self, fused: Tensor) -> Tensor:
        """(cx, cy, w, h) as shares of the image, (n, 4), of fused tokens (n, length, fusion_dim)."""
        self._lacks("boxes")

    def _lacks(self, method: str) -> NoReturn:
        raise TypeError(f"{type(self).__name__}, for {self.name or type(self.host).__name__}, defines no {method}.")


def has(module: Any, path: str) -> bool:
    """True if the attribute at a dotted path exists and is not None."""
    try:
        return attrgetter(path)(module) is not None
    except AttributeError:
        return False
