"""Which samples make up step t: streams, their eligible rows, lists of images left out, and the schedule.

Nothing here opens an image: the schedule is computed from what shards say of themselves.
"""

from relpretrain.data.sampling.eligible import eligible_rows
from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.data.sampling.schedule import Plan
from relpretrain.data.sampling.stream import Stop, Stream

__all__ = ["Exclusion", "Plan", "Stop", "Stream", "eligible_rows"]
