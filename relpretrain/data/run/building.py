"""From streams and what their shards hold to batches of any step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relpretrain.data import checks
from relpretrain.data.batches import Batches
from relpretrain.data.loading import StepDataset
from relpretrain.data.pipeline.stages import Pipeline
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.text_writer import TextWriter
from relpretrain.data.run.place import Place
from relpretrain.data.sampling.eligible import eligible_counts
from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.data.sampling.outside import vocabulary_of
from relpretrain.data.sampling.schedule import BatchSchedule, first_shard
from relpretrain.data.sampling.stream import Stream, with_defaults
from relpretrain.data.shards.cache import Cache
from relpretrain.data.shards.manifest import ShardEntry

VALIDATION = "validation "
"""Stands before the name of a validation stream among all streams."""

VALIDATION_SEED = 0
"""Fixed, so that every run validates on the same batches."""

Shards = Mapping[str, Mapping[str, Sequence[ShardEntry]]]


@dataclass(frozen=True)
class BatchBuilder:
    """Builds batches: what all streams of a run share.

    Args:
        tokenizer: Of all texts.
        image_size: Side of the images that the model sees, in pixels.
        mask_fraction: Fraction of tokens masked for MLM.
        separator: Whether a text ends with [SEP].
        clean: Whether texts are cleaned as in the official ALBEF and X-VLM code.
        objectives: The model's objectives by name, which say what their streams leave open.
        place: Where this process stands.
    """

    tokenizer: Any
    image_size: int
    mask_fraction: float
    separator: bool
    clean: bool
    objectives: Mapping[str, Any]
    place: Place

    def check_texts(
        self,
        name: str,
        stream: Stream,
        shards: Mapping[str, Sequence[ShardEntry]],
        cache: Cache,
        seed: int,
        groups: int,
    ) -> list[str]:
        """Report a limit on the length of a stream's texts that is too short for them.

        Args:
            name: Of the stream, with `VALIDATION` before it if it is one of these.
            stream: The stream.
            shards: What its shards hold, by dataset.
            cache: Fetches a shard where all are remote.
            seed: Of training.
            groups: Number of groups in training.
        """
        try:
            encoder = self._encoder(stream)
        except ValueError as error:
            return [f"Stream {name!r}: {error}"]
        if stream.kind != "graphs":
            return []

        known = name.removeprefix(VALIDATION)
        own_seed, parts = (seed, groups) if name == known else (VALIDATION_SEED, 1)

        def first(dataset: str, rows: NDArray[np.int64]) -> int:
            own = self.place.groups(parts)[0]
            return first_shard(known, dataset, rows, stream.batch_size, own_seed, parts, own)

        return checks.text_limits(name, stream, shards, encoder, cache, first)

    def batches(
        self,
        streams: Mapping[str, Stream],
        shards: Shards,
        seed: int,
        exclusion: Exclusion | None = None,
        groups: int = 1,
    ) -> Batches:
        """The batches of some streams.

        Args:
            streams: The streams as written in the recipe, by name.
            shards: What their shards hold.
            seed: Of all random choices.
            exclusion: Images to leave out.
            groups: Parts of the joint batch that draw from spans of the epoch of their own.
        """
        counts, _ = eligible_counts(streams, shards)
        schedule = BatchSchedule(streams, counts, seed, "" if exclusion is None else exclusion.fingerprint, groups)
        pipelines = {name: self._pipeline(stream, exclusion) for name, stream in streams.items()}
        place = self.place
        return Batches(schedule, shards, pipelines, self.tokenizer.pad_token_id, place.rank, place.world_size)

    def validation(self, streams: Mapping[str, Stream], shards: Shards, most: int) -> list[StepDataset]:
        """The batches of each validation stream: so many, at most one epoch, and the same in every run."""
        made = []
        for name, stream in streams.items():
            batches = self.batches({name: dataclasses.replace(stream, ratio=1.0)}, shards, VALIDATION_SEED)
            whole = sum(batches.schedule.sizes().values()) // stream.batch_size
            made.append(StepDataset(batches, stop=min(most, max(whole, 1))))
        return made

    def _encoder(self, stream: Stream) -> TextEncoder:
        return TextEncoder(self.tokenizer, stream.max_tokens, self.separator, self.clean)

    def _pipeline(self, recipe: Stream, exclusion: Exclusion | None) -> Pipeline:
        """A stream's pipeline from a stored sample to an example."""
        stream = with_defaults(recipe, self.objectives)
        vocabulary = vocabulary_of(stream, self.objectives)
        writer = TextWriter(stream, self._encoder(stream), self.mask_fraction, vocabulary)
        return Pipeline(stream, self.image_size, writer, exclusion)
