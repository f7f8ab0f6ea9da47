"""How fast batches are made on one core, beside the limit and two other ways of reading.

    python benchmarks/loader.py --images DIR            # photos of yours
    python benchmarks/loader.py                         # generated ones
    python benchmarks/loader.py --memory 100000         # does memory grow?

Every way brings the same images to float tensors of the same size; all take turns in one process, so that whatever else
the machine does meets all of them alike. What counts are the ratios.

    limit    JPEG decoding at reduced scale, resizing and normalising of bytes in memory, and nothing else
    plain    PIL decoding, resizing, and torchvision's ToTensor and Normalize, of bytes in memory
    jsonl    the same of lines of JSON with the image in base64, read from a file, as X-VLM's data loader has it
    ours     the batches of a run without augmentation: read, checked, tokenised, words masked, collated
    graphs   likewise, of samples with scene graphs
    augment  likewise of captions, with cropping, flipping and colours
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from relpretrain.data.datamodule import RelationDataModule
from relpretrain.data.pipeline.text import write_wordpiece
from relpretrain.data.pipeline.transforms import IMAGE_MEAN, IMAGE_STD
from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.writer import ShardWriter
from relpretrain.types import Kind

CAPTION = "a man in a red shirt stands beside a white horse near the fence"
BATCH = 32
_SCALE = torch.tensor([1 / (255 * s) for s in IMAGE_STD]).view(3, 1, 1)
_SHIFT = torch.tensor([m / s for m, s in zip(IMAGE_MEAN, IMAGE_STD, strict=True)]).view(3, 1, 1)
_TO_TENSOR = transforms.Compose([transforms.ToTensor(), transforms.Normalize(IMAGE_MEAN, IMAGE_STD)])


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of JPEG files (default: generated ones)")
    parser.add_argument("--samples", type=int, default=192, help="images in a round (default: %(default)s)")
    parser.add_argument("--size", type=int, default=224, help="side of the tensors (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="turns of every way (default: %(default)s)")
    parser.add_argument("--memory", type=int, metavar="N", help="instead: memory over N samples")
    parser.add_argument("--workers", type=int, default=2, help="workers of --memory (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if args.memory:
            _memory(Path(folder), args.memory, args.workers)
        else:
            files = _photos(args.images, args.samples) if args.images else list(_generated(args.samples))
            _speed(Path(folder), files, args.size, args.rounds)


def _photos(folder: Path, count: int) -> list[bytes]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not files:
        raise SystemExit(f"--images {folder}: no .jpg file is there")
    return [files[i % len(files)].read_bytes() for i in range(count)]


def _generated(count: int, size: tuple[int, int] = (1024, 768), quality: int = 90) -> Iterator[bytes]:
    """JPEG files with the detail of a photo: noise at several scales."""
    for i in range(count):
        rng = np.random.default_rng(i)
        image = Image.new("RGB", size, (128, 128, 128))
        for scale, strength in ((8, 0.5), (32, 0.4), (256, 0.25)):
            noise = rng.integers(0, 256, (scale * 3 // 4, scale, 3), dtype=np.uint8)
            image = Image.blend(image, Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC), strength)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        yield buffer.getvalue()


def _speed(folder: Path, files: list[bytes], size: int, rounds: int) -> None:
    lines = folder / "lines.jsonl"
    with lines.open("w") as file:
        for data in files:
            file.write(json.dumps({"binary": base64.b64encode(data).decode(), "desc": CAPTION}) + "\n")
    tokenizer, shards = _write(folder, files)
    plain: dict[str, Any] = {"min_scale": 1.0, "flip": 0.0, "color": False}
    loaders = {
        "ours": _loader("captions", shards, tokenizer, size, **plain),
        "graphs": _loader("graphs", shards, tokenizer, size, **plain),
        "augment": _loader("captions", shards, tokenizer, size),
    }
    ways: dict[str, Callable[[], None]] = {
        "limit": lambda: _each(files, lambda data: _limit(data, size)),
        "plain": lambda: _each(files, lambda data: _plain(data, size)),
        "jsonl": lambda: _jsonl(lines, size),
        **{name: partial(_batches, loader.dataset.batches, len(files)) for name, loader in loaders.items()},
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:  # the first warms up
                times[name].append(time.perf_counter() - start)
    sizes = [Image.open(io.BytesIO(data)).size for data in files]
    width, height = (statistics.median(side) for side in zip(*sizes, strict=True))
    mean = sum(map(len, files)) / len(files) / 1000
    print(f"{len(files)} JPEG files, median {width:g} x {height:g}, {mean:.0f} kB each, to {size} x {size}; one core")
    print(f"medians of {rounds} rounds; ratios within each round\n")
    print(f"{'':8} {'samples/s':>9} {'of limit':>9} {'x plain':>8} {'x jsonl':>8}")
    for name, taken in times.items():
        ratios = [
            statistics.median(other / own for other, own in zip(times[base], taken, strict=True))
            for base in ("limit", "plain", "jsonl")
        ]
        rate = len(files) / statistics.median(taken)
        print(f"{name:8} {rate:9.0f} {100 * ratios[0]:8.1f}% {ratios[1]:8.2f} {ratios[2]:8.2f}")


def _each(files: list[bytes], way: Callable[[bytes], Any]) -> None:
    for data in files:
        way(data)


def _limit(data: bytes, size: int) -> torch.Tensor:
    image = Image.open(io.BytesIO(data))
    scale = size / min(image.size)
    image.draft(None, (round(image.width * scale), round(image.height * scale)))
    pixels = np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).to(torch.float32).mul_(_SCALE).sub_(_SHIFT)


def _plain(data: bytes, size: int) -> torch.Tensor:
    image = Image.open(io.BytesIO(data)).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    tensor: torch.Tensor = _TO_TENSOR(image)
    return tensor


def _jsonl(lines: Path, size: int) -> None:
    with lines.open() as file:
        for line in file:
            _plain(base64.b64decode(json.loads(line)["binary"]), size)


def _write(folder: Path, files: list[bytes]) -> tuple[Path, Path]:
    """A tokenizer, and shards of the files with captions and a graph of four entities."""
    with ShardWriter(folder / "shards", samples_per_shard=100) as writer:
        for i, data in enumerate(files):
            width, height = Image.open(io.BytesIO(data)).size
            boxes = [[x * width, y * height, (x + 0.4) * width, (y + 0.4) * height] for x in (0, 0.5) for y in (0, 0.5)]
            record = {
                "image_id": str(i),
                "source": "photos",
                "width": width,
                "height": height,
                "captions": [CAPTION] * 5,
                "entities": [
                    {"label": label, "box": box}
                    for label, box in zip(("man", "horse", "shirt", "fence"), boxes, strict=True)
                ],
                "relations": [
                    {"subject": 0, "relation": "beside", "object": 1},
                    {"subject": 0, "relation": "in", "object": 2},
                    {"subject": 1, "relation": "near", "object": 3},
                ],
            }
            writer.write(f"{i:06d}", data, "jpg", record)
    return write_wordpiece([CAPTION], folder / "tokenizer"), folder / "shards"


def _loader(kind: Kind, shards: Path, tokenizer: Path, size: int, workers: int = 0, **options: Any) -> Any:
    stream = Stream(kind, {"photos": str(shards)}, BATCH, objectives=["any"], **options)
    data = RelationDataModule({kind: stream}, str(tokenizer), size, num_workers=workers)
    data.setup()
    return data.train_dataloader()


def _batches(batches: Any, samples: int) -> None:
    for step in range(samples // BATCH):
        batches[step]


def _memory(folder: Path, samples: int, workers: int) -> None:
    """Memory of this process and its workers, over many samples."""
    files = list(_generated(2000, (96, 72), 80))
    tokenizer, shards = _write(folder, files)
    batches = iter(_loader("graphs", shards, tokenizer, 32, workers))
    steps = samples // BATCH
    marks: list[float] = []
    for step in range(steps):
        next(batches)
        if step % max(steps // 20, 1) == 0:
            marks.append(_used())
    print(f"{samples:,} samples, {workers} workers: " + ", ".join(f"{mark:.1f}" for mark in marks) + " MB")
    first, last = statistics.mean(marks[2:5]), statistics.mean(marks[-3:])
    print(f"growth from the 2nd tenth to the last: {100 * (last - first) / first:+.2f} %")


def _used() -> float:
    """Megabytes of data that this process and its children hold, shared pages divided among them (Linux).

    Pages of files, such as libraries, are left out: other programs share them.
    """
    own = os.getpid()
    children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
    total = 0
    for pid in [str(own), *children]:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += sum(
            int(line.split()[1]) for line in rollup.splitlines() if line.startswith(("Pss_Anon:", "Pss_Shmem:"))
        )
    return total / 1024


if __name__ == "__main__":
    main()
