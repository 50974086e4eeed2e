"""The three tracks under one roof: how each composes, checks, trains and evaluates, exactly as its scripts do."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unlearn import ROOT


def compose(script: str, overrides: Iterable[str], track: str = "mm") -> dict[str, Any]:
    """The config of `<track>/<script>.py` with command-line overrides, presets included, as a plain dict."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict

    folder, name = (ROOT / "config" / "cv", script) if track == "cv" else (ROOT / "config", f"{track}/{script}")
    outer, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None  # run_exps.py is a Hydra program itself
    try:
        with initialize_config_dir(str(folder), version_base=None):
            config = hydra_compose(name, [*overrides, f"hydra.job.name={script}"], return_hydra_config=True)
    finally:
        GlobalHydra.instance().hydra = outer
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    values: Any = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return values  # type: ignore[return-value]


def training_settings(track: str, script: str, overrides: Iterable[str]) -> Any:
    """The settings of a training script, checked as far as that goes without a dataset or a model."""
    config = compose(script, overrides, track)
    if track == "cv":
        from cv.settings import RunSettings, read

        return read(RunSettings, config)
    from unlearn.config.settings import FinetuneSettings, ForgetSettings, read_settings

    if script == "finetune":
        return read_settings(FinetuneSettings, config)
    if track == "nlp":
        from nlp.tofu import forget_keys

        settings = read_settings(ForgetSettings, forget_keys(config))
    else:
        from mm.clear import with_modality

        settings = with_modality(read_settings(ForgetSettings, config))
    _check_method(settings)
    return settings


def _check_method(settings: Any) -> None:
    from unlearn.registry import build_method, options_of

    options = options_of(settings.forget_loss, settings.method_args)
    build_method(settings.forget_loss, options, loss_beta=settings.loss_beta)


def evaluation_settings(track: str, overrides: Iterable[str]) -> Any:
    """The settings of the track's eval.py."""
    if track == "nlp":
        from nlp.tasks import eval_settings
    else:
        from mm.tasks import eval_settings
    return eval_settings(compose("eval", overrides, track))


def train(track: str, script: str, settings: Any) -> None:
    """Trains in this process; of the face track, the whole study."""
    if track == "cv":
        return _study(*settings)
    from unlearn import pipeline
    from unlearn.data.samples import REFUSALS, read_lines
    from unlearn.models.families import load_family

    if track == "nlp":
        from nlp.tofu import finetune_source, forget_sources
    else:
        from mm.clear import finetune_source, forget_sources  # type: ignore[assignment]
    family = load_family(settings.model_family)
    if script == "finetune":
        pipeline.finetune(settings, family, lambda: finetune_source(settings))
    else:
        pipeline.forget(settings, family, lambda: forget_sources(settings), read_lines(REFUSALS))


def evaluate(track: str, settings: Any) -> Path:
    """Evaluates in this process; returns the aggregated log."""
    from unlearn import pipeline
    from unlearn.models.families import load_family

    if track == "nlp":
        from nlp.tasks import load_tasks
    else:
        from mm.tasks import load_tasks
    return pipeline.evaluate(settings, load_family(settings.model_family), lambda: load_tasks(settings))


def _study(settings: Any, compute: Any) -> None:
    from cv.study import run_study
    from cv.training.fleet import Fleet

    def composed(script: str, overrides: list[str]) -> Mapping[str, Any]:
        return compose(script, overrides, "cv")

    with Fleet(compute) as fleet:
        run_study(settings, fleet, composed)
