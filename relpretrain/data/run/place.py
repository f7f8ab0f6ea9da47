"""Which part of the joint batch a process and its machine take."""

from __future__ import annotations

from dataclasses import dataclass

from relpretrain.data.sampling.schedule import groups_of


@dataclass(frozen=True)
class Place:
    """Where a process stands among those of a run.

    Args:
        rank: Its number.
        world_size: Number of processes of the run.
        machines: Number of machines.
        processes: Number of processes of a machine.
    """

    rank: int
    world_size: int
    machines: int
    processes: int

    @property
    def fetches(self) -> bool:
        """Whether this is the process that fetches shards for its machine."""
        return self.rank % self.processes == 0

    def groups(self, groups: int) -> range:
        """Which of so many groups have places in the batches that its machine fills."""
        return groups_of(self.rank // self.processes, self.machines, groups)
