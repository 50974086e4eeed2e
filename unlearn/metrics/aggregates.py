"""What a track is: its tasks, and which of their numbers make up the Real, Retain and Forget metrics and Model Utility.

Which tasks CLEAR and TOFU have is written in config/tracks/*.yaml (read by unlearn/leaderboard/tracks.py). In CLEAR's a
Retain or Forget metric is ROUGE of the caption, probability of the name among names, truth ratio of the caption (5.1,
5.2). The released scripts compose them differently: reference.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unlearn.metrics.model_utility import contraharmonic_means, harmonic_means

METRICS = ("ROUGE", "Prob.", "Truth Ratio")
FORGET = (
    "Forget"  # the label of the task whose truth ratios are compared with gold's, and the group of what is forgotten
)


@dataclass(frozen=True)
class Task:
    """One evaluation task. `group`: tasks on the same rows; `choice`: its probability is taken among the wrong answers;
    `caption`: the released code takes its probability alone; `rule`: by which a generation is right
    (metrics/accuracy.py), None where the benchmark has none."""

    name: str
    label: str
    group: str
    choice: bool = True
    caption: bool = False
    rule: str | None = None

    @property
    def to_forget(self) -> bool:
        return self.group == FORGET


@dataclass(frozen=True)
class Released:
    """How the released scripts of a benchmark depart from its paper: which wrong losses they average (those of the
    whole split, or of each item), under which names they write method and submitter, their harmonic means."""

    wrong_losses: str
    names: tuple[str, str]
    composites: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Track:
    """A benchmark: its tasks, and the harmonic means of their numbers ("ROUGE Retain", ...), by name.

    `quality`: what it calls Forget Quality, "js" (1 - JSD) or "ks" (the p-value); `beside`: tasks that are no part of
    any mean, shown where a log has them; `contraharmonic`: the composites that are such a mean instead; `holdout`:
    names of forget tasks -> of their twins on people whom nobody was trained on.
    """

    name: str
    tasks: tuple[Task, ...]
    composites: Mapping[str, tuple[str, ...]]
    quality: str = "js"
    beside: tuple[Task, ...] = ()
    released: Released | None = None
    contraharmonic: frozenset[str] = frozenset()
    holdout: Mapping[str, str] = field(default_factory=dict)

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(task.name for task in self.tasks)

    @property
    def forget(self) -> Task:
        """The task whose truth ratios are compared with gold's."""
        return next(task for task in self.tasks if task.label == FORGET)


def composites(means: Mapping[str, float | NDArray[np.float64]], track: Track) -> dict[str, NDArray[np.float64]]:
    """The track's means of means, of numbers or of draws [D] under each name -> arrays of the same shape."""
    return {
        name: (contraharmonic_means if name in track.contraharmonic else harmonic_means)(
            np.stack([np.asarray(means[part]) for part in parts])
        )
        for name, parts in track.composites.items()
    }
