"""A run on disk: its record and identity, its checkpoints, its lock."""

from unlearn.runs.identity import settings_hash
from unlearn.runs.locks import hold
from unlearn.runs.record import Run, start_run

__all__ = ["Run", "hold", "settings_hash", "start_run"]
