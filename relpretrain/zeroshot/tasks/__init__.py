"""The zero-shot tasks, by the name that `--tasks` knows them by."""

from relpretrain.zeroshot.tasks.base import Item, Source, Task
from relpretrain.zeroshot.tasks.graphs import GraphProbes
from relpretrain.zeroshot.tasks.valse import VALSE
from relpretrain.zeroshot.tasks.vsr import VSR

TASKS: dict[str, Task] = {"vsr": VSR(), "valse": VALSE(), "graphs": GraphProbes()}

__all__ = ["TASKS", "VALSE", "VSR", "GraphProbes", "Item", "Source", "Task"]
