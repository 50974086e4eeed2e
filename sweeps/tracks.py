"""A track by its name: the module `<track>.track`, which says how its runs are configured and carried out.

A benchmark of one's own is a folder beside mm/ with a track.py that has what `Track` lists; nothing here needs to know.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from unlearn import ROOT


class Track(Protocol):
    """What a sweep needs of a track's module."""

    FAMILY: str  # model_family of a sweep that names none
    MODALITIES: tuple[str, ...]  # what can be forgotten; the first where a sweep names none
    SPLIT: str  # forget split of a sweep that names none
    BASE_SPLIT: str  # what the base model is finetuned on
    FORGET_TASK: int  # place of the forget task among the evaluation's tasks
    TUNING_TASKS: tuple[int, ...]  # of those that the Retain and the Forget metric are made of (tune=true alone)

    def config(self, script: str) -> tuple[Path, str]:
        """(Hydra's folder, the name in it) of the config of finetune, forget or eval."""

    def settings(self, script: str, values: Mapping[str, Any]) -> Any:
        """The checked settings from a composed config."""

    def finetune(self, settings: Any) -> Path: ...

    def forget(self, settings: Any) -> Path: ...

    def evaluate(self, settings: Any) -> Any: ...

    def tuning_split(self, split: str) -> str:
        """The forget split of other people, on which settings for `split` are chosen (tune=true alone)."""

    def gold_split(self, split: str) -> str:
        """The finetuning split of the model that never saw a forget split."""

    def forget_overrides(self, split: str, modality: str) -> tuple[str, ...]:
        """Overrides of its forget script for a forget split and modality."""

    def eval_overrides(self, split: str) -> tuple[str, ...]:
        """Overrides of its eval script that ask about a forget split."""


class StudyTrack(Protocol):
    """A track whose whole sweep is one job of its script `run`. Its settings are (what is done, where it runs)."""

    FAMILY: str
    MODALITIES: tuple[str, ...]
    SPLIT: str

    def config(self, script: str) -> tuple[Path, str]: ...

    def settings(self, script: str, values: Mapping[str, Any]) -> Any: ...

    def study(self, settings: Any, compose: Callable[[str, list[str]], Mapping[str, Any]]) -> Any: ...

    def study_overrides(self, folder: Path, methods: Sequence[str] | None, split: str) -> tuple[str, ...]: ...

    def table(self, rows: Sequence[Mapping[str, Any]]) -> str: ...


def find(name: str) -> Any:
    """The module of a track, a Track or a StudyTrack. ValueError where there is none."""
    try:
        return importlib.import_module(f"{name}.track")
    except ModuleNotFoundError as error:
        if error.name not in (name, f"{name}.track"):
            raise
    known = ", ".join(sorted(file.parent.name for file in ROOT.glob("*/track.py")))
    raise ValueError(f"track={name}: there is no module {name}.track; tracks here are {known}.")


def is_study(name: str) -> bool:
    """Whether the track's sweep is one study."""
    return hasattr(find(name), "study")


def presets(name: str) -> list[str]:
    """What `+experiment=` may be."""
    folder, config = find(name).config("forget")
    return sorted(file.stem for file in (folder / config).parent.glob("experiment/*.yaml"))


def compose(script: str, overrides: Iterable[str], track: str = "mm") -> dict[str, Any]:
    """The config of `<track>/<script>.py` with command-line overrides, presets included, as a plain dict."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict

    folder, name = find(track).config(script)
    outer, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None  # run_exps.py is a Hydra program itself
    try:
        with initialize_config_dir(str(folder), version_base=None):
            config = hydra_compose(name, [*overrides, f"hydra.job.name={script}"], return_hydra_config=True)
    finally:
        GlobalHydra.instance().hydra = outer
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    getattr(find(track), "adapt", lambda *_: None)(script, config)
    values: Any = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return values  # type: ignore[return-value]


def training_settings(track: str, script: str, overrides: Iterable[str]) -> Any:
    """The settings of a training script, checked as far as that goes without a dataset or a model."""
    settings = find(track).settings(script, compose(script, overrides, track))
    if script == "forget":
        from unlearn.registry import build_method, options_of

        options = options_of(settings.forget_loss, settings.method_args)
        build_method(settings.forget_loss, options, loss_beta=settings.loss_beta)
    return settings


def evaluation_settings(track: str, overrides: Iterable[str]) -> Any:
    """The settings of the track's eval script."""
    return find(track).settings("eval", compose("eval", overrides, track))


def train(track: str, script: str, settings: Any) -> None:
    """Trains in this process: finetune, forget, or run, a whole study."""
    module = find(track)
    if script == "run":
        module.study(settings, lambda name, overrides: compose(name, overrides, track))
    else:
        getattr(module, script)(settings)


def evaluate(track: str, settings: Any) -> Any:
    """Evaluates in this process; the aggregated log."""
    return find(track).evaluate(settings)
