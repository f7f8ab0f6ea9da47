"""Features of one step: each computed on first use, and shared by all objectives of the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from relpretrain.distributed import gather_sizes, rank
from relpretrain.types import Backbone, Batch, CachedFusion, ImageFeatures, Pairs, Regions, Teacher, TextBatch


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
        self._regions = {id(p): p for p in wanted if p.boxes is not None and len(p)}
        self._views: dict[int, View] = {}

    def view(self, pairs: Pairs) -> View:
        """Features of the given pairs: texts, and the images or regions that they belong to."""
        if id(pairs) not in self._views:
            self._views[id(pairs)] = View(self, pairs)
        return self._views[id(pairs)]

    @cached_property
    def pixels(self) -> Tensor:
        """The images as the model takes them, (batch, 3, height, width)."""
        return self.batch.model_images()

    @cached_property
    def images(self) -> ImageFeatures:
        """Encode the batch's images and all regions wanted in this step (a blank image if the batch is empty)."""
        images = self.pixels
        if len(images) == 0:
            images = images.new_zeros(1, *images.shape[1:])
        if not self._regions:
            return self.backbone.encode_image(images)
        # The regions of all wanted pairs, one after the other: image of each (regions,), mask (regions, patches).
        regions = list(self._regions.values())
        index = torch.cat([p.image_index for p in regions])
        masks = [patch_mask(p.boxes, self.backbone.patch_grid) for p in regions if p.boxes is not None]
        return self.backbone.encode_image(images, Regions(index, torch.cat(masks)))

    @property
    def zero(self) -> Tensor:
        """A zero that depends on the model's parameters: the loss of a process whose part of the batch is empty."""
        return self.images.tokens[:0].float().sum()

    def regions(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Tokens (n, 1 + patches, dim) and mask (n, 1 + patches) of the regions of `pairs`.

        Raises:
            ValueError: If the pairs were not among those wanted, or the backbone encoded no regions.
        """
        if id(pairs) not in self._regions:
            raise ValueError(
                "These regions were not announced: an objective must name the pairs it views in `Objective.views`."
            )
        start = 0
        for key, other in self._regions.items():
            if key == id(pairs):
                break
            start += len(other)
        tokens, mask = self.images.region_tokens, self.images.region_mask
        if tokens is None or mask is None:
            raise ValueError(f"{type(self.backbone).__name__}.encode_image returned no region tokens.")
        return tokens[start : start + len(pairs)], mask[start : start + len(pairs)]

    @cached_property
    def teacher_features(self) -> Features | None:
        """Features of the same batch by the teacher; of regions, only those of `batch.pairs`, which are distilled."""
        if self.teacher is None:
            return None
        batch = replace(self.batch, images=self.pixels, normalisation=None)  # normalised once for both
        return Features(self.teacher.model, batch, [p for p in self._regions.values() if p is self.batch.pairs])


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
        images, index = self.features.images, self._encoded.image_index
        return images.tokens[index], images.mask[index]

    @cached_property
    def text(self) -> Tensor:
        """Text tokens (n, length, dim)."""
        return self.backbone.encode_text(self._encoded.text.input_ids, self._encoded.text.attention_mask)

    @cached_property
    def image_embedding(self) -> Tensor:
        """Unit-norm embeddings of the images or regions, (n, embed_dim)."""
        return self.backbone.project_image(self.image[0])[: len(self)]

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
        mask, (image, image_mask) = self._encoded.text.attention_mask, self.image
        if isinstance(self.backbone, CachedFusion):
            return self.backbone.fuse_cached(text, mask, self.image_kv, image_mask)
        return self.backbone.fuse(text, mask, image, image_mask)

    @cached_property
    def image_kv(self) -> tuple[Tensor, ...]:
        """Precomputed cross-attention keys and values of the images, for a backbone with `CachedFusion`."""
        assert isinstance(self.backbone, CachedFusion)
        return self.backbone.precompute_image_kv(self.image[0])

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
