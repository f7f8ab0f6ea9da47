"""The batches of a run while it lasts: by which schedule, up to which step, and how their shards come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from relpretrain.data import trainer_flags
from relpretrain.data.fetching import Counters, Demand, Fetcher, cache_counters
from relpretrain.data.loading import StepDataset
from relpretrain.data.run.place import Place
from relpretrain.data.sampling.schedule import BatchSchedule
from relpretrain.data.sampling.stream import Stop
from relpretrain.data.shards.cache import Cache
from relpretrain.data.shards.opened import OpenShards
from relpretrain.errors import ConfigError


class ServedData:
    """The batches of training and validation, and the process that fetches their shards.

    Args:
        training: The batches of training.
        validation: Those of validation, by stream.
        cache: The copies of remote shards.
        place: Where this process stands.
        workers: Processes that prepare batches.
        prefetch: Batches that each of them prepares in advance.

    Raises:
        ConfigError: If the cache cannot hold what is read at a time.
    """

    def __init__(
        self,
        training: StepDataset,
        validation: Sequence[StepDataset],
        cache: Cache,
        place: Place,
        workers: int,
        prefetch: int,
    ) -> None:
        self.training = training
        self.validation = list(validation)
        self.cache = cache
        self.place = place
        self.workers = workers
        self.prefetch = prefetch
        self._fetcher: Fetcher | None = None
        self.use(training.batches.schedule)

    @property
    def schedule(self) -> BatchSchedule:
        """The samples of every step of training."""
        return self.training.batches.schedule

    def use(self, schedule: BatchSchedule) -> None:
        """Train by a schedule: what must be fetched for it is known then.

        Raises:
            ConfigError: If the cache cannot hold it.
        """
        place, under_way = self.place, self.workers * self.prefetch + 2
        always = [entry for dataset in self.validation for entry in dataset.batches.shards_of(range(dataset.stop or 0))]
        groups = place.groups(schedule.groups)
        demand = Demand(schedule, self.training.batches.shards, groups, under_way, self.cache, always)
        if problems := demand.problems():
            raise ConfigError(problems)
        if place.machines > 1 and schedule.groups == 1 and demand.any:
            rank_zero_warn(
                "data.groups=1: every machine fetches all shards. A new run may have a group for each machine."
            )
        self.stop()
        self.demand = demand
        self.training.batches.schedule = schedule
        self._fetcher = Fetcher(demand, Counters())
        self.counters = [Counters(self.workers) for _ in ("training", "validation")]
        for counters, datasets in zip(self.counters, ([self.training], self.validation), strict=True):
            for dataset in datasets:
                dataset.batches.opened = OpenShards(self.cache, demand.keep, counters.add)

    def find_end(self, trainer: Any, stop: Stop) -> None:
        """Find the batch after which the loader of training ends.

        Args:
            trainer: Lightning's trainer, or None.
            stop: The stopping rule.

        Raises:
            ConfigError: If that leaves no step.
        """
        self.training.repeat = trainer_flags.overfit_batches(trainer)
        if self.training.repeat:
            return
        self.training.stop = self.schedule.end(stop)
        if self.training.stop == 0:
            short = ", ".join(f"{d} ({n:,})" for (_, d), n in self.schedule.sizes().items())
            raise ConfigError(
                f"stop='first_exhausted' leaves no step: the first dataset drawn has fewer samples than a batch; "
                f"samples per epoch: {short}. Reduce batch_size, or choose another rule."
            )

    def length(self, trainer: Any, stop: Stop) -> tuple[int | None, str]:
        """Number of batches of training, None if it has no end, and what decides it."""
        if repeated := self.training.repeat:
            return repeated, "overfit_batches, again and again"
        accumulate = getattr(trainer, "accumulate_grad_batches", 1)
        steps = getattr(trainer, "max_steps", -1)
        limit = steps * accumulate if steps >= 0 else None
        end = self.training.stop
        if end is not None and (limit is None or end <= limit):
            return end, stop
        return limit, "max_steps"

    def ends_before(self, step: int) -> bool:
        """Whether the loader of training ends before a step."""
        return self.training.stop is not None and step >= self.training.stop

    def at(self, step: int) -> None:
        """Let the loader, and the process that fetches, know which step comes next in training."""
        self.training.upcoming = step
        self.demand.at(step % self.training.repeat if self.training.repeat else step)

    def fetch(self) -> None:
        """Fetch from now on, in one process of each machine, what is not there."""
        if self._fetcher is not None and self.demand.any and self.place.fetches:
            self._fetcher.start()

    def stop(self) -> None:
        """End the process that fetches."""
        if self._fetcher is not None:
            self._fetcher.stop()

    def figures(self, step: int) -> dict[str, float]:
        """For the logs: samples taken before a step by all processes, epochs of each dataset, what the cache did."""
        sizes, found = self.schedule.sizes(), {}
        for (stream, dataset), samples in self.schedule.taken(step).items():
            found[f"data/{stream}/{dataset}_samples"] = float(samples)
            found[f"data/{stream}/{dataset}_epochs"] = samples / sizes[stream, dataset]
        if self._fetcher is not None and self.demand.any:
            found |= cache_counters(self.cache, [*self.counters, self._fetcher.counters])
        return found
