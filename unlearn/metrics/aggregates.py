"""Which tasks a track has and which of their numbers make up the Real, Retain and Forget metrics and Model Utility.

`paper` composition (CLEAR 5.1, 5.2): a Retain or Forget metric is ROUGE of the caption, probability of the name among
names, truth ratio of the caption. The released scripts compose them differently: reference.py.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlearn.metrics.model_utility import harmonic_means

METRICS = ("ROUGE", "Prob.", "Truth Ratio")


@dataclass(frozen=True)
class Task:
    """One evaluation task. `group`: tasks on the same rows; `choice`: its probability is taken among the wrong answers;
    `caption`: the released code counts its name among `eval_log*`, whose probability it takes alone."""

    name: str
    label: str
    group: str
    choice: bool
    caption: bool


@dataclass(frozen=True)
class Track:
    """A benchmark: its tasks, and the harmonic means of their numbers ("ROUGE Retain", ...), by name."""

    name: str
    tasks: tuple[Task, ...]
    composites: Mapping[str, tuple[str, ...]]

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(task.name for task in self.tasks)

    @property
    def forget(self) -> Task:
        """The task whose truth ratios are compared with gold's."""
        return next(task for task in self.tasks if task.label == "Forget")


def _all(*labels: str) -> tuple[str, ...]:
    return tuple(f"{metric} {label}" for label in labels for metric in METRICS)


MM = Track(
    "mm",
    (
        Task("eval_real_faces_wo_options", "Real Faces", "Real Faces", choice=True, caption=False),
        Task("eval_real_world_wo_options", "Real World", "Real World", choice=True, caption=False),
        Task("eval_log_forget", "Forget", "Forget", choice=True, caption=True),
        Task("eval_log", "Retain", "Retain", choice=True, caption=True),
        Task("eval_forget_facerec", "Forget FaceRec", "Forget", choice=True, caption=False),
        Task("eval_retain_facerec", "Retain FaceRec", "Retain", choice=True, caption=False),
    ),
    {
        "Real metric": _all("Real Faces", "Real World"),
        "Retain metric": ("ROUGE Retain", "Prob. Retain FaceRec", "Truth Ratio Retain"),
        "Forget metric": ("ROUGE Forget", "Prob. Forget FaceRec", "Truth Ratio Forget"),
        "Model Utility": _all("Real Faces", "Real World", "Retain", "Retain FaceRec"),
    },
)
NLP = Track(
    "nlp",
    (
        Task("eval_log", "Retain", "Retain", choice=False, caption=True),
        Task("eval_real_author_wo_options", "Real Authors", "Real Authors", choice=True, caption=False),
        Task("eval_real_world_wo_options", "Real World", "Real World", choice=True, caption=False),
        Task("eval_log_forget", "Forget", "Forget", choice=False, caption=True),
    ),
    {
        "Real metric": _all("Real Authors", "Real World"),
        "Retain metric": _all("Retain"),
        "Forget metric": _all("Forget"),
        "Model Utility": _all("Real Authors", "Real World", "Retain"),
    },
)


TEXT = Track(
    "text questions put to a vision-language model",
    (
        Task("eval_text_forget", "Forget Text", "Forget Text", choice=True, caption=False),
        Task("eval_text_retain", "Retain Text", "Retain Text", choice=True, caption=False),
    ),
    {},
)  # beside the mm track's numbers where a log has them; part of no aggregate


def track_of(task_names: Collection[str], where: str = "the eval log") -> Track:
    """The track that has a task of its own in the log (three tasks are in both). ValueError if there is none."""
    shared = set(MM.task_names) & set(NLP.task_names)
    for track in (MM, NLP):
        if (set(track.task_names) - shared) & set(task_names):
            return track
    expected = "; ".join(f"{track.name}: {', '.join(track.task_names)}" for track in (MM, NLP))
    raise ValueError(f"{where}: tasks {', '.join(task_names)} are neither an mm nor an nlp evaluation ({expected})")


def composites(means: Mapping[str, float | NDArray[np.float64]], track: Track) -> dict[str, NDArray[np.float64]]:
    """The track's harmonic means, of numbers or of draws [D] under each name -> arrays of the same shape."""
    return {
        name: harmonic_means(np.stack([np.asarray(means[part]) for part in parts]))
        for name, parts in track.composites.items()
    }
