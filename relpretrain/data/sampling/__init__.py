"""Which samples make up step t: streams, eligible rows, exclusion lists and the batch schedule.

Nothing here opens a shard: everything is computed from the manifests.
"""

from relpretrain.data.sampling.eligible import eligible_counts
from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.data.sampling.schedule import BatchSchedule
from relpretrain.data.sampling.stream import Stop, Stream

__all__ = ["BatchSchedule", "Exclusion", "Stop", "Stream", "eligible_counts"]
