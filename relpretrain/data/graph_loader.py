"""Graph batches for training scripts of your own."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relpretrain.data import checks
from relpretrain.data.bad_samples import BadSampleTracker
from relpretrain.data.batches import Batches
from relpretrain.data.fetching import Counters, Demand, Fetcher
from relpretrain.data.loading import StepDataset, step_loader
from relpretrain.data.pipeline.host_images import HostTransform, ImageTransform
from relpretrain.data.pipeline.host_tokenizer import Padding, SentenceEncoder, text_encoder
from relpretrain.data.pipeline.images import IMAGE_MEAN, IMAGE_STD
from relpretrain.data.pipeline.stages import Pipeline
from relpretrain.data.pipeline.text_writer import TextWriter
from relpretrain.data.run.place import Place
from relpretrain.data.sampling.eligible import eligible_counts
from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.data.sampling.schedule import BatchSchedule, first_shard
from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards import verify
from relpretrain.data.shards.cache import GB, Cache
from relpretrain.data.shards.manifest import ShardEntry, relation_total
from relpretrain.data.shards.opened import OpenShards
from relpretrain.data.workers import local_processes, shared_memory
from relpretrain.distributed import rank, world_size
from relpretrain.errors import ConfigError
from relpretrain.scene_graph import RelationVocabulary, coverage, tell_outside
from relpretrain.scene_graph.foils import GRAPH_KINDS, Synonyms
from relpretrain.showing import visible
from relpretrain.types import GraphBatch, Normalisation

_NAME = "graphs"


def graph_loader(
    shards: str | Sequence[str] | Mapping[str, str | list[str]],
    tokenizer: Any,
    batch_size: int,
    image_size: int = 224,
    *,
    relations_per_text: int = 8,
    relations_per_image: int = 2,
    boxed: bool = False,
    min_confidence: float = 0.0,
    confidence_weights: bool = False,
    foils_per_text: int = 0,
    foil_kinds: Sequence[str] = GRAPH_KINDS,
    foil_names: Sequence[str] | None = None,
    units_per_image: int = 0,
    positions_per_text: int = 0,
    blocks_per_text: int = 0,
    mirrored: float = 0.0,
    foil_synonyms: Synonyms = "auto",
    vocabulary: str | RelationVocabulary | None = None,
    max_tokens: int = 112,
    separator: bool | None = None,
    mask_fraction: float = 0.25,
    mean: Sequence[float] = IMAGE_MEAN,
    std: Sequence[float] = IMAGE_STD,
    transform: ImageTransform | Any = None,
    min_scale: float = 0.5,
    flip: float = 0.5,
    color: bool = True,
    exclude: str | None = None,
    max_bad_fraction: float = 0.05,
    endless: bool = True,
    seed: int = 0,
    num_workers: int = 0,
    groups: int | None = None,
    cache_gb: float | None = None,
    worker_timeout: float = 1200.0,
) -> GraphLoader:
    """Load batches of images with scene graphs, for `relation_losses` and for `add_relation_objectives(loader=...)`.

    The batch of any step is a pure function of the seed and the step, on any number of workers and processes; each
    process gets its slice. Images are cropped, flipped and jittered so that boxes and relations stay true.

    Args:
        shards: Tar shards in the sample format: a folder, file, glob or address, a list of these, or several data sets
            by name.
        tokenizer: The host's own: a Hugging Face tokenizer or the name of one, or one of OpenCLIP.
        batch_size: Images in a batch, over all processes together.
        image_size: Side of the images that the host sees, in pixels.
        relations_per_text: Triplets verbalised into one text (VSG's K).
        relations_per_image: Triplets drawn from an image for MRC.
        boxed: Whether only graphs are drawn with a relation between two entities that have boxes: all that MRC uses.
        min_confidence: Relations of less confidence are left out, and with them samples that have no other.
        confidence_weights: Whether VSG weighs a text, and MRC a triplet, by its confidence; no other objective weighs
            anything by it.
        foils_per_text: False texts made of a text, each of another kind (for `TextFoil`).
        foil_kinds: What these may change, of `relpretrain.scene_graph.foils.KINDS`.
        foil_names: Names of things that may stand in the place of others in foils; None for common ones.
        units_per_image: Single triplets as short texts with a foil each (for `RelationUnits` and `MultiPositive`).
        positions_per_text: Relations that boxes tell ("left of") which join those that a text is drawn from.
        blocks_per_text: Sentences at the end of a text that say in which block of a 3 x 3 grid a thing is (PTP).
        mirrored: Probability with which an image whose text tells left from right comes as its mirror image as well, as
            a further row: batches are then of different sizes.
        foil_synonyms: What knows which words may be said of one thing: "table", "wordnet", or "auto" for WordNet where
            nltk has its data.
        vocabulary: Relations that those are drawn from: what MRC has; None takes all. How many of the shards' relations
            are outside it is printed, and a warning if it is more than a third.
        max_tokens: Maximum length of a text, special tokens included.
        separator: Whether labels end with [SEP] (the official ALBEF and X-VLM texts do not); None for what the
            tokenizer itself does. Triplets always do.
        mask_fraction: Fraction of tokens masked; a tokenizer without [MASK] masks none.
        mean: Of the host's colour channels, in [0, 1]; CLIP's if not given.
        std: Of the host's colour channels.
        transform: The host's own transform of an image of `image_size` pixels to a tensor, in place of `mean` and
            `std`: its evaluation transform or a Hugging Face image processor. It must not move anything in the image.
        min_scale: Smallest fraction of the area that a random crop keeps; 1 switches cropping off.
        flip: Probability of a horizontal flip, applied only where texts stay true.
        color: Whether colours are jittered.
        exclude: An exclusion list, see `relpretrain.data.sampling.exclusion`.
        max_bad_fraction: Fraction of bad samples above which loading stops.
        endless: Whether an iteration never ends; else each iteration is one epoch.
        seed: Seed of all random choices.
        num_workers: Processes that prepare batches.
        groups: Parts of the joint batch that each draw from a span of the epoch of their own; None for the number of
            machines, as torchrun or SLURM tells it. A resumed loader keeps its checkpoint's.
        cache_gb: Gigabytes that the copies of remote shards may take on each machine; None for no limit.
        worker_timeout: Seconds after which a worker that gives no batch ends the iteration, by name; 0 waits for ever.

    Raises:
        ConfigError: All problems together, one line each.

    Warns:
        UserWarning: If more than a third of the relations of a data set are outside `vocabulary`.
    """
    datasets = (
        dict(shards) if isinstance(shards, Mapping) else {_NAME: shards if isinstance(shards, str) else [*shards]}
    )
    stream = Stream(
        "graphs",
        datasets,
        batch_size,
        max_tokens=max_tokens,
        relations_per_text=relations_per_text,
        relations_per_image=relations_per_image,
        boxed=boxed,
        min_confidence=min_confidence,
        confidence_weights=confidence_weights,
        foils_per_text=foils_per_text,
        foil_kinds=list(foil_kinds),
        foil_names=None if foil_names is None else list(foil_names),
        units_per_image=units_per_image,
        unit_kinds=list(foil_kinds),
        positions_per_text=positions_per_text,
        blocks_per_text=blocks_per_text,
        mirrored=mirrored,
        foil_synonyms=foil_synonyms,
        min_scale=min_scale,
        flip=flip,
        color=color,
    )
    streams = {_NAME: stream}
    problems = checks.settings(streams, world_size())
    problems += checks.image_size(image_size, None)
    problems += checks.fractions(mask_fraction=mask_fraction, max_bad_fraction=max_bad_fraction)
    found = checks.find(streams, problems, num_workers if world_size() == 1 else 0)
    problems += checks.holdings(streams, found, max_bad_fraction)
    groups = _place().machines if groups is None else groups
    problems += checks.grouping(groups, _place().machines, streams, found)
    cache = Cache(None if cache_gb is None else int(cache_gb * GB))

    def first(dataset: str, rows: NDArray[np.int64]) -> int:
        return first_shard(_NAME, dataset, rows, batch_size, seed, groups, _place().groups(groups)[0])

    try:
        encoder = text_encoder(tokenizer, max_tokens, separator)
        problems += checks.text_limits(_NAME, stream, found[_NAME], encoder, cache, first)
        if isinstance(vocabulary, str):
            vocabulary = RelationVocabulary.load(vocabulary)
        exclusion = None if exclude is None else Exclusion.load(exclude)
    except (OSError, ValueError) as error:
        problems.append(str(error))
    if problems:
        raise ConfigError(problems)
    if encoder.tokenizer.mask_token_id is None:
        mask_fraction = 0.0
    for line in verify.notices(entry for entries in found[_NAME].values() for entry in entries):
        warnings.warn(visible(line), stacklevel=2)
    assert vocabulary is None or isinstance(vocabulary, RelationVocabulary)
    writer = TextWriter(stream, encoder, mask_fraction, vocabulary)
    host = None if transform is None else HostTransform(image_size, transform)
    pipeline = Pipeline(stream, image_size, writer, exclusion, Normalisation(tuple(mean), tuple(std)), host)
    counts, _ = eligible_counts(streams, found)
    schedule = BatchSchedule(streams, counts, seed, "" if exclusion is None else exclusion.fingerprint, groups)
    problems = checks.workers(num_workers, schedule)
    processes, bytes_ = local_processes(world_size()), 1 if host is None else 4
    problems += shared_memory(streams, image_size, num_workers, 2, world_size(), processes, bytes_)
    if problems:
        raise ConfigError(problems)
    loader = GraphLoader(schedule, found[_NAME], pipeline, encoder.tokenizer.pad_token_id, endless, num_workers, cache)
    loader.worker_timeout = worker_timeout
    if problems := loader.demand.problems():
        raise ConfigError(problems)
    if isinstance(encoder, SentenceEncoder):
        loader.padding = encoder.padding
    loader.bad_samples = BadSampleTracker(
        max_bad_fraction, {dataset: size for (_, dataset), size in schedule.sizes().items()}
    )
    for dataset, entries in found[_NAME].items():
        for entry in entries:
            loader.bad_samples.add_entry(dataset, entry)
    if vocabulary is not None and rank() == 0:
        tell_outside({dataset: coverage(counts, vocabulary) for dataset, counts in loader.relation_counts.items()})
    return loader


class GraphLoader:
    """Batches of graphs in the order of their steps; made by `graph_loader`.

    Each iteration continues after the last batch that was taken.

    Args:
        schedule: The samples of every step.
        shards: What the shards of each dataset hold.
        pipeline: From a stored sample to an example.
        pad_id: Id of the padding token.
        endless: Whether an iteration never ends; else it is one epoch.
        num_workers: Processes that prepare batches.
        cache: The copies of remote shards.
    """

    def __init__(
        self,
        schedule: BatchSchedule,
        shards: Mapping[str, Sequence[ShardEntry]],
        pipeline: Pipeline,
        pad_id: int,
        endless: bool = True,
        num_workers: int = 0,
        cache: Cache | None = None,
    ) -> None:
        self.schedule = schedule
        self.shards = shards
        self.pipeline = pipeline
        self.pad_id = pad_id
        self.endless = endless
        self.num_workers = num_workers
        self.next_step = 0
        self.bad_samples = BadSampleTracker(1.0)
        self.padding: Padding | None = None
        self.cache = cache or Cache()
        self.worker_timeout = 1200.0

    def __len__(self) -> int:
        """Batches of an epoch.

        Raises:
            TypeError: If the loader is endless.
        """
        if self.endless:
            raise TypeError("An endless graph_loader has no length: give endless=False for epochs.")
        return self._epoch_batches()

    def __iter__(self) -> Iterator[GraphBatch]:
        """Continue from the next step.

        Raises:
            TooManyBadSamples: If more samples are bad than `max_bad_fraction` tolerates.
        """
        stop = None if self.endless else (self.next_step // self._epoch_batches() + 1) * self._epoch_batches()
        demand = self.demand
        demand.at(self.next_step)
        fetcher = Fetcher(demand, Counters())
        batches = Batches(
            self.schedule, {_NAME: self.shards}, {_NAME: self.pipeline}, self.pad_id, rank(), world_size(),
            OpenShards(self.cache, demand.keep),
        )  # fmt: skip
        dataset = StepDataset(batches, self.next_step, stop)
        loader = step_loader(dataset, self.num_workers, timeout=self.worker_timeout, finish=self.padding)
        if demand.any and _place().fetches:
            fetcher.start()
        try:
            for batch in loader:
                assert isinstance(batch, GraphBatch)
                self.bad_samples.add(batch)
                self.next_step = batch.step + 1
                demand.at(self.next_step)
                yield batch
        finally:
            fetcher.stop()

    @property
    def demand(self) -> Demand:
        """Which remote shards this machine needs."""
        own, under_way = _place().groups(self.schedule.groups), 2 * self.num_workers + 2
        return Demand(self.schedule, {_NAME: self.shards}, own, under_way, self.cache)

    @property
    def relation_counts(self) -> dict[str, Counter[str]]:
        """How often each relation occurs, by dataset."""
        return {dataset: relation_total(entries) for dataset, entries in self.shards.items()}

    def seek(self, step: int) -> None:
        """Let the next iteration begin at a step."""
        self.next_step = step

    def state_dict(self) -> dict[str, Any]:
        """The position, for a checkpoint."""
        return {"next_step": self.next_step, "schedule": self.schedule.fingerprint, "groups": self.schedule.groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue after the last batch of a checkpoint, with its groups; warns if the data differs."""
        groups = int(state_dict.get("groups", 1))
        if groups != self.schedule.groups:
            self.schedule = self.schedule.in_groups(groups)
            problems = checks.grouping(groups, _place().machines, self.schedule.streams, {_NAME: self.shards})
            if problems := problems or self.demand.problems():
                raise ConfigError(problems)
        if state_dict.get("schedule") != self.schedule.fingerprint:
            warnings.warn(
                f"The graphs differ from the checkpoint's (seed, batch size or shards): step {state_dict['next_step']} "
                "goes on with the new schedule, and samples of the running epoch may come again or not at all.",
                stacklevel=2,
            )
        self.seek(int(state_dict["next_step"]))

    def report(self) -> dict[str, dict[str, int]]:
        """Counts of this process's bad samples so far, by dataset and reason."""
        return self.bad_samples.report()

    def _epoch_batches(self) -> int:
        """Number of whole batches in an epoch, at least 1."""
        return max(sum(self.schedule.sizes().values()) // self.schedule.streams[_NAME].batch_size, 1)


def _place() -> Place:
    """Where this process stands, as torchrun or SLURM tells it."""
    processes = local_processes(world_size())
    return Place(rank(), world_size(), max(world_size() // processes, 1), processes)
