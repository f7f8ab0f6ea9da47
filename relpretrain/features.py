"""Features of one step: each computed on first use, and shared by all objectives of the step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from relpretrain.distributed import gather_sizes, rank
from relpretrain.types import Backbone, Batch, CachedFusion, ImageFeatures, Pairs, Regions, Teacher, TextBatch


def patch_mask(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Which patches a box touches; at least one.

    X-VLM's rule: columns floor(x_min / patch) to ceil(x_max / patch), kept inside the grid; rows likewise.

    Args:
        boxes: (cx, cy, w, h) as shares of the image, (n, 4).
        grid: Rows and columns of patches.

    Returns:
        (n, rows * columns), bool, row by row from the top left.
    """
    rows, columns = grid
    centre, half = boxes[:, :2].double(), boxes[:, 2:].double() / 2
    size = boxes.new_tensor([columns, rows], dtype=torch.float64)
    # Boxes that end on a patch border must not spill over it by rounding.
    low = ((centre - half) * size + 1e-4).floor().clamp(min=0).minimum(size - 1)
    high = ((centre + half) * size - 1e-4).ceil().minimum(size).maximum(low + 1)
    x, y = torch.arange(columns, device=boxes.device), torch.arange(rows, device=boxes.device)
    in_x = (x >= low[:, :1]) & (x < high[:, :1])  # (n, columns)
    in_y = (y >= low[:, 1:]) & (y < high[:, 1:])  # (n, rows)
    return (in_y[:, :, None] & in_x[:, None, :]).flatten(1)


def full_precision(tensor: Tensor) -> torch.autocast:
    """A context in which similarities and boxes are computed in fp32, whatever the precision around it."""
    return torch.autocast(tensor.device.type, enabled=False)


def step_generator(seed: int, step: int) -> torch.Generator:
    """CPU generator for the random choices of a step on this process, the same whenever the step is repeated."""
    mixed = (seed * 1_000_003 + step) * 1_000_003 + rank()
    return torch.Generator().manual_seed(mixed % 2**63)


class Features:
    """Lazy features of a batch under a backbone.

    Args:
        backbone: The model.
        batch: What the step trains on.
        wanted: The pairs that objectives of this step will view; their regions are encoded in one pass with the images.
        generator: Where random choices of this step (negatives) are drawn from, on the CPU.
        teacher: Momentum copy for distillation, or None.
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
        """The features of texts and of the images or regions that they are paired with."""
        if id(pairs) not in self._views:
            self._views[id(pairs)] = View(self, pairs)
        return self._views[id(pairs)]

    @cached_property
    def images(self) -> ImageFeatures:
        """Tokens of the batch's images and of all regions wanted in this step; of a blank image if there are none."""
        images = self.batch.images
        if len(images) == 0:
            images = images.new_zeros(1, *images.shape[1:])
        if not self._regions:
            return self.backbone.encode_image(images)
        regions = list(self._regions.values())
        index = torch.cat([p.image_index for p in regions])
        masks = [patch_mask(p.boxes, self.backbone.patch_grid) for p in regions if p.boxes is not None]
        return self.backbone.encode_image(images, Regions(index, torch.cat(masks)))

    @property
    def zero(self) -> Tensor:
        """A zero in the model's graph: the loss of a share of the batch that has nothing for it."""
        return self.images.tokens[:0].float().sum()

    def regions(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Tokens (n, 1 + patches, dim) and mask (n, 1 + patches) of the regions of `pairs`."""
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
        """The same batch under the teacher's model: of regions only the batch's own pairs, which are distilled."""
        if self.teacher is None:
            return None
        return Features(self.teacher.model, self.batch, [p for p in self._regions.values() if p is self.batch.pairs])


class View:
    """Texts paired with images or regions, as the backbone sees them: what ITC, ITM and MLM run on.

    n is the number of pairs. With n = 0 the embeddings are still part of the model's graph, so that collectives and
    DDP's buckets come in the same order on all processes: the model, which may not take empty tensors, is shown one
    stand-in row, and none of it is kept.
    """

    def __init__(self, features: Features, pairs: Pairs) -> None:
        self.features = features
        self.backbone = features.backbone
        self.pairs = pairs
        self._shown = pairs if len(pairs) else _stand_in(features.batch.images.device)

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def image(self) -> tuple[Tensor, Tensor]:
        """Image tokens (n, 1 + patches, dim) and mask (n, 1 + patches), regions visually masked."""
        if self._shown.boxes is not None:
            return self.features.regions(self.pairs)
        return self.whole_image

    @cached_property
    def whole_image(self) -> tuple[Tensor, Tensor]:
        """Tokens and mask of each pair's whole image."""
        images, index = self.features.images, self._shown.image_index
        return images.tokens[index], images.mask[index]

    @cached_property
    def text(self) -> Tensor:
        """Text tokens (n, length, dim)."""
        return self.backbone.encode_text(self._shown.text.input_ids, self._shown.text.attention_mask)

    @cached_property
    def image_embedding(self) -> Tensor:
        """Unit vectors of the images (n, embed_dim)."""
        return self.backbone.project_image(self.image[0])[: len(self)]

    @cached_property
    def text_embedding(self) -> Tensor:
        """Unit vectors of the texts (n, embed_dim)."""
        return self.backbone.project_text(self.text)[: len(self)]

    @cached_property
    def fused(self) -> Tensor:
        """Text tokens fused with their own image (n, length, fusion_dim)."""
        return self.fuse(self.text)[: len(self)]

    def fuse(self, text: Tensor) -> Tensor:
        """Fuse tokens of the texts, or of other words in their places, (n, length, dim) with the image of each."""
        mask, (image, image_mask) = self._shown.text.attention_mask, self.image
        if isinstance(self.backbone, CachedFusion):
            return self.backbone.fuse_cached(text, mask, self.begun_image, image_mask)
        return self.backbone.fuse(text, mask, image, image_mask)

    @cached_property
    def begun_image(self) -> tuple[Tensor, ...]:
        """The images' part of fusion, for a backbone that has `CachedFusion`."""
        assert isinstance(self.backbone, CachedFusion)
        return self.backbone.precompute_image_kv(self.image[0])

    @cached_property
    def sizes(self) -> list[int]:
        """Number of pairs of each process, by rank. A collective call at first use."""
        return gather_sizes(len(self), self.pairs.text_keys.device)

    @cached_property
    def image_ids(self) -> Tensor:
        """Identity of what each text is paired with, (n,): the image, or the image together with the box."""
        ids = self.features.batch.image_ids[self.pairs.image_index]
        if self.pairs.boxes is None:
            return ids
        corners = (self.pairs.boxes * 4096).round().long()
        for column in corners.unbind(1):
            ids = ids * 1_000_003 + column  # wraps around; a polynomial hash
        return ids

    @cached_property
    def teacher_view(self) -> View | None:
        """The same pairs under the teacher, without gradient; None without one."""
        features = self.features.teacher_features
        return None if features is None else features.view(self.pairs)

    @cached_property
    def similarities(self) -> tuple[Tensor, Tensor]:
        """Cosines over temperature inside this process, images to texts and texts to images, (n, n) each.

        With a teacher the other side is the teacher's, as in the official ALBEF code.
        """
        image, text = self.image_embedding.float(), self.text_embedding.float()
        other_image, other_text = image, text
        if self.teacher_view is not None:
            with torch.no_grad():
                other_image, other_text = (
                    self.teacher_view.image_embedding.float(),
                    self.teacher_view.text_embedding.float(),
                )
        temperature = self.backbone.temperature.float()
        with full_precision(image):
            return image @ other_text.T / temperature, text @ other_image.T / temperature


def _stand_in(device: torch.device) -> Pairs:
    """One text, an unimportant word and padding, with the first image."""
    ids, mask = torch.tensor([[2, 0]], device=device), torch.tensor([[True, False]], device=device)
    first = torch.zeros(1, dtype=torch.long, device=device)
    return Pairs(TextBatch(ids, mask), first, first)
