"""A training run: built, watched, checkpointed, resumed, saved."""

from unlearn.training.build import build_trainer, train
from unlearn.training.teacher import Teacher
from unlearn.training.watch import Watch

__all__ = ["Teacher", "Watch", "build_trainer", "train"]
