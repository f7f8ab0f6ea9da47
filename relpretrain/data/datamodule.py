"""The LightningDataModule of a run: mixes streams, checks settings, and resumes at the next batch."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import ChainDataset, DataLoader, IterableDataset

from relpretrain.data import checks, trainer_flags
from relpretrain.data.bad_samples import BadSampleTracker, informed_tracker
from relpretrain.data.loading import StepDataset, step_loader
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.data.run.building import VALIDATION, BatchBuilder
from relpretrain.data.run.place import Place
from relpretrain.data.run.position import Position, changed, contents, described
from relpretrain.data.run.served import ServedData
from relpretrain.data.run.settings import wrong_settings
from relpretrain.data.sampling.eligible import eligible_counts
from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.data.sampling.outside import outside
from relpretrain.data.sampling.schedule import BatchSchedule, wrong_stream_ratios
from relpretrain.data.sampling.stream import Stop, Stream, with_defaults
from relpretrain.data.sampling.summary import crowded_lines, passes, schedule_lines, worn_lines
from relpretrain.data.shards import verify
from relpretrain.data.shards.cache import GB, Cache
from relpretrain.data.shards.manifest import ShardEntry
from relpretrain.data.workers import local_processes, shared_memory
from relpretrain.distributed import rank, world_size
from relpretrain.errors import ConfigError
from relpretrain.scene_graph import Coverage, coverage_lines, warn_outside
from relpretrain.showing import say, visible
from relpretrain.types import Batch

Found = dict[str, dict[str, list[ShardEntry]]]
"""What shards hold, by stream and dataset."""


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
        self.bad_samples = BadSampleTracker(max_bad_fraction)
        self._tokenizer: Any = None
        self._counted: dict[str, Any] | None = None  # bad samples before the accumulation that is under way
        self._position = Position()
        self._resumed: dict[str, Any] | None = None
        self._shards: Found = {}
        self._found: tuple[Found, list[str]] | None = None
        self._served: ServedData | None = None

    @property
    def schedule(self) -> BatchSchedule | None:
        """The samples of every step of training; None before `setup`."""
        return None if self._served is None else self._served.schedule

    @property
    def preprocess(self) -> Preprocess:
        """Turns images and texts into the model's input in evaluation; saved in checkpoints."""
        limits = [stream.max_tokens for stream in (*self.streams.values(), *self.validation.values())]
        limit = max(limits, default=40)
        return Preprocess(self._load_tokenizer(), self.image_size, limit, self.separator, clean=self.clean)

    def prepare_data(self) -> None:
        """Make and store what lacks of manifests, on one process per machine. `setup` reports the problems."""
        self._find([])

    def _find(self, problems: list[str]) -> Found:
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
        if self._served is not None:
            return
        problems: list[str] = []
        self._settle(self._objectives)
        streams, place = self._all_streams(), self._place
        problems += self._check_settings(streams)
        exclusion = self._load_exclusion(problems)
        # What `prepare_data` could not store is made again, by every process.
        self._shards = shards = self._find(problems)
        problems += checks.holdings(streams, shards, self.max_bad_fraction)
        first_groups = place.machines if self.groups is None else self.groups
        groups = first_groups if self._resumed is None else int(self._resumed.get("groups", 1))
        problems += checks.grouping(groups, place.machines, self.streams, shards)
        cache = Cache(None if self.cache_gb is None else int(self.cache_gb * GB))
        try:
            builder = self._builder(place)
        except ValueError as error:
            problems.append(str(error))
        else:
            for name, stream in streams.items():
                problems += builder.check_texts(name, stream, shards[name], cache, self.seed, groups)
        if problems:
            raise ConfigError(problems)
        served = self._serve(builder, exclusion, groups, cache)
        problems = checks.workers(self.num_workers, served.schedule)
        processes = getattr(self.trainer, "num_devices", None) or local_processes(world_size())
        problems += shared_memory(
            self.streams, self.image_size, self.num_workers, self.prefetch, world_size(), processes, 1
        )
        if problems:
            raise ConfigError(problems)
        self._served = served
        if stage in (None, "fit"):
            served.find_end(self.trainer, self.stop)
        if rank() == 0:
            self._announce(served)
        if stage == "fit" and self.trainer is not None:
            notices = trainer_flags.notices(self.trainer, self.stop, served.schedule, bool(served.validation))
            for line in notices + worn_lines(served.schedule, self.passes()):
                rank_zero_warn(line)

    def _serve(self, builder: BatchBuilder, exclusion: Exclusion | None, groups: int, cache: Cache) -> ServedData:
        """Build the batches, and note what of the data they leave out."""
        own = {name: self._shards[name] for name in self.streams}
        held = {name: self._shards[VALIDATION + name] for name in self.validation}
        validation = builder.validation(self.validation, held, self.validation_batches)
        batches = builder.batches(self.streams, own, self.seed, exclusion, groups)
        _, self.never_drawn = eligible_counts(self.streams, own)
        self._outside = outside(self.streams, own, builder.objectives)
        training = StepDataset(batches, self._position.upcoming)
        served = ServedData(training, validation, cache, builder.place, self.num_workers, self.prefetch)
        self.bad_samples = informed_tracker(self.max_bad_fraction, served.schedule.sizes(), self._shards)
        return served

    def _announce(self, served: ServedData) -> None:
        """Print the plan, and warn of what in the data may surprise."""
        outside_of = {f"{dataset} (stream {name})": of for (name, dataset), of in self._outside.items()}
        if lines := self.describe() if self.announces else coverage_lines(outside_of):
            say("\n".join(lines))
        for line in crowded_lines(served.schedule):
            rank_zero_warn(line)
        entries = (entry for of in self._shards.values() for found in of.values() for entry in found)
        for line in verify.notices(entries):
            rank_zero_warn(visible(line))
        warn_outside(outside_of)

    def describe(self) -> list[str]:
        """Lines of text: number of batches, and for each stream and dataset its batches, samples and epochs."""
        if self._served is None:
            return []
        length = self._served.length(self.trainer, self.stop)
        accumulate = getattr(self.trainer, "accumulate_grad_batches", 1)
        schedule, processes = self._served.schedule, world_size()
        lines = schedule_lines(schedule, *length, accumulate, processes, self.never_drawn, self._outside)
        if self.exclude is not None:
            lines.append(f"  images on {self.exclude} are left out when they are met, others come in their places")
        return lines

    def passes(self) -> dict[tuple[str, str], float]:
        """How many times the whole run sees each sample, by stream and dataset; empty where it has no end."""
        served = self._served
        if served is None or served.training.repeat or (batches := served.length(self.trainer, self.stop)[0]) is None:
            return {}
        return passes(served.schedule, batches)

    def counters(self) -> dict[str, float]:
        """Samples taken so far by all processes together, and epochs of each dataset, by the names of the logs."""
        if self._served is None or trainer_flags.overfit_batches(self.trainer):
            return {}
        return self._served.figures(self._position.upcoming)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches from the next step on, up to the step at which the stopping rule ends the run, if any."""
        if self._served is None:
            raise ConfigError("There is no training data: call setup() first.")
        if self._resumed is not None:
            told = changed(self._resumed, self._served.schedule, contents(self.streams, self._shards))
            if told is not None:
                warnings.warn(
                    f"The data differs from the checkpoint's (seed, streams or shards){told}: step "
                    f"{self._position.upcoming} goes on with the new schedule, samples of the running epoch may come "
                    "again or not at all, and what is left out is counted anew.",
                    stacklevel=2,
                )
            of_the_run = told is None and rank() == 0  # whose counts a checkpoint has
            self.bad_samples.go_on(self._resumed.get("bad_samples", {}) if of_the_run else {})
            self._resumed = None
        self._note_position()
        self._served.fetch()
        return self._loader(self._served.training, self.num_workers)

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """The validation batches, one stream after another; `Batch.stream` is its name.

        With `limit_val_batches` as a number, a loader per stream, as the trainer's limit is per loader.
        """
        if self._served is None or not self._served.validation:
            return []
        if isinstance(getattr(self.trainer, "limit_val_batches", 1.0), int):
            return [self._loader(dataset, min(self.num_workers, 1)) for dataset in self._served.validation]
        chained: IterableDataset[Batch] = ChainDataset(self._served.validation)
        return self._loader(chained, min(self.num_workers, 1))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Count bad samples, and record the next step."""
        if isinstance(batch, Batch):
            under_way, training = getattr(self.trainer, "global_step", 0), self.trainer is None or self.trainer.training
            accumulates = getattr(self.trainer, "accumulate_grad_batches", 1) > 1
            if training and accumulates and self._position.begins(under_way):
                self._counted = self.bad_samples.state()
            repeat = 0 if self._served is None else self._served.training.repeat
            if not repeat or batch.step < repeat:
                self.bad_samples.add(batch)
            if training:
                self._position.take(batch.step, under_way)
                self._note_position()
        return batch

    def _note_position(self) -> None:
        """Let the loader know the next step, and the trainer if the loader ends before it.

        The trainer ends where the loader does: it would begin one empty epoch after another.
        """
        if self._served is None:
            return
        step = self._position.upcoming
        self._served.at(step)
        if self._served.ends_before(step) and self.trainer is not None:
            self.trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs; within a gradient accumulation it restarts from the first batch of that."""
        upcoming = self._position.to_save(getattr(self.trainer, "global_step", None))
        schedule = self.schedule
        if schedule is None:
            return {"next_step": upcoming, "schedule": ""}
        again = upcoming < self._position.upcoming  # batches that come again are counted then
        counted = self._counted if again and self._counted is not None else self.bad_samples.state()
        taken = {"/".join(source): samples for source, samples in schedule.taken(upcoming).items()}
        return {
            "next_step": upcoming,
            "schedule": schedule.fingerprint,
            "groups": schedule.groups,
            "settings": described(schedule, contents(self.streams, self._shards)),
            "taken": taken,
            "bad_samples": counted,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue after the last batch of a checkpoint, with its groups.

        Raises:
            ConfigError: If the machines of this run cannot share these.
        """
        self._position, self._counted = Position(int(state_dict["next_step"])), None
        self._resumed = dict(state_dict)
        groups, served = int(state_dict.get("groups", 1)), self._served
        if served is None or groups == served.schedule.groups:
            return
        rank_zero_warn(
            f"The joint batches of the checkpoint are divided among {groups} group(s) (data.groups), and go on so; a "
            f"new run would have {served.schedule.groups}."
        )
        if problems := checks.grouping(groups, self._place.machines, self.streams, self._shards):
            raise ConfigError(problems)
        served.use(served.schedule.in_groups(groups))

    def report(self) -> dict[str, dict[str, int]]:
        """Counts of this process's bad samples so far, by dataset and reason; the first process's of the whole run."""
        return self.bad_samples.report()

    def teardown(self, stage: str | None = None) -> None:
        """End the process that fetches, and print the report of bad samples."""
        if self._served is not None:
            self._served.stop()
        lines = self.bad_samples.lines()
        if lines and stage in (None, "fit"):
            where = f" (process {rank()})" if world_size() > 1 else ""
            say("\n  ".join([f"Left out of the data{where}:", *lines]))

    def _all_streams(self) -> dict[str, Stream]:
        return {**{VALIDATION + name: stream for name, stream in self.validation.items()}, **self.streams}

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

    def _builder(self, place: Place) -> BatchBuilder:
        """What builds the batches.

        Raises:
            ValueError: If the tokenizer cannot be loaded.
        """
        tokenizer, side = self._load_tokenizer(), self.image_size
        return BatchBuilder(tokenizer, side, self.mask_fraction, self.separator, self.clean, self._objectives, place)

    @property
    def _place(self) -> Place:
        """Where this process stands."""
        machines = int(getattr(self.trainer, "num_nodes", 1))
        return Place(rank(), world_size(), machines, max(world_size() // machines, 1))

    def _check_settings(self, streams: Mapping[str, Stream]) -> list[str]:
        problems = checks.settings(streams, world_size())
        if problem := wrong_stream_ratios(self.streams):
            problems.append(problem)
        problems += wrong_settings(
            self.stop, self.seed, self.num_workers, self.groups, self.cache_gb, self.worker_timeout
        )
        problems += checks.fractions(mask_fraction=self.mask_fraction, max_bad_fraction=self.max_bad_fraction)
        if self.trainer is not None:
            problems += trainer_flags.problems(self.trainer)
        module = None if self.trainer is None else self.trainer.lightning_module
        problems += checks.image_size(self.image_size, getattr(module, "backbone", None))
        known = getattr(module, "objectives", None)
        if known is not None:
            problems += checks.objectives(streams, dict(known.items()))
        return problems

    def _loader(self, dataset: IterableDataset[Batch], workers: int) -> DataLoader[Batch]:
        return step_loader(dataset, workers, self.prefetch, self.worker_timeout)
