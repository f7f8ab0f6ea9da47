"""Training on Lightning's Trainer."""

from relpretrain.training.callbacks import LastCheckpoint, LossLog
from relpretrain.training.module import RelationModule
from relpretrain.training.optim import Optimizer, learning_rate
from relpretrain.training.progress import ProgressLine

__all__ = ["LastCheckpoint", "LossLog", "Optimizer", "ProgressLine", "RelationModule", "learning_rate"]
