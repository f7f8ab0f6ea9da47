"""The zero-shot tasks, by the name that `--tasks` knows them by."""

from relpretrain.zeroshot.tasks.aro import ARO
from relpretrain.zeroshot.tasks.base import Item, Source, Task
from relpretrain.zeroshot.tasks.graphs import GraphProbes
from relpretrain.zeroshot.tasks.paragraphs import Paragraphs
from relpretrain.zeroshot.tasks.predcls import PredCls
from relpretrain.zeroshot.tasks.retrieval import COCO, FLICKR30K, Retrieval
from relpretrain.zeroshot.tasks.sugarcrepe import SugarCrepe
from relpretrain.zeroshot.tasks.sugarcrepe_pp import SugarCrepePP
from relpretrain.zeroshot.tasks.svo import SVO
from relpretrain.zeroshot.tasks.valse import VALSE
from relpretrain.zeroshot.tasks.vsr import VSR
from relpretrain.zeroshot.tasks.whatsup import WhatsUp
from relpretrain.zeroshot.tasks.winoground import Winoground

_ALL: tuple[Task, ...] = (
    VSR(),
    VALSE(),
    SVO(),
    Winoground(),
    ARO(),
    SugarCrepe(),
    SugarCrepePP(),
    WhatsUp(),
    Retrieval(COCO, k_test=256),
    Retrieval(FLICKR30K, k_test=128),
    Paragraphs(),
    PredCls(),
    GraphProbes(),
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}

__all__ = ["TASKS", "Item", "Source", "Task"]
