"""Batches for `benchmarks/step.py`: of real images, or made up with boxes and texts of realistic sizes."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from relpretrain.cli import main as relpretrain
from relpretrain.data.datamodule import RelationDataModule
from relpretrain.data.sampling.stream import Stream
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.types import Batch, CaptionBatch, GraphBatch, Pairs, RegionBatch, TextBatch

STREAMS: dict[str, dict[str, Any]] = {
    "captions": {"kind": "captions", "max_tokens": 36},
    "regions": {"kind": "regions", "max_tokens": 36, "entities_per_image": 4},
    "mrc": {"kind": "graphs", "max_tokens": 112},
    "vsg": {"kind": "graphs", "max_tokens": 112},
}
"""The paper's streams (Table 4), as in `recipes/rex_vlm.yaml`."""

OBJECTIVES = {"captions": ("itc", "itm", "mlm"), "regions": ("vma", "box"), "mrc": ("mrc",), "vsg": ("vsg",)}


def real_batches(
    data: Path, folder: Path, image_size: int, sizes: dict[str, int], number: int, **settings: Any
) -> tuple[dict[str, list[Batch]], list[str]]:
    """Batches of COCO and VRD, on the way of the data that training takes, and VRD's relations.

    Args:
        data: Folder with `coco_mini` and `vrd` (annotations as published) and `bert/vocab.txt`.
        folder: For the shards that are made of them, which are used again if they are there.
        image_size: Of the model.
        sizes: Images of a batch, by stream.
        number: Batches of each stream.
        settings: Of the streams, in the place of those in `STREAMS`.
    """
    coco, vrd = data / "coco_mini", data / "vrd"
    orders: dict[str, dict[str, Any]] = {
        "coco": {
            "images": coco / "train2017",
            "captions": coco / "annotations/captions_train2017.json",
            "instances": coco / "annotations/instances_train2017.json",
        },
        "vrd": {"images": vrd / "images", "annotations": vrd / "annotations_test.json"},
    }
    for name, order in orders.items():
        if not (folder / name).exists():
            with contextlib.redirect_stdout(io.StringIO()):
                order |= {"out": folder / name, "workers": 1}
                if relpretrain(["data", "convert", name, *(f"--{key}={value}" for key, value in order.items())]):
                    raise SystemExit(f"{data} has no {name} that can be read: give a folder with coco_mini and vrd")
    owner = {"captions": "coco", "regions": "coco", "mrc": "vrd", "vsg": "vrd"}
    streams = {
        name: Stream(
            datasets={owner[name]: str(folder / owner[name])},
            batch_size=sizes[name],
            objectives=list(OBJECTIVES[name]),
            relations_per_text=8 if name == "vsg" else None,
            relations_per_image=2 if name == "mrc" else None,
            **own | settings,
        )
        for name, own in STREAMS.items()
        if name in sizes
    }
    module = RelationDataModule(streams, str(data / "bert"), image_size)
    with contextlib.redirect_stdout(io.StringIO()):
        module.setup("fit")
    found: dict[str, list[Batch]] = {name: [] for name in streams}
    for batch in module.train_dataloader():
        if len(found[batch.stream]) < number:
            found[batch.stream].append(batch)
        if all(len(batches) == number for batches in found.values()):
            break
    return found, list(RelationVocabulary.load(str(folder / "vrd" / "relations.json")).names)


def made_batches(
    image_size: int, sizes: dict[str, int], number: int, vocabulary: int
) -> tuple[dict[str, list[Batch]], list[str]]:
    """Batches of noise: texts as long as COCO's captions and labels and as eight triplets, boxes as large as in photos.

    Half of the boxes show less than a tenth of their image, and their mean is about a sixth.
    """
    generator = torch.Generator().manual_seed(0)
    found: dict[str, list[Batch]] = {}
    for name, images in sizes.items():
        found[name] = [_made(name, images, image_size, vocabulary, generator) for _ in range(number)]
    return found, [f"relation {i}" for i in range(70)]


def _made(name: str, images: int, image_size: int, vocabulary: int, generator: torch.Generator) -> Batch:
    common: dict[str, Any] = {
        "images": torch.randn(images, 3, image_size, image_size, generator=generator),
        "image_ids": torch.arange(images),
        "stream": name,
        "objectives": OBJECTIVES[name],
    }
    once, four = torch.arange(images), torch.arange(images).repeat_interleave(4)
    if name == "captions":
        return CaptionBatch(pairs=_pairs(once, (9, 18), vocabulary, generator), **common)
    if name == "regions":
        return RegionBatch(pairs=_pairs(four, (3, 5), vocabulary, generator, boxes=True), **common)
    subjects = torch.arange(0, 4 * images, 2)
    return GraphBatch(
        pairs=_pairs(once, (24, 60) if name == "vsg" else (8, 14), vocabulary, generator),
        entities=_pairs(four, (3, 5), vocabulary, generator, boxes=True),
        subjects=subjects,
        objects=subjects + 1,
        relations=tuple(f"relation {i % 70}" for i in range(2 * images)),
        **common,
    )


def _pairs(
    index: Tensor, length: tuple[int, int], vocabulary: int, generator: torch.Generator, boxes: bool = False
) -> Pairs:
    """Texts of [CLS] and words, of lengths in a range, with a quarter of the words masked."""
    n, longest = len(index), length[1]
    lengths = torch.randint(length[0], longest + 1, (n, 1), generator=generator)
    mask = torch.arange(longest) < lengths
    ids = torch.randint(5, vocabulary, (n, longest), generator=generator) * mask
    chosen = (torch.rand(n, longest, generator=generator) < 0.25) & mask
    chosen[:, 1] = True
    chosen[:, 0] = False
    text = TextBatch(ids, mask, ids.masked_fill(chosen, 4), ids.masked_fill(~chosen, -100)).located()
    return Pairs(text, index, torch.arange(n), _boxes(n, generator) if boxes else None)


def _boxes(n: int, generator: torch.Generator) -> Tensor:
    """Boxes (cx, cy, w, h) whose sides are uniform in the logarithm between 1/16 and 1."""
    size = 16 ** -torch.rand(n, 2, generator=generator)
    return torch.cat([size / 2 + torch.rand(n, 2, generator=generator) * (1 - size), size], 1)
