"""The LightningDataModule of a run: mixes streams, checks settings, and resumes at the next batch."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from torch.utils.data import ChainDataset, DataLoader, IterableDataset

from relpretrain.data import checks, trainer_flags
from relpretrain.data.bad_samples import BadSampleTracker
from relpretrain.data.batches import Batches
from relpretrain.data.fetching import Counters, Demand, Fetcher, cache_counters
from relpretrain.data.loading import StepDataset, step_loader
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.data.pipeline.stages import Pipeline
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.text_writer import TextWriter
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.data.sampling.eligible import eligible_counts
from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.data.sampling.outside import outside, vocabulary_of
from relpretrain.data.sampling.schedule import (
    BatchSchedule,
    differences,
    first_shard,
    groups_of,
    wrong_stream_ratios,
)
from relpretrain.data.sampling.stream import Stop, Stream, with_defaults
from relpretrain.data.sampling.summary import crowded_lines, passes, schedule_lines, worn_lines
from relpretrain.data.shards import verify
from relpretrain.data.shards.cache import GB, Cache
from relpretrain.data.shards.manifest import ShardEntry
from relpretrain.data.shards.opened import OpenShards
from relpretrain.data.workers import local_processes, shared_memory
from relpretrain.distributed import rank, world_size
from relpretrain.errors import ConfigError
from relpretrain.identity import fingerprint
from relpretrain.scene_graph import Coverage, coverage_lines, warn_outside
from relpretrain.showing import say, visible
from relpretrain.types import Batch

_VALIDATION_SEED = 0  # fixed, so that every run validates on the same batches
_TOLD = 4  # differences from a checkpoint's data that are named


class RelationDataModule(LightningDataModule):
    """Streams of captions, regions and scene graphs, mixed by ratio.

    The samples of a step and all random choices on them are a pure function of (seed, step), for any number of workers
    and processes, so a resumed run continues with exactly the next batch.

    Args:
        streams: Sources of training batches by name; one with ratio 0 is off.
        tokenizer: A Hugging Face tokenizer by name, or a folder.
        image_size: Side of the images that the model sees, in pixels.
        seed: Seed of all random choices.
        num_workers: Processes that index shards, and then prepare batches; 0 for the main process.
        validation: Sources of validation batches by name.
        validation_batches: Batches of each, at most one epoch; not augmented, and the same in every run.
        mask_fraction: Fraction of tokens masked for MLM.
        separator: Whether a text ends with [SEP].
        clean: Whether texts are cleaned as in the official ALBEF and X-VLM code: lower case, most punctuation removed.
        max_bad_fraction: Largest fraction of a dataset's samples that may be bad; the run stops above it.
        prefetch: Batches that each worker prepares in advance.
        worker_timeout: Seconds after which a worker that gives no batch ends the run, by name; 0 waits for ever.
        stop: When training ends before the trainer's `max_steps`: "first_exhausted" before a dataset would begin its
            second epoch, "all_exhausted" when every dataset has completed its first.
        exclude: A list of images never to train on, as `relpretrain data audit` writes it.
        groups: Parts of the joint batch that each draw from a span of the epoch of their own, so that a machine fetches
            the shards of its groups alone; None for the number of machines. A resumed run keeps its checkpoint's.
        cache_gb: Gigabytes (10^9 bytes) that the copies of remote shards may take on each machine; None for no limit.
    """

    def __init__(
        self,
        streams: dict[str, Stream],
        tokenizer: str,
        image_size: int = 224,
        seed: int = 0,
        num_workers: int = 0,
        validation: dict[str, Stream] | None = None,
        validation_batches: int = 8,
        mask_fraction: float = 0.25,
        separator: bool = True,
        clean: bool = False,
        max_bad_fraction: float = 0.05,
        prefetch: int = 2,
        worker_timeout: float = 1200.0,
        stop: Stop = "max_steps",
        exclude: str | None = None,
        groups: int | None = None,
        cache_gb: float | None = None,
    ) -> None:
        super().__init__()
        self.streams = {name: stream for name, stream in streams.items() if stream.ratio != 0}
        self.tokenizer_name = tokenizer
        self.image_size = image_size
        self.seed = seed
        self.num_workers = num_workers
        self.validation = {
            name: dataclasses.replace(stream, min_scale=1.0, flip=0.0, color=False)
            for name, stream in (validation or {}).items()
        }
        self.validation_batches = validation_batches
        self.mask_fraction = mask_fraction
        self.separator = separator
        self.clean = clean
        self.max_bad_fraction = max_bad_fraction
        self.prefetch = prefetch
        self.worker_timeout = worker_timeout
        self.stop = stop
        self.exclude = exclude
        self.groups = groups
        self.cache_gb = cache_gb
        self.announces = True
        """Whether `setup` prints the whole plan, or only which relations are outside the vocabulary."""
        self.never_drawn: dict[tuple[str, str], dict[str, int]] = {}
        """Number of samples that training never draws, by stream and dataset, and by reason."""
        self._outside: dict[tuple[str, str], Coverage] = {}
        self.schedule: BatchSchedule | None = None
        self.bad_samples = BadSampleTracker(max_bad_fraction)
        self._tokenizer: Any = None
        self._train: StepDataset | None = None
        self._val: list[StepDataset] = []
        self._next = 0
        self._accumulation: tuple[int, int] | None = None  # current optimizer step, and its first batch
        self._resumed: dict[str, Any] | None = None
        self._shards: dict[str, dict[str, list[ShardEntry]]] = {}
        self._found: tuple[dict[str, dict[str, list[ShardEntry]]], list[str]] | None = None
        self._cache = Cache()
        self._counters: list[Counters] = []
        self._fetcher: Fetcher | None = None

    @property
    def preprocess(self) -> Preprocess:
        """Turns images and texts into the model's input in evaluation; saved in checkpoints."""
        limits = [stream.max_tokens for stream in (*self.streams.values(), *self.validation.values())]
        limit = max(limits, default=40)
        return Preprocess(self._load_tokenizer(), self.image_size, limit, self.separator, clean=self.clean)

    def prepare_data(self) -> None:
        """Make and store what lacks of manifests, on one process per machine. `setup` reports the problems."""
        self._find([])

    def _find(self, problems: list[str]) -> dict[str, dict[str, list[ShardEntry]]]:
        """What the manifests of all streams' shards say, looked up once; problems are looked at anew the next time."""
        if self._found is None or self._found[1]:
            told: list[str] = []
            self._found = checks.find(self._all_streams(), told, self.num_workers if world_size() == 1 else 0), told
        problems += self._found[1]
        return self._found[0]

    def optimizer_steps(self, accumulate: int = 1, objectives: Mapping[str, Any] | None = None) -> int | None:
        """Optimizer steps after which the stopping rule ends training: a Trainer's `max_steps` should be no more.

        Args:
            accumulate: The Trainer's `accumulate_grad_batches`.
            objectives: The model's objectives by name: which samples a stream draws may depend on its own.

        Returns:
            None where no rule ends training, and where settings or data have a problem, which `setup` will report.
        """
        if self.stop == "max_steps" or self._check_settings(self.streams):
            return None
        self._settle(dict((objectives or {}).items()))
        problems: list[str] = []
        self._load_exclusion(problems)
        shards = self._find(problems)
        if problems or checks.holdings(self.streams, shards, self.max_bad_fraction):
            return None
        counts, _ = eligible_counts(self.streams, shards)
        end = BatchSchedule(self.streams, counts, self.seed).end(self.stop)
        return None if end is None else trainer_flags.optimizer_steps(end, accumulate)

    @property
    def _objectives(self) -> dict[str, Any]:
        """The objectives of the trainer's model by name."""
        module = None if self.trainer is None else self.trainer.lightning_module
        return dict(getattr(module, "objectives", {}).items())

    def _settle(self, objectives: Mapping[str, Any]) -> None:
        """Fill in what the streams leave to their objectives, of which the schedule is to know."""
        for streams in (self.streams, self.validation):
            for name, stream in streams.items():
                if objectives.keys() >= set(stream.objectives):
                    streams[name] = dataclasses.replace(stream, boxed=with_defaults(stream, objectives).boxed)

    def setup(self, stage: str | None = None) -> None:
        """Find the shards' manifests, and check all that can be known before training.

        Raises:
            ConfigError: All problems together, one line each.
        """
        if self.schedule is not None:
            return
        problems: list[str] = []
        self._settle(self._objectives)
        streams = self._all_streams()
        problems += self._check_settings(streams)
        exclusion = self._load_exclusion(problems)
        # What `prepare_data` could not store is made again, by every process.
        self._shards = shards = self._find(problems)
        problems += checks.holdings(streams, shards, self.max_bad_fraction)
        groups = self._first_groups() if self._resumed is None else int(self._resumed.get("groups", 1))
        problems += checks.grouping(groups, self._nodes, self.streams, shards)
        self._cache = Cache(None if self.cache_gb is None else int(self.cache_gb * GB))
        try:
            tokenizer = self._load_tokenizer()
        except ValueError as error:
            problems.append(str(error))
        else:
            for name, stream in streams.items():
                problems += self._check_texts(name, stream, shards[name], tokenizer, groups)
        if problems:
            raise ConfigError(problems)
        self._build_datasets(shards, exclusion, groups)
        assert self.schedule is not None
        problems = checks.workers(self.num_workers, self.schedule)
        processes = getattr(self.trainer, "num_devices", None) or local_processes(world_size())
        problems += shared_memory(
            self.streams, self.image_size, self.num_workers, self.prefetch, world_size(), processes, 1
        )
        if problems:
            self.schedule = None
            raise ConfigError(problems)
        if stage in (None, "fit"):
            self._find_end()
        if rank() == 0:
            outside_of = {f"{dataset} (stream {name})": of for (name, dataset), of in self._outside.items()}
            if lines := self.describe() if self.announces else coverage_lines(outside_of):
                say("\n".join(lines))
            for line in crowded_lines(self.schedule):
                rank_zero_warn(line)
            for line in verify.notices(entry for of in shards.values() for found in of.values() for entry in found):
                rank_zero_warn(visible(line))
            warn_outside(outside_of)
        if stage == "fit" and self.trainer is not None:
            notices = trainer_flags.notices(self.trainer, self.stop, self.schedule, bool(self._val))
            for line in notices + worn_lines(self.schedule, self.passes()):
                rank_zero_warn(line)

    def describe(self) -> list[str]:
        """Lines of text: number of batches, and for each stream and dataset its batches, samples and epochs."""
        if self.schedule is None or self._train is None:
            return []
        accumulate = getattr(self.trainer, "accumulate_grad_batches", 1)
        lines = schedule_lines(self.schedule, *self._steps(), accumulate, world_size(), self.never_drawn, self._outside)
        if self.exclude is not None:
            lines.append(f"  images on {self.exclude} are left out when they are met, others come in their places")
        return lines

    def passes(self) -> dict[tuple[str, str], float]:
        """How many times the whole run sees each sample, by stream and dataset; empty where it has no end."""
        if self.schedule is None or self._train is None or self._train.repeat or (batches := self._steps()[0]) is None:
            return {}
        return passes(self.schedule, batches)

    def counters(self) -> dict[str, float]:
        """Samples taken so far by all processes together, and epochs of each dataset, by the names of the logs."""
        if self.schedule is None or trainer_flags.overfit_batches(self.trainer):
            return {}
        sizes, found = self.schedule.sizes(), {}
        for (stream, dataset), samples in self.schedule.taken(self._next).items():
            found[f"data/{stream}/{dataset}_samples"] = float(samples)
            found[f"data/{stream}/{dataset}_epochs"] = samples / sizes[stream, dataset]
        if self._fetcher is not None and self._fetcher.demand.any:
            found |= cache_counters(self._cache, [*self._counters, self._fetcher.counters])
        return found

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches from the next step on, up to the step at which the stopping rule ends the run, if any."""
        if self._train is None or self.schedule is None:
            raise ConfigError("There is no training data: call setup() first.")
        if self._resumed is not None:
            if (
                self._resumed.get("schedule") != self.schedule.fingerprint
                or self._resumed.get("settings", {}).get("contents", self._contents) != self._contents
            ):
                changed = differences(self._resumed.get("settings", {}), self._description())
                told = f" ({'; '.join(changed[:_TOLD])})" if "settings" in self._resumed else ""
                warnings.warn(
                    f"The data differs from the checkpoint's (seed, streams or shards){told}: step {self._next} goes "
                    "on with the new schedule, samples of the running epoch may come again or not at all, and what is "
                    "left out is counted anew.",
                    stacklevel=2,
                )
            elif rank() == 0:  # whose counts a checkpoint has
                self.bad_samples.go_on(self._resumed.get("bad_samples", {}))
            self._resumed = None
        self._train.upcoming = self._next
        self._note_position()
        if self._fetcher is not None and self._fetcher.demand.any and rank() % self._processes == 0:
            self._fetcher.start()
        self._end_at(self._next)
        return self._loader(self._train, self.num_workers)

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """The validation batches, one stream after another; `Batch.stream` is its name.

        With `limit_val_batches` as a number, a loader per stream, as the trainer's limit is per loader.
        """
        if not self._val:
            return []
        if isinstance(getattr(self.trainer, "limit_val_batches", 1.0), int):
            return [self._loader(dataset, min(self.num_workers, 1)) for dataset in self._val]
        chained: IterableDataset[Batch] = ChainDataset(self._val)
        return self._loader(chained, min(self.num_workers, 1))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Count bad samples, and record the next step."""
        if isinstance(batch, Batch):
            if self._train is None or not self._train.repeat or batch.step < self._train.repeat:
                self.bad_samples.add(batch)
            if self.trainer is None or self.trainer.training:
                self._next = batch.step + 1
                self._end_at(self._next)
                under_way = getattr(self.trainer, "global_step", 0)
                if self._accumulation is None or self._accumulation[0] != under_way:
                    self._accumulation = under_way, batch.step
                if self._train is not None:
                    self._train.upcoming = self._next
                    self._note_position()
        return batch

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs; within a gradient accumulation it restarts from the first batch of that."""
        upcoming = self._next
        if self._accumulation is not None and self._accumulation[0] == getattr(self.trainer, "global_step", None):
            upcoming = self._accumulation[1]
        if self.schedule is None:
            return {"next_step": upcoming, "schedule": ""}
        taken = {"/".join(source): samples for source, samples in self.schedule.taken(upcoming).items()}
        return {
            "next_step": upcoming,
            "schedule": self.schedule.fingerprint,
            "groups": self.schedule.groups,
            "settings": self._description(),
            "taken": taken,
            "bad_samples": self.bad_samples.state(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue after the last batch of a checkpoint, with its groups.

        Raises:
            ConfigError: If the machines of this run cannot share these.
        """
        self._next, self._accumulation = int(state_dict["next_step"]), None
        self._resumed = dict(state_dict)
        groups = int(state_dict.get("groups", 1))
        if self.schedule is None or groups == self.schedule.groups:
            return
        rank_zero_warn(
            f"The joint batches of the checkpoint are divided among {groups} group(s) (data.groups), and go on so; a "
            f"new run would have {self.schedule.groups}."
        )
        if problems := checks.grouping(groups, self._nodes, self.streams, self._shards):
            raise ConfigError(problems)
        self._use(self.schedule.in_groups(groups))

    def report(self) -> dict[str, dict[str, int]]:
        """Counts of this process's bad samples so far, by dataset and reason; the first process's of the whole run."""
        return self.bad_samples.report()

    def teardown(self, stage: str | None = None) -> None:
        """End the process that fetches, and print the report of bad samples."""
        if self._fetcher is not None:
            self._fetcher.stop()
        lines = self.bad_samples.lines()
        if lines and stage in (None, "fit"):
            where = f" (process {rank()})" if world_size() > 1 else ""
            say("\n  ".join([f"Left out of the data{where}:", *lines]))

    def _all_streams(self) -> dict[str, Stream]:
        return {**{f"validation {name}": stream for name, stream in self.validation.items()}, **self.streams}

    def _steps(self) -> tuple[int | None, str]:
        """Number of batches of the run, None if it has no end, and what decides it."""
        assert self._train is not None
        if repeated := self._train.repeat:
            return repeated, "overfit_batches, again and again"
        accumulate = getattr(self.trainer, "accumulate_grad_batches", 1)
        steps = getattr(self.trainer, "max_steps", -1)
        limit = steps * accumulate if steps >= 0 else None
        end = self._train.stop
        if end is not None and (limit is None or end <= limit):
            return end, self.stop
        return limit, "max_steps"

    def _find_end(self) -> None:
        """Find the batch after which the loader ends."""
        assert self.schedule is not None
        assert self._train is not None
        self._train.repeat = trainer_flags.overfit_batches(self.trainer)
        if self._train.repeat:
            return
        self._train.stop = self.schedule.end(self.stop)
        if self._train.stop == 0:
            short = ", ".join(f"{d} ({n:,})" for (_, d), n in self.schedule.sizes().items())
            raise ConfigError(
                f"stop='first_exhausted' leaves no step: the first dataset drawn has fewer samples than a batch; "
                f"samples per epoch: {short}. Reduce batch_size, or choose another rule."
            )

    def _end_at(self, step: int) -> None:
        """Let the trainer end where the loader does: it would begin one empty epoch after another."""
        end = None if self._train is None else self._train.stop
        if end is not None and step >= end and self.trainer is not None:
            self.trainer.should_stop = True

    def _load_exclusion(self, problems: list[str]) -> Exclusion | None:
        if self.exclude is None:
            return None
        try:
            return Exclusion.load(self.exclude)
        except ValueError as error:
            problems.append(f"exclude: {error}")
            return None

    def _load_tokenizer(self) -> Any:
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self.tokenizer_name)
        return self._tokenizer

    def _check_settings(self, streams: Mapping[str, Stream]) -> list[str]:
        problems = checks.settings(streams, world_size())
        if problem := wrong_stream_ratios(self.streams):
            problems.append(problem)
        if self.stop not in get_args(Stop):
            problems.append(f"stop={self.stop!r} must be one of {', '.join(get_args(Stop))}.")
        if self.seed < 0:
            problems.append(f"seed={self.seed} must not be negative.")
        if self.num_workers < 0:
            problems.append(f"num_workers={self.num_workers} must not be negative.")
        if self.groups is not None and self.groups < 1:
            problems.append(f"groups={self.groups} must be at least 1.")
        if self.cache_gb is not None and not 0 < self.cache_gb < math.inf:
            problems.append(f"cache_gb={self.cache_gb:g} must be above 0; leave it out for no limit.")
        if not self.worker_timeout >= 0:
            problems.append(f"worker_timeout={self.worker_timeout:g} must be seconds, or 0 to wait for ever.")
        problems += checks.fractions(mask_fraction=self.mask_fraction, max_bad_fraction=self.max_bad_fraction)
        if self.trainer is not None:
            problems += trainer_flags.problems(self.trainer)
        module = None if self.trainer is None else self.trainer.lightning_module
        problems += checks.image_size(self.image_size, getattr(module, "backbone", None))
        known = getattr(module, "objectives", None)
        if known is not None:
            problems += checks.objectives(streams, dict(known.items()))
        return problems

    @property
    def _nodes(self) -> int:
        """Number of machines."""
        return int(getattr(self.trainer, "num_nodes", 1))

    @property
    def _processes(self) -> int:
        """Number of processes of a machine."""
        return max(world_size() // self._nodes, 1)

    def _first_groups(self) -> int:
        """Number of groups of a new run."""
        return self._nodes if self.groups is None else self.groups

    def _own_groups(self, groups: int) -> range:
        """The groups whose places this machine fills."""
        return groups_of(rank() // self._processes, self._nodes, groups)

    def _check_texts(
        self, name: str, stream: Stream, shards: Mapping[str, list[ShardEntry]], tokenizer: Any, groups: int
    ) -> list[str]:
        try:
            encoder = TextEncoder(tokenizer, stream.max_tokens, self.separator, self.clean)
        except ValueError as error:
            return [f"Stream {name!r}: {error}"]
        if stream.kind != "graphs":
            return []

        known = name.removeprefix("validation ")
        seed, parts = (self.seed, groups) if name == known else (_VALIDATION_SEED, 1)

        def first(dataset: str, rows: NDArray[np.int64]) -> int:
            own = self._own_groups(parts)[0]
            return first_shard(known, dataset, rows, stream.batch_size, seed, parts, own)

        return checks.text_limits(name, stream, shards, encoder, self._cache, first)

    def _build_datasets(
        self, shards: Mapping[str, Mapping[str, list[ShardEntry]]], exclusion: Exclusion | None, groups: int
    ) -> None:
        own = {name: shards[name] for name in self.streams}
        held = {name: shards[f"validation {name}"] for name in self.validation}
        self._val = []
        for name, stream in self.validation.items():
            batches = self._batches({name: dataclasses.replace(stream, ratio=1.0)}, held, _VALIDATION_SEED)
            whole = sum(batches.schedule.sizes().values()) // stream.batch_size
            self._val.append(StepDataset(batches, stop=min(self.validation_batches, max(whole, 1))))
        self._train = StepDataset(self._batches(self.streams, own, self.seed, exclusion, groups), self._next)
        self._use(self._train.batches.schedule)
        sizes: dict[str, int] = {}
        for (_, dataset), size in self._train.batches.schedule.sizes().items():
            sizes[dataset] = max(size, sizes.get(dataset, 0))
        self.bad_samples = BadSampleTracker(self.max_bad_fraction, sizes)
        noted = set()
        for datasets in shards.values():
            for dataset, entries in datasets.items():
                for entry in entries:
                    if entry.problems and (dataset, entry.shard) not in noted:
                        self.bad_samples.add_entry(dataset, entry)
                        noted.add((dataset, entry.shard))

    def _use(self, schedule: BatchSchedule) -> None:
        """Train by a schedule: what must be fetched for it is known then.

        Raises:
            ConfigError: If the cache cannot hold it.
        """
        assert self._train is not None
        self.schedule = self._train.batches.schedule = schedule
        under_way = self.num_workers * self.prefetch + 2
        always = [entry for dataset in self._val for entry in dataset.batches.shards_of(range(dataset.stop or 0))]
        groups = self._own_groups(schedule.groups)
        demand = Demand(schedule, self._train.batches.shards, groups, under_way, self._cache, always)
        if problems := demand.problems():
            self.schedule = None
            raise ConfigError(problems)
        if self._nodes > 1 and schedule.groups == 1 and demand.any:
            rank_zero_warn(
                "data.groups=1: every machine fetches all shards. A new run may have a group for each machine."
            )
        if self._fetcher is not None:
            self._fetcher.stop()
        self._fetcher = Fetcher(demand, Counters())
        self._counters = [Counters(self.num_workers) for _ in ("training", "validation")]
        for counters, datasets in zip(self._counters, ([self._train], self._val), strict=True):
            for dataset in datasets:
                dataset.batches.opened = OpenShards(self._cache, demand.keep, counters.add)

    def _note_position(self) -> None:
        """Let the process that fetches know where training stands."""
        if self._fetcher is not None and self._train is not None:
            self._fetcher.demand.at(self._next % self._train.repeat if self._train.repeat else self._next)

    @property
    def _contents(self) -> str:
        """Digest of what the training shards hold, as far as their manifests tell."""
        held = [
            [name, dataset, *([entry.samples, entry.bytes] for entry in entries)]
            for name in self.streams
            for dataset, entries in self._shards.get(name, {}).items()
        ]
        return fingerprint(repr(held))

    def _description(self) -> dict[str, Any]:
        assert self.schedule is not None
        return {**self.schedule.description(), "contents": self._contents}

    def _batches(
        self,
        streams: Mapping[str, Stream],
        shards: Mapping[str, Mapping[str, list[ShardEntry]]],
        seed: int,
        exclusion: Exclusion | None = None,
        groups: int = 1,
    ) -> Batches:
        tokenizer, objectives = self._load_tokenizer(), self._objectives
        pipelines = {}
        for name, recipe in streams.items():
            stream = with_defaults(recipe, objectives)
            encoder = TextEncoder(tokenizer, stream.max_tokens, self.separator, self.clean)
            writer = TextWriter(stream, encoder, self.mask_fraction, vocabulary_of(stream, objectives))
            pipelines[name] = Pipeline(stream, self.image_size, writer, exclusion)
        counts, never_drawn = eligible_counts(streams, shards)
        if streams is self.streams:
            self.never_drawn, self._outside = never_drawn, outside(streams, shards, objectives)
        schedule = BatchSchedule(streams, counts, seed, "" if exclusion is None else exclusion.fingerprint, groups)
        return Batches(schedule, shards, pipelines, tokenizer.pad_token_id, rank(), world_size())

    def _loader(self, dataset: IterableDataset[Batch], workers: int) -> DataLoader[Batch]:
        return step_loader(dataset, workers, self.prefetch, self.worker_timeout)
