"""Settings of every script: dataclasses, how they are built from a config, and what a misspelt key is answered."""

from unlearn.config.build import build_settings
from unlearn.config.settings import (
    EvalSettings,
    FinetuneSettings,
    ForgetSettings,
    GenerationSettings,
    LoraSettings,
    TrainSettings,
    read_settings,
)

__all__ = [
    "EvalSettings",
    "FinetuneSettings",
    "ForgetSettings",
    "GenerationSettings",
    "LoraSettings",
    "TrainSettings",
    "build_settings",
    "read_settings",
]
