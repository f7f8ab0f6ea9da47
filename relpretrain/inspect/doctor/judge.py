"""Reads shards once, as training would, and says what is in them and what is wrong with them."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from relpretrain.data.pipeline.collate import BATCH_TYPES, TextWriter
from relpretrain.data.pipeline.stages import (
    PART,
    Decode,
    Pipeline,
    Stage,
    Work,
    check_captions,
    check_graph,
    parse,
    read,
)
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.data.sampling.outside import relation_counts
from relpretrain.data.sampling.schedule import Plan
from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.find import resolve_shards
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.errors import BadSample
from relpretrain.identity import number_of
from relpretrain.inspect.common.survey import find_indexes, shard_name, survey
from relpretrain.inspect.doctor.counts import LONG_CAPTION, Counts, field_of
from relpretrain.inspect.doctor.shuffle import Mixing, mixing
from relpretrain.scene_graph import Coverage, RelationVocabulary, coverage
from relpretrain.types import Kind

_DEALT = 50_000  # samples of a pass whose order is judged
_BATCH = 64  # of the order that is judged where there is no recipe


@dataclass
class Judge:
    """What one stream makes of a sample.

    Args:
        kind: Type of its batches: it looks at samples that have something for these.
        stages: Those of its pipeline.
        exclusion: Images that it leaves out.
    """

    kind: Kind
    stages: list[tuple[str, Stage]]
    exclusion: Exclusion | None = None


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
    def bad_share(self) -> float:
        """The worst share of samples that cannot be used: of all, or of those that a stream would draw."""
        places = {(bad.shard, bad.key, bad.streams == ()) for bad in self.bad}
        by_stream = Counter(stream for bad in self.bad for stream in bad.streams)
        shares = [by_stream[name] / count for name, count in self.eligible.items() if count]
        return max(len(places) / max(self.samples, 1), *shares, 0.0)

    def duplicates(self) -> dict[str, int]:
        """How many samples repeat another one's key, image id or image file."""
        keys = np.array([number_of(key) for index in self.indexes for key in index.keys], np.int64)
        return {
            "key, in another shard": _repeats(keys),
            "image id": _repeats(np.array(self.counts.image_ids)),
            "image file": _repeats(np.array(self.counts.image_bytes)),
            "caption of another image": _repeats(self._caption_pairs()),
        }

    def mixing(self, plan: Plan | None) -> dict[str, dict[str, Mixing]]:
        """How often neighbours share something, by order (in the shards, or as a stream deals them) and trait."""
        counts = self.counts
        captions, numbers = np.array(counts.caption_ids, np.int64), np.array(counts.caption_numbers, np.int64)
        orders: dict[str, NDArray[np.int64] | None] = {"in the shards": None}
        firsts = np.cumsum([0, *map(len, self.indexes)])
        streams = [] if plan is None else [n for n, s in plan.streams.items() if self.name in s.datasets]
        for stream in streams:
            assert plan is not None
            numbers_of = [
                self.shards.index(shard) for shard in resolve_shards(plan.streams[stream].datasets[self.name])
            ]
            places = first_pass(plan, stream, self.name)
            dealt = [firsts[numbers_of[shard]] + row for shard, row in places]
            orders[f"{stream}, as dealt"] = np.array(dealt, np.int64)
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
    decode = Decode(image_size, 1.0)
    checks: dict[Kind, Stage] = {"captions": check_captions, "regions": check_graph, "graphs": check_graph}
    return {
        kind: Judge(kind, [("read", read), ("parse", parse), ("decode", decode), ("check", check)])
        for kind, check in checks.items()
    }


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
            Pipeline(stream, image_size, TextWriter(stream, encoders[name], mask_fraction), exclusion).stages,
            exclusion,
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
) -> Examination:
    """Read all samples of a dataset once.

    Args:
        name: Of the dataset.
        shards: Paths or addresses.
        judges: What streams make of its samples.
        long_caption: Says of a caption whether it is too long; None counts words.
        workers: Processes; 1 reads in this one.

    Raises:
        ConfigError: If a shard cannot be read, or is no tar; names all of them.
    """
    indexes = find_indexes(shards, workers)
    found = Examination(name, list(shards), indexes)
    found.bad = [
        Bad(shard_name(i), key, (), reason, field_of(reason, {})) for i in indexes for reason, key in i.problems
    ]
    look = partial(_look, name, dict(judges), long_caption or _is_long)
    for part in survey(shards, indexes, look, workers):
        found.counts.add(part.counts)
        found.bad += part.bad
        found.eligible.update(part.eligible)
        found.excluded.update(part.excluded)
        found.parts.update(part.parts)
    return found


def first_pass(plan: Plan, stream: str, dataset: str) -> list[tuple[int, int]]:
    """Shards and rows of a stream's first pass over a dataset, in the order in which they are dealt."""
    size = min(plan.sizes()[stream, dataset], _DEALT)
    places: list[tuple[int, int]] = []
    step = 0
    while len(places) < size:
        if plan.stream_of(step) == stream and plan.dataset_of(step) == dataset:
            places += [(row.shard, row.row) for row in plan.rows(step)]
        step += 1
    return places[:size]


def plain_plan(examination: Examination, seed: int = 0) -> Plan | None:
    """The plan of streams of each kind over a dataset, where there is no recipe; None if it holds nothing."""
    rows = {kind: [index.eligible(kind) for index in examination.indexes] for kind in BATCH_TYPES}
    held = {kind: found for kind, found in rows.items() if sum(map(len, found))}
    if not held:
        return None
    streams = {kind: Stream(kind, {examination.name: examination.shards}, _BATCH) for kind in held}
    return Plan({str(k): s for k, s in streams.items()}, {k: {examination.name: f} for k, f in held.items()}, seed)


@dataclass
class _Part:
    counts: Counts = field(default_factory=Counts)
    bad: list[Bad] = field(default_factory=list)
    eligible: Counter[str] = field(default_factory=Counter)
    excluded: Counter[str] = field(default_factory=Counter)
    parts: Counter[tuple[str, str]] = field(default_factory=Counter)


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
    able = {kind: set(index.eligible(kind).tolist()) for kind in BATCH_TYPES}
    for row in rows:
        begun = _Begun(dataset, index, row)
        failures: dict[tuple[str, str, str], list[str]] = {}
        for name, judge in judges.items():
            if row not in able[judge.kind]:
                continue
            if judge.exclusion is not None and judge.exclusion.reason(index.image_ids[row]) is not None:
                part.excluded[name] += 1
                continue
            try:
                work = begun.lead(judge)
                part.parts.update((name, reason.removeprefix(PART)) for reason in work.lost)
            except BadSample as error:
                if error.reason.startswith("excluded"):
                    part.excluded[name] += 1
                    continue
                record, size = (begun.work.record, begun.work.stored_size) if begun.work else ({}, (0, 0))
                where = field_of(error.reason, record, *size)
                failures.setdefault((error.reason, where, error.detail), []).append(name)
            part.eligible[name] += 1
        for (reason, where, detail), streams in failures.items():
            part.bad.append(Bad(shard_name(index), index.keys[row], tuple(streams), reason, where, detail))
        begun.count(part.counts, long_caption)
    return part


class _Begun:
    """A sample that is read and decoded once for all judges that begin alike."""

    def __init__(self, dataset: str, index: ShardIndex, row: int) -> None:
        self.work: Work | None = None
        self._origin = dataset, index, row
        self._tried: list[tuple[list[Stage], Work, BadSample | None]] = []

    def lead(self, judge: Judge) -> Work:
        """Lead the sample through a judge's stages.

        Raises:
            BadSample: If one of them refuses it.
        """
        first = next(i for i, (name, _) in enumerate(judge.stages, 1) if name == "decode")
        stages = [stage for _, stage in judge.stages]
        work = self._begin(stages[:first])
        for stage in stages[first:]:
            stage(work)
        return work

    def _begin(self, stages: list[Stage]) -> Work:
        dataset, index, row = self._origin
        found = next(((work, error) for tried, work, error in self._tried if tried == stages), None)
        if found is None:
            work = Work(dataset, index, row, np.random.default_rng(0))
            error = None
            try:
                for stage in stages:
                    stage(work)
            except BadSample as refused:
                error = refused
            self._tried.append((stages, work, error))
            self.work = self.work or work
        else:
            work, error = found
        if error is not None:
            raise error
        return replace(work, rng=np.random.default_rng([number_of(work.place)]), lost=[])

    def count(self, counts: Counts, long_caption: Callable[[str], bool]) -> None:
        """Count what the sample holds."""
        dataset, index, row = self._origin
        work = self.work or Work(*self._origin, np.random.default_rng(0))
        raw = work.raw or index.read(row)
        kind, size = _header(raw.image)
        counts.formats[kind] += 1
        source = str(work.record.get("source") or dataset)
        place = f"{shard_name(index)}/{index.keys[row]}"
        counts.count(place, raw.image, index.image_ids[row], source, work.record, work.captions, size, long_caption)


def _header(image: bytes) -> tuple[str, tuple[int, int]]:
    """Format and mode, and size, as the head of an image file says."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(image)) as opened:
                return f"{opened.format} {opened.mode}", opened.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return "unreadable", (0, 0)


def _repeats(values: NDArray[np.int64]) -> int:
    """How many values come after an equal one."""
    return len(values) - len(np.unique(values))
