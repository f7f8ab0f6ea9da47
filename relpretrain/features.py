"""Features of one step: each computed on first use, and shared by all objectives of the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from relpretrain.distributed import gather_sizes, rank
from relpretrain.types import (
    Backbone,
    Batch,
    CachedFusion,
    Foils,
    GraphBatch,
    ImageFeatures,
    PackedTokens,
    Packing,
    Pairs,
    Regions,
    Teacher,
    TextBatch,
    WantedRegions,
)


def patch_mask(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mask of the patches that a box overlaps; at least one.

    X-VLM's rule: columns floor(x_min / patch) to ceil(x_max / patch), clipped to the grid; rows likewise.

    Args:
        boxes: (cx, cy, w, h) as fractions of the image's size, (n, 4).
        grid: Rows and columns of patches.

    Returns:
        (n, rows * columns), bool, row by row from the top left.
    """
    rows, columns = grid
    cx, cy, w, h = boxes.double().unbind(1)
    in_x, in_y = _inside(cx, w, columns), _inside(cy, h, rows)  # (n, columns), (n, rows)
    return (in_y[:, :, None] & in_x[:, None, :]).flatten(1)


def _inside(centre: Tensor, extent: Tensor, size: int) -> Tensor:
    """Which of `size` columns (or rows) each of n intervals overlaps, (n, size)."""
    # 1e-4: rounding must not carry a box that ends on a patch's border over it.
    low = ((centre - extent / 2) * size + 1e-4).floor().clamp(min=0, max=size - 1)
    high = ((centre + extent / 2) * size - 1e-4).ceil().clamp(max=size).maximum(low + 1)
    place = torch.arange(size, device=centre.device)
    return (place >= low[:, None]) & (place < high[:, None])


def wanted_regions(wanted: Sequence[Pairs], backbone: Backbone) -> WantedRegions | None:
    """The regions of all wanted pairs, one after the other; None if there are none.

    From pairs on the CPU nothing waits for a device: the tables are made there, and move with the batch.
    """
    with_boxes = {id(p): p for p in wanted if p.boxes is not None and len(p)}.values()
    if not with_boxes:
        return None
    index = torch.cat([p.image_index for p in with_boxes])
    mask = torch.cat([patch_mask(p.boxes, backbone.patch_grid) for p in with_boxes if p.boxes is not None])
    if not isinstance(backbone, PackedTokens):
        return WantedRegions(index, mask)
    whole = any(p.boxes is None or len(p) == 0 for p in wanted)  # no pairs are replaced by one of a whole image
    return WantedRegions(index, mask, backbone.pack_regions(mask), whole)


def lay_out(batch: Batch, wanted: Callable[[Batch], Sequence[Pairs]], backbone: Backbone) -> Batch:
    """The batch with the tables that let a backbone with `PackedTokens` leave out hidden tokens.

    Args:
        batch: A batch, best on the CPU: on a device the host waits for it.
        wanted: All pairs of a batch that this step's objectives will view.
        backbone: The model.
    """
    if isinstance(backbone, PackedTokens):
        batch = replace(batch, pairs=_packed(batch.pairs, backbone))
        if batch.foils is not None:
            batch = replace(batch, foils=_packed_foils(batch.foils, backbone))
        if (units := batch.units) is not None:
            foils = _packed_foils(units.foils, backbone)
            batch = replace(batch, units=replace(units, pairs=_packed(units.pairs, backbone), foils=foils))
        if isinstance(batch, GraphBatch):
            batch = replace(batch, entities=_packed(batch.entities, backbone))
    return replace(batch, regions=wanted_regions(wanted(batch), backbone))


def _packed(pairs: Pairs, backbone: PackedTokens) -> Pairs:
    if not len(pairs):
        return pairs
    return replace(pairs, text=replace(pairs.text, packing=backbone.pack_texts(pairs.text.attention_mask)))


def _packed_foils(foils: Foils, backbone: PackedTokens) -> Foils:
    return replace(foils, pairs=_packed(foils.pairs, backbone))


def full_precision(tensor: Tensor) -> torch.autocast:
    """Context without autocast on the tensor's device: similarities and boxes are computed in fp32."""
    return torch.autocast(tensor.device.type, enabled=False)


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


class View:
    """Features of n texts and of the images or regions that they are paired with: the input of ITC, ITM and MLM.

    With n = 0 the embeddings are still connected to the model's parameters, so that collectives and DDP's buckets come
    in the same order on all processes: the model, which may not accept empty tensors, encodes one placeholder pair, of
    which no row is kept.
    """

    def __init__(self, features: Features, pairs: Pairs) -> None:
        self.features = features
        self.backbone = features.backbone
        self.pairs = pairs
        self._encoded = pairs if len(pairs) else _placeholder(features.batch.images.device)

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def image(self) -> tuple[Tensor, Tensor]:
        """Tokens (n, 1 + patches, dim) and mask (n, 1 + patches) of each text's image, or region if it has a box."""
        if self._encoded.boxes is not None:
            return self.features.regions(self.pairs)
        return self.whole_image

    @cached_property
    def whole_image(self) -> tuple[Tensor, Tensor]:
        """Tokens (n, 1 + patches, dim) and mask (n, 1 + patches) of each text's whole image."""
        (tokens, mask), index = self.features.whole_images, self._encoded.image_index
        return tokens[index], mask[index]

    @cached_property
    def text(self) -> Tensor:
        """Text tokens (n, length, dim)."""
        return self.encode_text(self._encoded.text.input_ids)

    @property
    def packing(self) -> tuple[Packing, ...]:
        """The texts' tables as an argument, or none, for a backbone that knows nothing of them or without tables."""
        packing = self._encoded.text.packing
        return () if packing is None or not isinstance(self.backbone, PackedTokens) else (packing,)

    def encode_text(self, ids: Tensor) -> Tensor:
        """Encode the texts, or masked versions of them, (n, length), to tokens (n, length, dim)."""
        return self.backbone.encode_text(ids, self._encoded.text.attention_mask, *self.packing)

    @cached_property
    def image_embedding(self) -> Tensor:
        """Unit-norm embeddings of the images or regions, (n, embed_dim)."""
        boxed = self._encoded.boxes is not None
        tokens = self.features.region_firsts(self.pairs) if boxed else self.image[0]
        return self.backbone.project_image(tokens)[: len(self)]

    @cached_property
    def text_embedding(self) -> Tensor:
        """Unit-norm embeddings of the texts, (n, embed_dim)."""
        return self.backbone.project_text(self.text)[: len(self)]

    @cached_property
    def fused(self) -> Tensor:
        """Text tokens fused with their image or region, (n, length, fusion_dim)."""
        return self.fuse(self.text)[: len(self)]

    def fuse(self, text: Tensor) -> Tensor:
        """Fuse text tokens (n, length, dim), of the texts or of masked versions of them, with each one's image."""
        mask = self._encoded.text.attention_mask
        if isinstance(self.backbone, CachedFusion):
            return self.backbone.fuse_cached(text, mask, *self.image_kv, *self.packing)
        return self.backbone.fuse(text, mask, *self.image)

    def fused_first(self, whole: bool = False) -> Tensor:
        """Text tokens fused with their image or region, (n, 1 or more, fusion_dim), if only [CLS] is used of them.

        Args:
            whole: Whether they are fused with their whole image instead.
        """
        text, mask, backbone = self.text, self._encoded.text.attention_mask, self.backbone
        if not isinstance(backbone, CachedFusion):
            return backbone.fuse(text, mask, *(self.whole_image if whole else self.image))[: len(self)]
        kv = self.whole_image_kv if whole else self.image_kv
        fuse = getattr(backbone, "fuse_first", backbone.fuse_cached)  # a host may lack the faster way
        return fuse(text, mask, *kv, *self.packing)[: len(self)]  # type: ignore[no-any-return]

    @cached_property
    def match_text(self) -> Tensor:
        """What of matching depends on the texts alone, for a backbone with `CachedFusion`: a row for each text."""
        assert isinstance(self.backbone, CachedFusion)
        return self.backbone.precompute_text(self.text, self._encoded.text.attention_mask, *self.packing)

    @cached_property
    def matched(self) -> Tensor:
        """Match logits of the texts with their images or regions, (n, 2)."""
        backbone, mask = self.backbone, self._encoded.text.attention_mask
        if isinstance(backbone, CachedFusion):
            return backbone.match(self.match_text, mask, *self.image_kv, *self.packing)[: len(self)]
        return backbone.match_logits(self.fused)

    @cached_property
    def image_kv(self) -> tuple[tuple[Tensor, ...], Tensor]:
        """Precomputed keys and values of the images or regions, for a backbone with `CachedFusion`, and their mask."""
        return self.whole_image_kv if self._encoded.boxes is None else self.features.region_kv(self.pairs)

    @cached_property
    def whole_image_kv(self) -> tuple[tuple[Tensor, ...], Tensor]:
        """The same of each text's whole image: computed once for an image, however many texts it has."""
        assert isinstance(self.backbone, CachedFusion)
        index = self._encoded.image_index
        if len(index) <= len(
            self.features.whole_images[0]
        ):  # copies of tokens are smaller than those of keys and values
            tokens, mask = self.whole_image
            return self.backbone.precompute_image_kv(tokens), mask
        kv, mask = self.features.image_kv, self.features.whole_images[1]
        return tuple(part[index] for part in kv), mask[index]

    @cached_property
    def sizes(self) -> list[int]:
        """Number of pairs of each process, by rank; a collective call on first use."""
        return gather_sizes(len(self))

    @cached_property
    def image_ids(self) -> Tensor:
        """Identity of each text's image, or of image and box where the box is a part of it, (n,), int64."""
        images = self.features.batch.image_ids[self.pairs.image_index]
        if self.pairs.boxes is None:
            return images
        boxes, ids = (self.pairs.boxes * 4096).round().long(), images
        for column in boxes.unbind(1):
            ids = ids * 1_000_003 + column  # wraps around; a polynomial hash
        return torch.where((boxes[:, 2:] == 4096).all(1), images, ids)

    @cached_property
    def teacher_view(self) -> View | None:
        """The same pairs by the teacher, or None without one."""
        features = self.features.teacher_features
        return None if features is None else features.view(self.pairs)

    @cached_property
    def similarities(self) -> tuple[Tensor, Tensor]:
        """Cosine similarities divided by the temperature within this process, image-to-text and text-to-image, (n, n).

        With a teacher, the columns are the teacher's embeddings, as in the official ALBEF code.
        """
        image, text = self.image_embedding.float(), self.text_embedding.float()
        key_image, key_text = image, text
        if self.teacher_view is not None:
            with torch.no_grad():
                key_image = self.teacher_view.image_embedding.float()
                key_text = self.teacher_view.text_embedding.float()
        temperature = self.backbone.temperature.float()
        with full_precision(image):
            return image @ key_text.T / temperature, text @ key_image.T / temperature


def _placeholder(device: torch.device) -> Pairs:
    """One text (an arbitrary token and padding) with the first image."""
    mask = torch.arange(2, device=device)[None] < 1
    ids = 2 * mask  # made on the device: a copy from the CPU would wait for it
    first = torch.zeros(1, dtype=torch.long, device=device)
    return Pairs(TextBatch(ids, mask), first, first)
