"""The zero-shot tasks, by the name that `--tasks` knows them by."""

from relpretrain.zeroshot.tasks.choices.crepe import CREPE
from relpretrain.zeroshot.tasks.choices.fgovd import FGOVD
from relpretrain.zeroshot.tasks.choices.hard_positives import HardPositives
from relpretrain.zeroshot.tasks.choices.negbench import NegBench
from relpretrain.zeroshot.tasks.choices.snare import SNARE
from relpretrain.zeroshot.tasks.choices.spec import SPEC
from relpretrain.zeroshot.tasks.choices.vl_checklist import VLCheckList
from relpretrain.zeroshot.tasks.common.base import Item, Task
from relpretrain.zeroshot.tasks.common.source import Source
from relpretrain.zeroshot.tasks.composition.aro import ARO
from relpretrain.zeroshot.tasks.composition.sugarcrepe import SugarCrepe
from relpretrain.zeroshot.tasks.composition.sugarcrepe_pp import SugarCrepePP
from relpretrain.zeroshot.tasks.composition.svo import SVO
from relpretrain.zeroshot.tasks.composition.valse import VALSE
from relpretrain.zeroshot.tasks.composition.winoground import Winoground
from relpretrain.zeroshot.tasks.relations.detection import HICO, OPEN_IMAGES, Detection
from relpretrain.zeroshot.tasks.relations.graphs import GraphProbes
from relpretrain.zeroshot.tasks.relations.grounding import Grounding
from relpretrain.zeroshot.tasks.relations.half_truth import HalfTruth
from relpretrain.zeroshot.tasks.relations.predcls import PredCls
from relpretrain.zeroshot.tasks.relations.vsr import VSR
from relpretrain.zeroshot.tasks.relations.whatsup import WhatsUp
from relpretrain.zeroshot.tasks.retrieval.classification import Classification
from relpretrain.zeroshot.tasks.retrieval.long_texts import LONG_TEXTS
from relpretrain.zeroshot.tasks.retrieval.paragraphs import Paragraphs
from relpretrain.zeroshot.tasks.retrieval.retrieval import COCO, FLICKR30K, Retrieval
from relpretrain.zeroshot.tasks.squares.bivlc import BiVLC
from relpretrain.zeroshot.tasks.squares.cola import COLA
from relpretrain.zeroshot.tasks.squares.colorswap import ColorSwap
from relpretrain.zeroshot.tasks.squares.eqben import EqBen
from relpretrain.zeroshot.tasks.squares.mmvp import MMVP
from relpretrain.zeroshot.tasks.squares.rocketscience import RocketScience
from relpretrain.zeroshot.tasks.squares.vismin import VisMin

_ALL: tuple[Task, ...] = (
    VSR(),
    VALSE(),
    SVO(),
    Winoground(),
    ARO(),
    SugarCrepe(),
    SugarCrepePP(),
    WhatsUp(),
    MMVP(),
    ColorSwap(),
    COLA(),
    BiVLC(),
    RocketScience(),
    EqBen(),
    VisMin(),
    VLCheckList(),
    HardPositives(),
    CREPE(),
    NegBench(),
    SPEC(),
    SNARE(),
    FGOVD(),
    Retrieval(COCO, k_test=256),
    Retrieval(FLICKR30K, k_test=128),
    Paragraphs(),
    *LONG_TEXTS,
    Classification(),
    PredCls(),
    Detection("hico", HICO),
    Detection("open_images", OPEN_IMAGES),
    HalfTruth(),
    GraphProbes(),
    Grounding(),
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}

__all__ = ["TASKS", "Item", "Source", "Task"]
