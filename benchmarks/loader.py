"""How many samples one core makes: captions with full augmentation, and scene graphs of 35 entities.

    python benchmarks/loader.py --images DIR            # photos of yours
    python benchmarks/loader.py --json FILE             # generated ones; the figures also as JSON
    python benchmarks/loader.py --soak                  # instead: is memory flat over 100,000 samples?

The ways take turns in one process on one thread, so that whatever else the machine does meets all of them alike. Times
are CPU seconds; rates are medians of the rounds, ratios medians of the ratios of each round.

    decode    decoding alone, by the fastest library at hand, at the smallest scale that it offers and crops allow
    former    captions whose images Pillow decodes, crops and resizes and numpy colours, normalised here to float32
    captions  the batches of a run: read, decoded, cropped, flipped, coloured, written, collated
    graphs    likewise of samples with 35 entities and 22 relations, about what Visual Genome has in an image
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from relpretrain.data.datamodule import RelationDataModule
from relpretrain.data.pipeline.collate import collate
from relpretrain.data.pipeline.images import CLIP_NORMALISATION, decode, pixels_of
from relpretrain.data.pipeline.sample import Sample
from relpretrain.data.pipeline.stages import Pipeline, parse
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.text_writer import Example, TextWriter
from relpretrain.data.pipeline.tokenizer import load_tokenizer, write_wordpiece
from relpretrain.data.pipeline.transforms import COLOR_STRENGTH, _random_box
from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.data.shards.writer import ShardWriter
from relpretrain.sources.common.folders import files_below
from relpretrain.types import Kind
from relpretrain.zeroshot.results.provenance import describe

CAPTION = "a man in a red shirt stands beside a white horse near the fence"
LABELS = "man woman tree building window shirt sign grass table chair street sky water car wall head leg hand plate dog"
ATTRIBUTES = "white red large wooden small green"
RELATIONS = (
    "on;has;wearing;in;of;near;behind;with;next to;holding;to the left of;above;in front of;under;sitting on;riding"
)
ENTITIES, TRIPLETS = 35, 22
BATCH = 32
SOAKED = 100_000


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of JPEG files (default: generated ones)")
    parser.add_argument("--samples", type=int, default=192, help="images in a round (default: %(default)s)")
    parser.add_argument("--size", type=int, default=224, help="side of the images for the model (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="turns of every way (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--soak", type=int, nargs="?", const=SOAKED, metavar="N", help="instead: memory over N samples")
    parser.add_argument("--workers", type=int, default=2, help="workers of --soak (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if args.soak:
            figures = _soak(Path(folder), args.soak, args.workers)
        else:
            files = _photos(args.images, args.samples) if args.images else list(_generated(args.samples))
            figures = _speed(Path(folder), files, args.size, args.rounds)
    if args.json:
        args.json.write_text(json.dumps(describe(sys.argv, 0) | figures, indent=1) + "\n", encoding="utf-8")
    return 0


def _photos(folder: Path, count: int) -> list[bytes]:
    files = sorted(path for path in files_below(folder) if path.suffix.lower() in (".jpg", ".jpeg"))
    if not files:
        raise SystemExit(f"--images {folder}: no .jpg file is there")
    return [files[i % len(files)].read_bytes() for i in range(count)]


def _generated(count: int, size: tuple[int, int] = (640, 480), quality: int = 90) -> Iterator[bytes]:
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


def _speed(folder: Path, files: list[bytes], size: int, rounds: int) -> dict[str, Any]:
    captions, graphs = (_Made(folder, kind, files, size) for kind in ("captions", "graphs"))
    ways: dict[str, Callable[[], None]] = {
        **{f"decode ({name})": partial(_each, files, way) for name, way in _decoders(size).items()},
        "former": partial(captions.batches, captions.former),
        "captions": partial(captions.batches, captions.example),
        "graphs": partial(graphs.batches, graphs.example),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            way()
            if turn:  # the first warms up
                times[name].append(time.process_time() - start)
    best = min((name for name in times if name.startswith("decode")), key=lambda name: statistics.median(times[name]))
    rates = {name: len(files) / statistics.median(taken) for name, taken in times.items()}

    def ratio(name: str, base: str) -> float:
        return statistics.median(b / a for a, b in zip(times[name], times[base], strict=True))

    ratios = {
        "captions / former": ratio("captions", "former"),
        "graphs / captions": ratio("graphs", "captions"),
        f"captions / {best}": ratio("captions", best),
        f"graphs / {best}": ratio("graphs", best),
    }
    sizes = [Image.open(io.BytesIO(data)).size for data in files]
    width, height = (statistics.median(side) for side in zip(*sizes, strict=True))
    mean = sum(map(len, files)) / len(files) / 1000
    photos = f"{len(files)} JPEG files, median {width:g} x {height:g}, {mean:.0f} kB each"
    print(f"{photos}, to {size} x {size}; one core, medians of {rounds} rounds\n")
    for name, rate in rates.items():
        print(f"{name:24} {rate:7.0f} samples/s")
    print()
    for name, value in ratios.items():
        print(f"{name:38} {value:5.2f}")
    shares = {"captions": captions.shares(), "graphs": graphs.shares()}
    print("\nshare of time" + "".join(f"{name:>10}" for name in shares))
    for stage in shares["captions"]:
        print(f"{stage:13}" + "".join(f"{100 * of[stage]:9.1f}%" for of in shares.values()))
    return {"photos": photos, "samples_per_second": rates, "ratios": ratios, "shares": shares}


class _Made:
    """The samples of a shard of one kind, and the ways from there to batches."""

    def __init__(self, folder: Path, kind: Kind, files: list[bytes], size: int) -> None:
        self.index = ShardIndex.of(str(_write(folder / kind, kind, files)))
        self.stream = Stream(kind, {}, BATCH, max_tokens=112 if kind == "graphs" else 36)
        words = [CAPTION, LABELS, ATTRIBUTES, *RELATIONS.split(";")]
        encoder = TextEncoder(load_tokenizer(write_wordpiece(words, folder / "tokenizer")), self.stream.max_tokens)
        self.pad = encoder.tokenizer.pad_token_id
        self.writer = TextWriter(self.stream, encoder)
        self.pipeline = Pipeline(self.stream, size, self.writer)

    def example(self, row: int, rng: np.random.Generator) -> Example:
        made, _ = self.pipeline("photos", self.index, row, rng)
        assert made is not None
        return made

    def former(self, row: int, rng: np.random.Generator) -> Example:
        raw = self.index.read(row)
        record = parse(raw, "photos", self.index)
        image = _former_image(raw.image, self.pipeline.size, self.stream, rng)
        return self.writer(image, Sample(record.key, image, record.image_id, "", record.captions), rng)

    def batches(self, way: Callable[[int, np.random.Generator], Example]) -> None:
        for start in range(0, len(self.index), BATCH):
            rows = range(start, min(start + BATCH, len(self.index)))
            collate(self.stream.kind, [way(row, np.random.default_rng([0, row])) for row in rows], self.pad)

    def shares(self) -> dict[str, float]:
        """Share of the time that each stage takes."""
        spent: Counter[str] = Counter()
        now = time.process_time()

        def mark(stage: str) -> None:
            nonlocal now
            spent[stage] += (moment := time.process_time()) - now  # type: ignore[assignment]  # seconds
            now = moment

        for start in range(0, len(self.index), BATCH):
            examples = []
            for row in range(start, min(start + BATCH, len(self.index))):
                rng = np.random.default_rng([0, row])
                raw = self.index.read(row)
                mark("read")
                record = parse(raw, "photos", self.index)
                mark("parse")
                decoded = decode(raw.image, self.pipeline.size, self.stream.min_scale)
                mark("decode")
                augmented = self.pipeline.augment(record, decoded, rng)
                mark("check, augment")
                examples.append(self.pipeline.write(augmented, rng))
                mark("write texts")
            collate(self.stream.kind, examples, self.pad)
            mark("collate")
        return {stage: seconds / sum(spent.values()) for stage, seconds in spent.items()}


def _former_image(data: bytes, size: int, stream: Stream, rng: np.random.Generator) -> Tensor:
    """An augmented image by Pillow and numpy, normalised: (3, size, size), float32."""
    opened = Image.open(io.BytesIO(data))
    wanted, scale = _scaled(opened.size, size)
    if scale < 0.5:
        opened.draft(None, wanted)
    image = opened.convert("RGB")
    area = _random_box(image.width, image.height, stream.min_scale, rng)
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=area))
    if rng.random() < stream.flip:
        pixels = pixels[:, ::-1]
    brightness, contrast, saturation = rng.uniform(1 - COLOR_STRENGTH, 1 + COLOR_STRENGTH, 3).astype(np.float32)
    luma = np.array([0.299, 0.587, 0.114], np.float32)
    colours = pixels.reshape(-1, 3).astype(np.float32)
    grey = float(colours.mean(0) @ luma)
    to_grey = np.repeat(luma[:, None], 3, axis=1)
    change = (brightness * contrast) * (saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * to_grey)
    changed = colours @ change
    changed += np.float32(brightness * (1 - contrast) * grey)
    planes = changed.clip(0, 255, out=changed).reshape(pixels.shape).transpose(2, 0, 1)
    return CLIP_NORMALISATION(torch.from_numpy(planes))


def _scaled(size: tuple[int, int], side: int, min_scale: float = 0.5) -> tuple[tuple[int, int], float]:
    """The smallest size from which no crop must be enlarged, and what it is of the whole."""
    width, height = size
    scale = side / min(width, height, math.sqrt(0.75 * min_scale * width * height))
    return (math.ceil(width * scale), math.ceil(height * scale)), scale


def _decoders(size: int) -> dict[str, Callable[[bytes], Any]]:
    """Decoding alone, to pixels in memory, by library."""

    def pillow(data: bytes) -> Tensor:
        image = Image.open(io.BytesIO(data))
        image.draft(None, _scaled(image.size, size)[0])
        return pixels_of(image.convert("RGB"))

    def torchvision(data: bytes) -> Tensor:
        decoded: Tensor = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
        return decoded

    found: dict[str, Callable[[bytes], Any]] = {"Pillow": pillow, "torchvision": torchvision}
    with contextlib.suppress(ImportError):
        import simplejpeg  # type: ignore[import-not-found]  # only to compare with

        def simple(data: bytes) -> Any:
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
            (least_width, least_height), _ = _scaled((width, height), size)
            return simplejpeg.decode_jpeg(data, "RGB", min_height=least_height, min_width=least_width, min_factor=1)

        found["simplejpeg"] = simple
    return found


def _each(files: list[bytes], way: Callable[[bytes], Any]) -> None:
    for data in files:
        way(data)


def _write(folder: Path, kind: Kind, files: list[bytes]) -> Path:
    """A shard of the files: with captions, or with graphs."""
    rng = np.random.default_rng(0)
    with ShardWriter(folder, samples_per_shard=len(files)) as writer:
        for i, data in enumerate(files):
            width, height = Image.open(io.BytesIO(data)).size
            said = {"captions": [CAPTION] * 5} if kind == "captions" else _graph(width, height, rng)
            record = {"image_id": str(i), "source": "photos", "width": width, "height": height, **said}
            writer.write(f"{i:06d}", data, "jpg", record)
    return next(folder.glob("*.tar"))


def _graph(width: int, height: int, rng: np.random.Generator) -> dict[str, Any]:
    """Entities and relations of a photo, as many as Visual Genome has of one."""
    entities = []
    for _ in range(ENTITIES):
        share, at = rng.uniform(0.03, 0.6, 2), rng.uniform(0, 1, 2)
        low = at * (1 - share) * (width, height)
        box = [*low, *(low + share * (width, height))]
        attributes = [str(rng.choice(ATTRIBUTES.split()))] if rng.random() < 0.6 else []
        label = str(rng.choice(LABELS.split()))
        entities.append({"label": label, "box": [round(v, 1) for v in map(float, box)], "attributes": attributes})
    ends = [rng.choice(ENTITIES, 2, replace=False).tolist() for _ in range(TRIPLETS)]
    names = rng.choice(RELATIONS.split(";"), TRIPLETS).tolist()
    relations = [{"subject": s, "relation": name, "object": o} for (s, o), name in zip(ends, names, strict=True)]
    return {"entities": entities, "relations": relations}


def _soak(folder: Path, samples: int, workers: int) -> dict[str, Any]:
    """Memory of this process and its workers, over many samples."""
    shard = _write(folder / "graphs", "graphs", list(_generated(2000, (96, 72), 80)))
    tokenizer = write_wordpiece([LABELS, ATTRIBUTES, *RELATIONS.split(";")], folder / "tokenizer")
    stream = Stream("graphs", {"photos": str(shard)}, BATCH, objectives=["any"], max_tokens=112)
    data = RelationDataModule({"graphs": stream}, str(tokenizer), 32, num_workers=workers)
    data.setup()
    batches, steps = iter(data.train_dataloader()), samples // BATCH
    marks: list[float] = []
    for step in range(steps):
        next(batches)
        if step % max(steps // 20, 1) == 0:
            marks.append(_used())
    print(f"{samples:,} samples, {workers} workers: " + ", ".join(f"{mark:.1f}" for mark in marks) + " MB")
    first, last = statistics.mean(marks[2:5]), statistics.mean(marks[-3:])
    growth = (last - first) / first
    print(f"growth from the 2nd tenth to the last: {100 * growth:+.2f} %")
    return {"samples": samples, "workers": workers, "megabytes": marks, "growth": growth}


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
    sys.exit(main())
