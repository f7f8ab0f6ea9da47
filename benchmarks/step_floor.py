"""The floor of a step: multiplications that no way of computing its losses can do without, given real boxes and texts.

A FLOP is an addition or a multiplication of a matrix product; forward and backward pass. Counted are:

- of an image: all blocks if anything looks at the whole of it, else those before regions part from it;
- of a region: the last blocks, keys and values of [CLS] and the patches that its box touches;
- of a text: its tokens without padding, once as it is and once masked; in the last fusion layer only tokens that are
  read: [CLS] for matching, boxes and relations, the masked ones for words;
- keys and values of the image tokens once for all fusions with them.

The backward pass of a product is two products (one for the patches, whose pixels need no gradient). Nothing is
recomputed. A drawn negative has the mean size of the batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from torch import Tensor

from relpretrain.backbones.presets import ModelConfig
from relpretrain.features import patch_mask
from relpretrain.types import IGNORE, Batch, GraphBatch, Pairs

PARTS = ("images", "keys and values", "texts", "fusion", "heads", "teacher")
"""Images with their regions; heads with the contrastive logits; the teacher with the logits on its queue."""


def floor(
    config: ModelConfig,
    batch: Batch,
    objectives: Sequence[str],
    relations: int,
    queue: int | None = None,
    backward: bool = True,
) -> Counter[str]:
    """FLOPs of a step, by part.

    Args:
        config: Numbers of the model.
        batch: The step's batch, on the CPU.
        objectives: Names of the losses: itc, itm, mlm; vma, box; vsg; mrc.
        relations: Classes of MRC.
        queue: Size of the momentum teacher's queue; None without a teacher.
        backward: Whether to count the backward pass as well.
    """
    return _Floor(config, relations, backward).step(batch, objectives, queue)


class _Floor:
    """Counts products of the forward pass in `done`, each with the factor of its forward and backward pass."""

    def __init__(self, config: ModelConfig, relations: int, backward: bool) -> None:
        self.config = config
        self.relations = relations
        self.patches = config.patch_grid[0] * config.patch_grid[1]
        self.done: Counter[str] = Counter()
        self.backward = backward
        self.times = 3 if backward else 1  # the forward product, and two backward

    def step(self, batch: Batch, objectives: Sequence[str], queue: int | None) -> Counter[str]:
        views: list[tuple[Pairs, bool]] = []  # texts with images or regions: contrasted, matched and unmasked
        if set(objectives) & {"itc", "vma", "vsg"}:
            views.append((batch.pairs, batch.pairs.boxes is not None))
        firsts: list[tuple[Pairs, bool]] = []  # texts of which only [CLS] is used
        if "box" in objectives:
            firsts.append((batch.pairs, False))
        if "mrc" in objectives:
            assert isinstance(batch, GraphBatch)
            firsts.append((batch.entities, True))
        self._images(batch, [*views, *firsts])
        for pairs, regions in views:
            self._view(pairs, regions)
        for pairs, regions in firsts:
            self._first(pairs, regions, encoded=any(pairs is other for other, _ in views))
        if queue is not None and views:
            self._teach(batch, queue)
        if "mrc" in objectives:
            assert isinstance(batch, GraphBatch)
            width = self.config.text_width
            self._linear("heads", len(batch.relations), 2 * width, 4 * width)
            self._linear("heads", len(batch.relations), 4 * width, self.relations)
        return self.done

    # Products.

    def _linear(self, part: str, tokens: float, inputs: int, outputs: int) -> None:
        self.done[part] += round(self.times * 2 * tokens * inputs * outputs)

    def _embed(self, images: int, tokens: int, width: int) -> None:
        """Pixels to patches; pixels have no gradient, so it has one product backward."""
        self.done["images"] += (2 if self.backward else 1) * 2 * images * tokens * 3 * self.config.patch_size**2 * width

    def _attention(self, part: str, pairs: float, width: int) -> None:
        """Scores and weighted values of so many pairs of query and key."""
        self.done[part] += round(self.times * 4 * pairs * width)

    # Images and regions.

    def _images(self, batch: Batch, looked_at: list[tuple[Pairs, bool]]) -> None:
        config, images = self.config, len(batch)
        whole = any(not regions for _, regions in looked_at)
        masks = {id(p): patch_mask(p.boxes, config.patch_grid) for p, own in looked_at if own and p.boxes is not None}
        sizes = [1 + size for mask in masks.values() for size in mask.sum(1).tolist()]
        if config.vision == "swin":
            self._swin(images)
        else:
            width, tokens = config.vision_width, 1 + self.patches
            self._embed(images, self.patches, width)
            assert isinstance(config.vision_depth, int)
            shared = config.vision_depth - config.region_depth * (not whole)
            self._blocks("images", [tokens] * images, shared)
            self._blocks("images", sizes, config.region_depth)
        for regions, total in ((False, images * (1 + self.patches) * whole), (True, sum(sizes))):
            fused = any(own is regions for _, own in looked_at)
            if fused:
                outputs = 2 * config.text_width * config.fusion_layers
                self._linear("keys and values", total, config.vision_width, outputs)

    def _blocks(self, part: str, sizes: list[int], depth: int) -> None:
        width, ratio = self.config.vision_width, self.config.vision_mlp_ratio
        self._linear(part, depth * sum(sizes), width, round((4 + 2 * ratio) * width))
        self._attention(part, depth * sum(size**2 for size in sizes), width)

    def _swin(self, images: int) -> None:
        config = self.config
        assert not isinstance(config.vision_depth, int)
        width = config.vision_width >> (len(config.vision_depth) - 1)
        side = config.image_size // config.patch_size
        self._embed(images, side**2, width)
        for stage, depth in enumerate(config.vision_depth):
            if stage:
                side //= 2
                self._linear("images", images * side**2, 4 * width, 2 * width)
                width *= 2
            tokens, window = images * side**2, min(config.window_size, side)
            self._linear("images", depth * tokens, width, round((4 + 2 * config.vision_mlp_ratio) * width))
            self._attention("images", depth * tokens * window**2, width)

    # Texts.

    def _view(self, pairs: Pairs, regions: bool) -> None:
        """ITC, ITM and MLM."""
        config, n = self.config, len(pairs)
        lengths, keys = self._lengths(pairs), self._keys(pairs, regions)
        self._encode(lengths)
        self._linear("heads", n, config.vision_width, config.embed_dim)
        self._linear("heads", n, config.text_width, config.embed_dim)
        # ITM: the first layer's self-attention is that of the text alone, for all three.
        self._self_attention("fusion", lengths, sum(lengths))
        for _ in range(3):
            self._first_token(lengths, keys)
        # MLM: a masked text, of which the last layer is wanted at masked tokens.
        self._encode(lengths)
        masked = self._masked(pairs)
        self._fuse(lengths, keys, masked)
        self._words(sum(masked))

    def _first(self, pairs: Pairs, regions: bool, encoded: bool) -> None:
        """BOX or MRC."""
        lengths = self._lengths(pairs)
        if not encoded:
            self._encode(lengths)
            self._self_attention("fusion", lengths, sum(lengths))
        self._first_token(lengths, self._keys(pairs, regions))

    def _teach(self, batch: Batch, queue: int) -> None:
        """The teacher's forward pass, and the logits of both on its embeddings and the queue."""
        pairs = batch.pairs
        once = _Floor(self.config, self.relations, backward=False)
        regions = pairs.boxes is not None
        lengths, masked, width = self._lengths(pairs), self._masked(pairs), self.config.embed_dim
        once._images(batch, [(pairs, regions)])
        once._encode(lengths)
        once._encode(lengths)
        once._fuse(lengths, self._keys(pairs, regions), masked)
        once._words(sum(masked))
        # Logits on its embeddings and the queue: its own, and the student's, which go backward to the student alone.
        once._linear("heads", 4 * len(pairs), width, queue + len(pairs))
        self.done["teacher"] = sum(once.done.values()) + self.backward * 2 * 2 * len(pairs) * width * queue

    def _lengths(self, pairs: Pairs) -> list[int]:
        return [int(length) for length in pairs.text.attention_mask.sum(1).tolist()]

    def _masked(self, pairs: Pairs) -> list[int]:
        labels = pairs.text.labels
        assert isinstance(labels, Tensor)
        return [int(number) for number in (labels != IGNORE).sum(1).tolist()]

    def _keys(self, pairs: Pairs, regions: bool) -> list[int]:
        """Image tokens that each text sees."""
        if not regions or pairs.boxes is None:
            return [1 + self.patches] * len(pairs)
        return [1 + size for size in patch_mask(pairs.boxes, self.config.patch_grid).sum(1).tolist()]

    def _encode(self, lengths: list[int]) -> None:
        config = self.config
        for _ in range(config.text_layers):
            self._self_attention("texts", lengths, sum(lengths))
            self._linear("texts", 2 * sum(lengths), config.text_width, config.text_ffn)

    def _self_attention(self, part: str, lengths: list[int], queries: float, pairs: float | None = None) -> None:
        width = self.config.text_width
        self._linear(part, sum(lengths), width, 2 * width)
        self._linear(part, queries, width, 2 * width)
        self._attention(part, sum(length**2 for length in lengths) if pairs is None else pairs, width)

    def _finish(self, queries: float, pairs: float) -> None:
        """Cross-attention and the feed-forward network of a fusion layer."""
        width = self.config.text_width
        self._linear("fusion", queries, width, 2 * width)
        self._attention("fusion", pairs, width)
        self._linear("fusion", 2 * queries, width, self.config.text_ffn)

    def _first_token(self, lengths: list[int], keys: list[int]) -> None:
        """All layers but the first self-attention, which is done, with [CLS] alone in the last."""
        n, tokens, seen = len(lengths), sum(lengths), sum(a * b for a, b in zip(lengths, keys, strict=True))
        last = self.config.fusion_layers - 1
        if last == 0:
            self._finish(n, sum(keys))
            return
        self._finish(tokens, seen)
        for _ in range(1, last):
            self._self_attention("fusion", lengths, tokens)
            self._finish(tokens, seen)
        self._self_attention("fusion", lengths, n, tokens)
        self._finish(n, sum(keys))

    def _fuse(self, lengths: list[int], keys: list[int], read: list[int]) -> None:
        """All layers, the last one at `read` tokens of each text."""
        tokens, seen = sum(lengths), sum(a * b for a, b in zip(lengths, keys, strict=True))
        for _ in range(self.config.fusion_layers - 1):
            self._self_attention("fusion", lengths, tokens)
            self._finish(tokens, seen)
        self._self_attention("fusion", lengths, sum(read), sum(a * b for a, b in zip(read, lengths, strict=True)))
        self._finish(sum(read), sum(a * b for a, b in zip(read, keys, strict=True)))

    def _words(self, masked: int) -> None:
        self._linear("heads", masked, self.config.text_width, self.config.text_width)
        self._linear("heads", masked, self.config.text_width, self.config.vocab_size)
