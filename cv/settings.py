"""Settings of the face scripts, one frozen dataclass each; how the models are spread over the machine is kept apart,
because it does not change a result."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cv.network.margin import Margin
from unlearn.config.build import at_least, build_settings, choice
from unlearn.plugins import load_plugins

T = TypeVar("T")


@dataclass(frozen=True)
class ComputeSettings:
    """Where models train. Null: a GPU if there is one, as many models at once as fit its memory (on a CPU one), and on
    a CPU one single-threaded process per core."""

    device: str | None = choice(None, "cpu", "cuda")
    models_per_batch: int | None = at_least(None, 1)
    processes: int | None = at_least(None, 1)


@dataclass(frozen=True)
class PrepareSettings:
    """`cv/prepare.py`."""

    data_path: str = "data/faces-mini"
    data_split: str = "default"  # configuration of a hub dataset
    data_revision: str | None = None
    size: int = at_least(32, 8)  # pixels a side
    models: int = at_least(16, 4)
    num_enroll: int = at_least(5, 1)
    forget: list[str] | None = None  # who is forgotten; null: CLEAR's own list, or drawn by seed
    holdout: list[str] | None = None
    seed: int = at_least(42, 0, 2**32 - 1)
    save_dir: str = "models/cv/splits"
    overwrite_dir: bool = False


@dataclass(frozen=True)
class TrainingSettings:
    """What pretrain, finetune and forget share."""

    lr: float = at_least(0.1, 0)
    momentum: float = at_least(0.9, 0)
    weight_decay: float = at_least(5e-5, 0)
    num_epochs: int = at_least(20, 1, 10**6)
    batch_size: int = at_least(256, 1, 10**6)
    lr_scheduler: str = choice("constant", "linear", "cosine")
    warmup: float = at_least(0.0, 0)  # share of the steps
    batchnorm: str = choice("train", "eval")
    seed: int = at_least(0, 0, 2**32 - 1)
    save_dir: str = ""
    overwrite_dir: bool = False

    def optimisation(self) -> Optimisation:
        return Optimisation(self.lr, self.momentum, self.weight_decay, self.lr_scheduler, self.warmup, self.batchnorm)


@dataclass(frozen=True)
class PretrainSettings(TrainingSettings):
    """`cv/pretrain.py`."""

    data_path: str = "data/celebrities-mini"
    data_split: str = "default"
    data_revision: str | None = None
    size: int = at_least(32, 8)
    architecture: str = choice("resnet-mini", "resnet-18")
    init: str = "random"  # or microsoft/resnet-18, or a file or folder with such weights
    margin: Margin = field(default_factory=Margin)
    test_persons: int = at_least(20, 0)  # people kept out of training altogether
    valid_share: float = at_least(0.2, 0)  # of the other people's photos
    num_enroll: int = at_least(5, 1)


@dataclass(frozen=True)
class FinetuneSettings(TrainingSettings):
    """`cv/finetune.py`."""

    model_path: str = "models/cv/pretrained"
    splits: str = "models/cv/splits"


@dataclass(frozen=True)
class ForgetSettings(TrainingSettings):
    """`cv/forget.py`."""

    model_path: str = "models/cv/original"  # the models that shall forget
    splits: str = "models/cv/splits"
    method: str = "finetune"
    options: Mapping[str, Any] = field(default_factory=dict)
    forget_size: str = choice("10", "05", "01")  # percent of the identities
    oversample: int = at_least(1, 1)  # passes over the forget photos in one epoch


@dataclass(frozen=True)
class ScoreSettings:
    """`cv/score.py`."""

    model_path: str = "models/cv/original"
    splits: str = "models/cv/splits"
    forget_size: str = choice("10", "05", "01")
    num_enroll: int = at_least(5, 1)


@dataclass(frozen=True)
class AttackSettings:
    """`cv/attack.py`."""

    model_path: str = "models/cv/original"
    splits: str = "models/cv/splits"
    forget_size: str = choice("10", "05", "01")
    attack: str = choice("ulira", "umia")
    include_enrolment: bool = False  # true: the published code's choice
    num_enroll: int = at_least(5, 1)
    draws: int = at_least(1000, 10)  # resamples of models and people
    seed: int = at_least(0, 0, 2**32 - 1)


@dataclass(frozen=True)
class RunSettings:
    """`cv/run.py`. `overrides` are Hydra overrides of the scripts it runs, by stage or method; `data_path` and `forget`
    are prepare's, null where it decides."""

    root: str = "models/cv"
    data_path: str | None = None
    forget: list[str] | None = None
    methods: list[str] = field(default_factory=list)
    forget_size: str = choice("10", "05", "01")
    overrides: Mapping[str, Any] = field(default_factory=dict)
    leaderboard: str = "models/cv/cv_leaderboard.json"
    submitted_by: str = ""


def read(cls: type[T], config: Mapping[str, Any]) -> tuple[T, ComputeSettings]:
    """A script's settings and its `compute` section. Plugins are loaded first. ValueError as
    `unlearn.settings.build_settings` says."""
    values = dict(config)
    load_plugins(values.pop("plugins", None))
    compute = build_settings(ComputeSettings, values.pop("compute", None) or {}, where="compute.")
    if isinstance(values.get("forget_size"), int):
        values["forget_size"] = f"{values['forget_size']:02d}"
    return build_settings(cls, values), compute


def as_values(settings: Any) -> dict[str, Any]:
    return dataclasses.asdict(settings)


@dataclass(frozen=True)
class Optimisation:
    """SGD. `warmup` is the share of the steps in which the rate rises to `lr`; `batchnorm` the mode of the
    student's."""

    lr: float
    momentum: float = 0.9
    weight_decay: float = 5e-5
    schedule: str = "constant"
    warmup: float = 0.0
    batchnorm: str = "train"

    def rate(self, step: int, total: int) -> float:
        """Learning rate of `step`, counted from 0, of `total`."""
        warm = round(self.warmup * total)
        if step < warm:
            return self.lr * (step + 1) / warm
        done = (step - warm) / max(1, total - warm)
        factor = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[self.schedule]
        return self.lr * factor
