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
from numpy.typing import NDArray
from PIL import Image

from relpretrain.data.pipeline.collate import BATCH_TYPES
from relpretrain.data.pipeline.images import decode
from relpretrain.data.pipeline.sample import Decoded, Record
from relpretrain.data.pipeline.stages import EXCLUDED, Pipeline, check, parse
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.text_writer import TextWriter
from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.data.sampling.outside import relation_counts
from relpretrain.data.sampling.schedule import BatchSchedule
from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.find import resolve_shards
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.errors import BadSample
from relpretrain.identity import number_of
from relpretrain.inspect.common.share import Share, is_task, surveyed
from relpretrain.inspect.common.survey import find_indexes, shard_name
from relpretrain.inspect.doctor.counts import LONG_CAPTION, Counts, field_of
from relpretrain.inspect.doctor.shuffle import Mixing, mixing
from relpretrain.kinds import Kind, Need
from relpretrain.pixels import BROKEN, open_image
from relpretrain.scene_graph import Coverage, RelationVocabulary, coverage

_TAKEN = 50_000  # samples of an epoch whose order is judged
_BATCH = 64  # of the order that is judged where there is no recipe


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


@dataclass(frozen=True)
class Bad:
    """A sample that cannot be used.

    Args:
        shard: Name of its shard.
        key: Its key.
        streams: The streams, or kinds of batches, that cannot use it; none where the index leaves it out.
        reason: The word by which it is counted.
        field: The part of the sample that is wrong.
        detail: What exactly is wrong.
    """

    shard: str
    key: str
    streams: tuple[str, ...]
    reason: str
    field: str
    detail: str = ""


@dataclass
class Examination:
    """What was found in a dataset.

    Args:
        name: Of the dataset.
        shards: Paths or addresses.
        indexes: Of the shards.
        counts: Sums over its samples, and numbers for each.
        bad: Samples that cannot be used.
        eligible: Samples that have something for a stream, by stream.
        excluded: Further ones that an exclusion list leaves out, by stream.
        parts: How often training would lose part of a sample, by stream and reason.
        vocabulary: That of MRC; None where nothing has one.
        vocabulary_name: What it is called.
    """

    name: str
    shards: list[str]
    indexes: list[ShardIndex]
    counts: Counts = field(default_factory=Counts)
    bad: list[Bad] = field(default_factory=list)
    eligible: Counter[str] = field(default_factory=Counter)
    excluded: Counter[str] = field(default_factory=Counter)
    parts: Counter[tuple[str, str]] = field(default_factory=Counter)
    vocabulary: RelationVocabulary | None = None
    vocabulary_name: str = "MRC's vocabulary"

    @property
    def coverage(self) -> Coverage | None:
        """What the vocabulary has of the relations; None without one."""
        return None if self.vocabulary is None else coverage(relation_counts(self.indexes), self.vocabulary)

    @property
    def samples(self) -> int:
        """All samples, those that the index leaves out included."""
        return sum(len(index) + len(index.problems) for index in self.indexes)

    @property
    def bad_fraction(self) -> float:
        """The worst fraction of samples that cannot be used: of all, or of those that a stream would draw."""
        places = {(bad.shard, bad.key, bad.streams == ()) for bad in self.bad}
        by_stream = Counter(stream for bad in self.bad for stream in bad.streams)
        fractions = [by_stream[name] / count for name, count in self.eligible.items() if count]
        return max(len(places) / max(self.samples, 1), *fractions, 0.0)

    def duplicates(self) -> dict[str, int]:
        """How many samples repeat another one's key, image id or image file."""
        keys = np.array([number_of(key) for index in self.indexes for key in index.keys], np.int64)
        return {
            "key, in another shard": _repeats(keys),
            "image id": _repeats(np.array(self.counts.image_ids)),
            "image file": _repeats(np.array(self.counts.image_bytes)),
            "caption of another image": _repeats(self._caption_pairs()),
        }

    def mixing(self, schedule: BatchSchedule | None) -> dict[str, dict[str, Mixing]]:
        """How often neighbours share something, by order (in the shards, or in which a stream takes them) and trait."""
        counts = self.counts
        captions, numbers = np.array(counts.caption_ids, np.int64), np.array(counts.caption_numbers, np.int64)
        orders: dict[str, NDArray[np.int64] | None] = {"in the shards": None}
        firsts = np.cumsum([0, *map(len, self.indexes)])
        streams = [] if schedule is None else [n for n, s in schedule.streams.items() if self.name in s.datasets]
        for stream in streams:
            assert schedule is not None
            numbers_of = [
                self.shards.index(shard) for shard in resolve_shards(schedule.streams[stream].datasets[self.name])
            ]
            places, need = first_epoch(schedule, stream, self.name), schedule.streams[stream].need
            rows = [index.eligible(need) for index in self.indexes]
            taken = [firsts[numbers_of[shard]] + rows[numbers_of[shard]][row] for shard, row in places]
            orders[f"{stream}, as drawn"] = np.array(taken, np.int64)
        return {
            name: {
                "image id": mixing(np.array(counts.image_ids, np.int64), None, order),
                "source": mixing(np.array(counts.source_ids, np.int64), None, order),
                "caption": mixing(captions, numbers, order),
            }
            for name, order in orders.items()
        }

    def _caption_pairs(self) -> NDArray[np.int64]:
        """Captions, each once for every image that has it."""
        image = np.repeat(np.array(self.counts.image_ids, np.int64), np.array(self.counts.caption_numbers, np.int64))
        pairs = np.stack([np.array(self.counts.caption_ids, np.int64), image], axis=1)
        return np.unique(pairs, axis=0)[:, 0]


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


def first_epoch(schedule: BatchSchedule, stream: str, dataset: str) -> list[tuple[int, int]]:
    """Shards and eligible rows of a stream's first epoch over a dataset, in the order in which they are taken."""
    size = min(schedule.sizes()[stream, dataset], _TAKEN)
    places: list[tuple[int, int]] = []
    step = 0
    while len(places) < size:
        if schedule.stream_of(step) == stream and schedule.dataset_of(step) == dataset:
            places += [(row.shard, row.row) for row in schedule.rows(step)]
        step += 1
    return places[:size]


def plain_schedule(examination: Examination, seed: int = 0) -> BatchSchedule | None:
    """The schedule of one stream of each kind over a dataset, for use without a recipe; None if no kind has samples."""
    rows = {kind: [len(index.eligible(kind)) for index in examination.indexes] for kind in BATCH_TYPES}
    held = {kind: found for kind, found in rows.items() if sum(found)}
    if not held:
        return None
    streams = {kind: Stream(kind, {examination.name: examination.shards}, _BATCH) for kind in held}
    return BatchSchedule(
        {str(k): s for k, s in streams.items()}, {k: {examination.name: f} for k, f in held.items()}, seed
    )


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


def _repeats(values: NDArray[np.int64]) -> int:
    """How many values come after an equal one."""
    return len(values) - len(np.unique(values))
