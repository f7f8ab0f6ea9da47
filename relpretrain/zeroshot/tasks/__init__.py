"""The zero-shot tasks, by the name that `--tasks` knows them by."""

from relpretrain.zeroshot.tasks.common.base import Item, Task
from relpretrain.zeroshot.tasks.common.source import Source
from relpretrain.zeroshot.tasks.composition.aro import ARO
from relpretrain.zeroshot.tasks.composition.sugarcrepe import SugarCrepe
from relpretrain.zeroshot.tasks.composition.sugarcrepe_pp import SugarCrepePP
from relpretrain.zeroshot.tasks.composition.svo import SVO
from relpretrain.zeroshot.tasks.composition.valse import VALSE
from relpretrain.zeroshot.tasks.composition.winoground import Winoground
from relpretrain.zeroshot.tasks.relations.graphs import GraphProbes
from relpretrain.zeroshot.tasks.relations.predcls import PredCls
from relpretrain.zeroshot.tasks.relations.vsr import VSR
from relpretrain.zeroshot.tasks.relations.whatsup import WhatsUp
from relpretrain.zeroshot.tasks.retrieval.paragraphs import Paragraphs
from relpretrain.zeroshot.tasks.retrieval.retrieval import COCO, FLICKR30K, Retrieval

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
