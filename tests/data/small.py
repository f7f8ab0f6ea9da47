"""Small shards and tokenizers for the tests of this folder."""

import io

import numpy as np
from PIL import Image

from relpretrain.data.pipeline.tokenizer import write_wordpiece
from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.writer import ShardWriter

WORDS = ["a red blue green cat dog tree sits beside the of on under left right to small"]


def picture(i=0, size=(40, 30), format="PNG", **options):
    rng = np.random.default_rng(i)
    image = Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def record(i=0, size=(40, 30), captions=2, graph=True):
    entities = [
        {"label": "cat", "box": [1, 2, 15, 20], "attributes": ["red"]},
        {"label": "dog", "box": [18, 4, 38, 28]},
        {"label": "tree", "box": [5, 10, 30, 29], "attributes": ["small", "green"]},
    ]
    relations = [
        {"subject": 0, "relation": "beside", "object": 1},
        {"subject": 1, "relation": "on", "object": 2},
        {"subject": 2, "relation": "under", "object": 0},
    ]
    return {
        "image_id": str(i),
        "source": "small",
        "width": size[0],
        "height": size[1],
        "captions": ["a red cat sits beside the dog", "the dog on a tree"][:captions],
        "entities": entities if graph else [],
        "relations": relations if graph else [],
    }


def write_shards(folder, count=24, per_shard=5, image=picture, prefix="s", **options):
    with ShardWriter(folder, samples_per_shard=per_shard, prefix=prefix) as writer:
        for i in range(count):
            writer.write(f"k{i:03d}", image(i), "png", record(i, **options))
    return str(folder)


def tokenizer(folder):
    return str(write_wordpiece(WORDS, folder / "tokenizer"))


def stream(kind, shards, batch_size=4, **options):
    objectives = {"captions": ["itc"], "regions": ["vma"], "graphs": ["vsg", "mrc"]}[kind]
    return Stream(kind, {"small": shards}, batch_size, **{"objectives": objectives, **options})
