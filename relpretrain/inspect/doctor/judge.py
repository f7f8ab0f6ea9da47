"""Reads shards once, as training would, and says what is in them and what is wrong with them."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
from PIL import Image

from relpretrain.data.pipeline.collate import BATCH_TYPES
from relpretrain.data.pipeline.images import decode
from relpretrain.data.pipeline.sample import Decoded, Record
from relpretrain.data.pipeline.stages import EXCLUDED, Pipeline, check, parse
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.text_writer import TextWriter
from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.errors import BadSample
from relpretrain.identity import number_of
from relpretrain.inspect.common.share import Share, is_task, surveyed
from relpretrain.inspect.common.survey import find_indexes, shard_name
from relpretrain.inspect.doctor.counts import LONG_CAPTION, Counts, field_of
from relpretrain.inspect.doctor.examination import Bad, Examination
from relpretrain.kinds import Kind, Need
from relpretrain.pixels import BROKEN, open_image


@dataclass
class Judge:
    """What one stream makes of a sample.

    Args:
        kind: Type of its batches: it looks at samples that have something for these.
        image_size: Side of the images that the model sees, in pixels.
        pipeline: The stream's; None judges images and annotations alone.
    """

    kind: Kind
    image_size: int
    pipeline: Pipeline | None = None

    @property
    def need(self) -> Need:
        """What a sample must have for the stream to draw it."""
        return self.kind if self.pipeline is None else self.pipeline.stream.need

    @property
    def min_scale(self) -> float:
        """Smallest fraction of an image's area that a crop keeps: with the size it says how large to decode."""
        return 1.0 if self.pipeline is None else self.pipeline.stream.min_scale

    def excludes(self, image_id: str) -> bool:
        """Whether an image is left out by its id."""
        exclusion = None if self.pipeline is None else self.pipeline.exclusion
        return exclusion is not None and exclusion.reason(image_id) is not None

    def lost(self, record: Record, decoded: Decoded, rng: np.random.Generator) -> list[str]:
        """Why training would lose parts of a sample.

        Raises:
            BadSample: If the stream cannot use it.
        """
        if self.pipeline is None:
            check(record, decoded, self.kind)
            return []
        return self.pipeline.write(self.pipeline.augment(record, decoded, rng), rng).lost


def plain_judges(image_size: int = 224) -> dict[str, Judge]:
    """Judges where there is no recipe: whether an image can be decoded and its annotations be read, for each kind."""
    return {kind: Judge(kind, image_size) for kind in BATCH_TYPES}


def recipe_judges(
    streams: Mapping[str, Stream],
    image_size: int,
    encoders: Mapping[str, TextEncoder],
    mask_fraction: float,
    exclusion: Exclusion | None = None,
) -> dict[str, Judge]:
    """Judges of a recipe: the whole pipelines of its streams, augmentation and texts included.

    Args:
        streams: Its streams.
        image_size: Side of the images that the model sees, in pixels.
        encoders: Of each stream's texts.
        mask_fraction: Share of the tokens masked for MLM.
        exclusion: Images to leave out.
    """
    return {
        name: Judge(
            stream.kind,
            image_size,
            Pipeline(stream, image_size, TextWriter(stream, encoders[name], mask_fraction), exclusion),
        )
        for name, stream in streams.items()
        if stream.kind in BATCH_TYPES
    }


def examine(
    name: str,
    shards: Sequence[str],
    judges: Mapping[str, Judge],
    *,
    long_caption: Callable[[str], bool] | None = None,
    workers: int = 1,
    share: Share | None = None,
) -> Examination:
    """Read all samples of a dataset once.

    Args:
        name: Of the dataset.
        shards: Paths or addresses.
        judges: What streams make of its samples.
        long_caption: Says of a caption whether it is too long; None counts words.
        workers: Processes; 1 reads in this one.
        share: What tasks do of it; a task keeps what it finds, and nothing of it is returned. None does everything.

    Raises:
        ConfigError: If a shard cannot be read, or is no tar; names all of them.
    """
    look = partial(_look, name, dict(judges), long_caption or _is_long)
    indexes = [] if is_task(share) else find_indexes(shards, workers)
    found = Examination(name, list(shards), indexes)
    found.bad = [
        Bad(shard_name(i), key, (), reason, field_of(reason, {})) for i in indexes for reason, key in i.problems
    ]
    total = _Part()
    for part in surveyed(share, shards, look, _Part, workers):
        total.add(part)
    found.counts, found.bad = total.counts, found.bad + total.bad
    found.eligible, found.excluded, found.parts = total.eligible, total.excluded, total.parts
    return found


@dataclass
class _Part:
    counts: Counts = field(default_factory=Counts)
    bad: list[Bad] = field(default_factory=list)
    eligible: Counter[str] = field(default_factory=Counter)
    excluded: Counter[str] = field(default_factory=Counter)
    parts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, other: _Part) -> None:
        self.counts.add(other.counts)
        self.bad += other.bad
        self.eligible.update(other.eligible)
        self.excluded.update(other.excluded)
        self.parts.update(other.parts)

    def to_json(self) -> dict[str, Any]:
        return {
            "counts": self.counts.to_json(),
            "bad": [vars(bad) for bad in self.bad],
            "eligible": self.eligible,
            "excluded": self.excluded,
            "parts": [[*names, count] for names, count in self.parts.items()],
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> _Part:
        return cls(
            Counts.from_json(content["counts"]),
            [Bad(**bad | {"streams": tuple(bad["streams"])}) for bad in content["bad"]],
            Counter(content["eligible"]),
            Counter(content["excluded"]),
            Counter({(stream, reason): count for stream, reason, count in content["parts"]}),
        )


def _is_long(caption: str) -> bool:
    return len(caption.split()) > LONG_CAPTION


def _look(
    dataset: str,
    judges: Mapping[str, Judge],
    long_caption: Callable[[str], bool],
    index: ShardIndex,
    rows: Sequence[int],
) -> _Part:
    part = _Part()
    able = {need: set(index.eligible(need).tolist()) for need in {judge.need for judge in judges.values()}}
    for row in rows:
        raw = index.read(row)
        record: Record | None = None
        decoded: Decoded | None = None
        decode_once = cache(partial(decode, raw.image))  # judges of one size share what it gives
        failures: dict[tuple[str, str, str], list[str]] = {}
        for name, judge in judges.items():
            if row not in able[judge.need]:
                continue
            if judge.excludes(index.image_ids[row]):
                part.excluded[name] += 1
                continue
            try:
                record = record or parse(raw, dataset, index)
                decoded = decode_once(judge.image_size, judge.min_scale)
                lost = judge.lost(record, decoded, np.random.default_rng([number_of(index.place(row))]))
                part.parts.update((name, reason) for reason in lost)
            except BadSample as error:
                if error.reason.startswith(EXCLUDED):
                    part.excluded[name] += 1
                    continue
                size = (0, 0) if decoded is None else decoded.stored_size
                where = field_of(error.reason, {} if record is None else record.content, *size)
                failures.setdefault((error.reason, where, error.detail), []).append(name)
            part.eligible[name] += 1
        for (reason, where, detail), streams in failures.items():
            part.bad.append(Bad(shard_name(index), index.keys[row], tuple(streams), reason, where, detail))
        kind, size = _header(raw.image)
        part.counts.formats[kind] += 1
        place = f"{shard_name(index)}/{index.keys[row]}"
        record = record or Record(place, "", dataset, [], {})  # no judge looks at it
        part.counts.count(
            place, raw.image, index.image_ids[row], record.source, record.content, record.captions, size, long_caption
        )
    return part


def _header(image: bytes) -> tuple[str, tuple[int, int]]:
    """Format and mode, and size, as the head of an image file says."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with open_image(io.BytesIO(image)) as opened:
                return f"{opened.format} {opened.mode}", opened.size
    except BROKEN:
        return "unreadable", (0, 0)
