"""Which samples make up step t: streams, eligible rows, exclusion lists and the batch schedule.

Nothing here opens an image: everything is computed from the shards' row indexes.
"""

from relpretrain.data.sampling.eligible import eligible_rows
from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.data.sampling.schedule import BatchSchedule
from relpretrain.data.sampling.stream import Stop, Stream

__all__ = ["BatchSchedule", "Exclusion", "Stop", "Stream", "eligible_rows"]
