"""A few linear layers that satisfy the Backbone protocol, and batches for them."""

import dataclasses

import torch
from torch import Tensor, nn

from relpretrain.types import (
    CaptionBatch,
    Foils,
    GraphBatch,
    ImageFeatures,
    Pairs,
    RegionBatch,
    Regions,
    TextBatch,
    Units,
)

WORDS, WIDTH, GRID, SIDE = 20, 8, (2, 2), 4


def refuse_nothing(tensor: Tensor) -> None:
    """As real models do, which reshape by -1."""
    if tensor.numel() == 0:
        raise RuntimeError(f"cannot reshape tensor of 0 elements, of shape {tuple(tensor.shape)}")


class StandIn(nn.Module):
    """Patches are averaged where visible; text tokens see their own sum and the image's. Empty tensors are refused."""

    fusion_dim = WIDTH
    patch_grid = GRID

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.patch = nn.Linear(3 * 4, WIDTH)
        self.words = nn.Embedding(WORDS, WIDTH)
        self.text_layer = nn.Linear(WIDTH, WIDTH)
        self.fusion = nn.Linear(2 * WIDTH, WIDTH)
        self.image_head, self.text_head = nn.Linear(WIDTH, 6), nn.Linear(WIDTH, 6)
        self.itm_head, self.mlm_head, self.box_head = (nn.Linear(WIDTH, k) for k in (2, WORDS, 4))
        self.log_temperature = nn.Parameter(torch.tensor(-1.0))
        self.image_calls: list[int] = []

    @property
    def temperature(self) -> Tensor:
        return self.log_temperature.exp()

    def encode_image(self, images: Tensor, regions: Regions | None = None) -> ImageFeatures:
        self.image_calls.append(len(images))
        refuse_nothing(images)
        patches = images.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        patches = torch.tanh(self.patch(patches))  # (batch, patches, dim)
        tokens = torch.cat([patches.mean(1, keepdim=True), patches], dim=1)
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool)
        if regions is None:
            return ImageFeatures(tokens, mask)
        refuse_nothing(regions.image_index)
        own, visible = patches[regions.image_index], regions.patch_mask[..., None]
        first = (own * visible).sum(1, keepdim=True) / visible.sum(1, keepdim=True)
        region_mask = torch.cat([torch.ones(len(own), 1, dtype=torch.bool), regions.patch_mask], dim=1)
        return ImageFeatures(tokens, mask, torch.cat([first, own], dim=1), region_mask)

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        refuse_nothing(ids)
        words = self.words(ids)
        weight = mask[..., None] / mask.sum(1)[:, None, None]
        return torch.tanh(self.text_layer(words + (words * weight).sum(1, keepdim=True)))

    def fuse(self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> Tensor:
        refuse_nothing(text)
        weight = image_mask[..., None] / image_mask.sum(1)[:, None, None]
        seen = (image * weight).sum(1, keepdim=True).expand(-1, text.shape[1], -1)
        return torch.tanh(self.fusion(torch.cat([text * seen, text + seen], dim=-1)))

    def project_image(self, tokens: Tensor) -> Tensor:
        return nn.functional.normalize(self.image_head(tokens[:, 0]), dim=-1)

    def project_text(self, tokens: Tensor) -> Tensor:
        return nn.functional.normalize(self.text_head(tokens[:, 0]), dim=-1)

    def match_logits(self, fused: Tensor) -> Tensor:
        return self.itm_head(fused[:, 0])

    def word_logits(self, fused: Tensor) -> Tensor:
        return self.mlm_head(fused)

    def boxes(self, fused: Tensor) -> Tensor:
        return self.box_head(fused[:, 0]).sigmoid()


def texts(n: int, length: int = 6, seed: int = 0) -> TextBatch:
    """Texts whose second token is masked."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, WORDS, (n, length), generator=generator)
    lengths = torch.randint(3, length + 1, (n, 1), generator=generator)
    mask = torch.arange(length) < lengths
    ids = ids * mask
    labels = torch.full_like(ids, -100)
    labels[:, 1] = ids[:, 1]
    masked = ids.clone()
    masked[:, 1] = 2
    return TextBatch(ids, mask, masked, labels)


def images(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed + 100))


def captions(n: int = 5, seed: int = 0) -> CaptionBatch:
    pairs = Pairs(texts(n, seed=seed), torch.arange(n), torch.arange(n) + 1000)
    return CaptionBatch(images=images(n, seed), image_ids=torch.arange(n) + 10 * seed, pairs=pairs)


BOXES = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.75, 0.5, 0.5, 1.0], [0.5, 0.75, 1.0, 0.5]])


def regions(n: int = 4, seed: int = 0) -> RegionBatch:
    pairs = Pairs(texts(n, seed=seed), torch.arange(n) % 2, torch.arange(n), BOXES[:n])
    return RegionBatch(images=images(2, seed), image_ids=torch.tensor([5, 6]), pairs=pairs)


def graphs(seed: int = 0, relations: tuple[str, ...] = ("on", "under", "unheard of")) -> GraphBatch:
    """Two images of two entities each; without triplets there are no entities, as in batches of the data module."""
    n = 4 if relations else 0
    entities = Pairs(texts(n, seed=seed + 1), torch.tensor([0, 0, 1, 1])[:n], torch.arange(n), BOXES[:n])
    pairs = Pairs(texts(2, seed=seed), torch.arange(2), torch.arange(2))
    subjects = torch.tensor([0, 2, 1])[: len(relations)]
    objects = torch.tensor([1, 3, 0])[: len(relations)]
    return GraphBatch(
        images=images(2, seed),
        image_ids=torch.tensor([1, 2]),
        pairs=pairs,
        entities=entities,
        subjects=subjects,
        objects=objects,
        relations=relations,
    )


def with_foils(batch, of: tuple[int, ...] = (0, 0, 2), kinds: tuple[int, ...] = (0, 1, 1), seed: int = 7):
    """The batch with foils of some of its pairs: each another text of the same image."""
    rows = torch.tensor(of, dtype=torch.long)
    slot = torch.tensor([of[:i].count(row) for i, row in enumerate(of)], dtype=torch.long)
    pairs = Pairs(texts(len(of), seed=seed), batch.pairs.image_index[rows], torch.arange(len(of)) + 5000)
    foils = Foils(pairs, rows, slot, torch.tensor(kinds, dtype=torch.long), width=2)
    return dataclasses.replace(batch, foils=foils)


def with_units(batch, per_image: tuple[int, ...] = (2, 3, 1, 0), foils_of: tuple[int, ...] = (0, 2, 3), seed: int = 9):
    """The batch with some units of each image, and foils of some of these."""
    index = torch.tensor([i for i, count in enumerate(per_image) for _ in range(count)], dtype=torch.long)
    slot = torch.tensor([k for count in per_image for k in range(count)], dtype=torch.long)
    pairs = Pairs(texts(len(index), seed=seed), index, torch.arange(len(index)) + 7000)
    of = torch.tensor(foils_of, dtype=torch.long)
    false = Pairs(texts(len(of), seed=seed + 1), index[of], torch.arange(len(of)) + 8000)
    foils = Foils(false, of, torch.zeros_like(of), torch.zeros_like(of))
    return dataclasses.replace(batch, units=Units(pairs, slot, foils))
