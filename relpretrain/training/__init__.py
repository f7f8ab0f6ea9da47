"""Training on Lightning's Trainer."""

from relpretrain.training.callbacks import LastCheckpoint, LossLog, ProgressLine
from relpretrain.training.module import RelationModule
from relpretrain.training.optim import Optimizer, learning_rate

__all__ = ["LastCheckpoint", "LossLog", "Optimizer", "ProgressLine", "RelationModule", "learning_rate"]
