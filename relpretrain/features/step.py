"""Features of one step: each computed on first use, and shared by all objectives of the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from relpretrain.distributed import rank
from relpretrain.features.regions import wanted_regions
from relpretrain.features.view import View
from relpretrain.types import (
    Backbone,
    Batch,
    CachedFusion,
    ImageFeatures,
    PackedTokens,
    Packing,
    Pairs,
    Regions,
    Teacher,
    WantedRegions,
)


def step_generator(seed: int, step: int) -> torch.Generator:
    """CPU generator for a step's random choices on this process, a function of (seed, step, rank)."""
    mixed = (seed * 1_000_003 + step) * 1_000_003 + rank()
    return torch.Generator().manual_seed(mixed % 2**63)


class Features:
    """Features of a batch, computed on first use and cached for all objectives of the step.

    Args:
        backbone: The model.
        batch: The step's batch.
        wanted: All pairs that this step's objectives will view: their regions are encoded in one pass with the images.
            If all of them have boxes, whole images may be left out, and are encoded when they are looked at after all.
            `batch.regions`, if given, are theirs.
        generator: CPU generator of the step's random choices (hard negatives).
        teacher: Momentum teacher for distillation, or None.
    """

    def __init__(
        self,
        backbone: Backbone,
        batch: Batch,
        wanted: Sequence[Pairs],
        generator: torch.Generator | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        self.backbone = backbone
        self.batch = batch
        self.generator = generator
        self.teacher = teacher
        self._wanted = list(wanted)
        self._regions = {id(p): p for p in wanted if p.boxes is not None and len(p)}
        self._views: dict[int, View] = {}

    def view(self, pairs: Pairs) -> View:
        """Features of the given pairs: texts, and the images or regions that they belong to."""
        if id(pairs) not in self._views:
            self._views[id(pairs)] = View(self, pairs)
        return self._views[id(pairs)]

    def release(self) -> None:
        """Forget the views, so that all that a step encoded is freed with its last user.

        Views know their features: the batch and its features would else stay until the garbage collector comes by.
        """
        self._views.clear()
        if (teacher := self.__dict__.get("teacher_features")) is not None:  # if it was asked for
            teacher.release()

    @cached_property
    def pixels(self) -> Tensor:
        """The images as the model takes them, (batch, 3, height, width)."""
        return self.batch.model_images()

    @cached_property
    def images(self) -> ImageFeatures:
        """Encode the batch's images and all regions wanted in this step (a blank image if the batch is empty)."""
        wanted = self._wanted_regions
        if wanted is None:
            return self.backbone.encode_image(self._pixels)
        regions = Regions(wanted.image_index, wanted.patch_mask)
        if wanted.packing is None or not isinstance(self.backbone, PackedTokens):
            return self.backbone.encode_image(self._pixels, regions)
        return self.backbone.encode_visible(self._pixels, regions, wanted.packing, wanted.whole)

    @property
    def _pixels(self) -> Tensor:
        images = self.pixels
        return images if len(images) else images.new_zeros(1, *images.shape[1:])

    @cached_property
    def _wanted_regions(self) -> WantedRegions | None:
        return self.batch.regions or wanted_regions(self._wanted, self.backbone)

    @property
    def _packing(self) -> Packing | None:
        wanted = self._wanted_regions
        return wanted.packing if wanted is not None and isinstance(self.backbone, PackedTokens) else None

    @property
    def zero(self) -> Tensor:
        """A zero that depends on the model's parameters: the loss of a process whose part of the batch is empty."""
        return self.images.tokens[:0].float().sum()

    def regions(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Tokens (n, 1 + patches, dim) and mask (n, 1 + patches) of the regions of `pairs`.

        Of a backbone with `PackedTokens` the rows hold the visible tokens alone, and are as long as the longest needs.

        Raises:
            ValueError: If the pairs were not among those wanted, or the backbone encoded no regions.
        """
        own = self._rows(pairs)
        tokens, mask = self._region_tokens
        return tokens[own], mask[own]

    def region_firsts(self, pairs: Pairs) -> Tensor:
        """Token 0 of the regions of `pairs`, (n, 1, dim); of a backbone without `PackedTokens`, all tokens."""
        own, packing, tokens = self._rows(pairs), self._packing, self.images.region_tokens
        if packing is None or tokens is None:
            return self.regions(pairs)[0]
        return tokens.index_select(0, packing.first[own])[:, None]

    def region_kv(self, pairs: Pairs) -> tuple[tuple[Tensor, ...], Tensor]:
        """Keys and values of the regions of `pairs`, as `precompute_image_kv` gives them, and their mask."""
        own = self._rows(pairs)
        return tuple(part[own] for part in self._region_kv), self._region_tokens_mask[own]

    @cached_property
    def image_kv(self) -> tuple[Tensor, ...]:
        """Precomputed cross-attention keys and values of the batch's images, for a backbone with `CachedFusion`."""
        assert isinstance(self.backbone, CachedFusion)
        return self.backbone.precompute_image_kv(self.whole_images[0])

    @cached_property
    def whole_images(self) -> tuple[Tensor, Tensor]:
        """Tokens (batch, 1 + patches, dim) and mask of the batch's whole images."""
        images = self.images
        if len(images.tokens) == 0:  # they were not wanted
            images = self.backbone.encode_image(self._pixels)
        return images.tokens, images.mask

    @cached_property
    def _region_tokens(self) -> tuple[Tensor, Tensor]:
        """Tokens of all regions as rows (regions, length, dim), and their mask."""
        tokens, packing = self.images.region_tokens, self._packing
        assert tokens is not None
        return tokens if packing is None else packing.pad(tokens), self._region_tokens_mask

    @property
    def _region_tokens_mask(self) -> Tensor:
        assert self.images.region_mask is not None
        return self.images.region_mask

    @cached_property
    def _region_kv(self) -> tuple[Tensor, ...]:
        """Keys and values of all regions: computed for visible tokens, laid flat, and padded to rows."""
        assert isinstance(self.backbone, CachedFusion)
        tokens, packing = self.images.region_tokens, self._packing
        assert tokens is not None
        if packing is None:
            return self.backbone.precompute_image_kv(tokens)
        return tuple(packing.pad(part[0]) for part in self.backbone.precompute_image_kv(tokens[None]))

    def _rows(self, pairs: Pairs) -> slice:
        """Which of the encoded regions are those of `pairs`."""
        if id(pairs) not in self._regions:
            raise ValueError(
                "These regions were not announced: an objective must name the pairs it views in `Objective.views`."
            )
        if self.images.region_tokens is None or self.images.region_mask is None:
            raise ValueError(f"{type(self.backbone).__name__}.encode_image returned no region tokens.")
        start = 0
        for key, other in self._regions.items():
            if key == id(pairs):
                break
            start += len(other)
        return slice(start, start + len(pairs))

    @cached_property
    def teacher_features(self) -> Features | None:
        """Features of the same batch by the teacher; of regions, only those of `batch.pairs`, which are distilled."""
        if self.teacher is None:
            return None
        taught, wanted = self.batch.pairs, self._wanted_regions
        # The teacher has the student's regions if these are its own as well, and looks at nothing else.
        same = list(self._regions) == [id(taught)] and wanted is not None
        regions = replace(wanted, whole=False) if wanted is not None and same else None
        batch = replace(self.batch, images=self.pixels, normalisation=None, regions=regions)  # normalised once for both
        return Features(self.teacher.model, batch, [taught])
