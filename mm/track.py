"""The multimodal track: how a run on CLEAR is configured, finetuned, unlearned and evaluated, said once.

`mm/*.py` are these functions behind a command line; sweeps reach them by the name of the folder (sweeps/tracks.py).
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unlearn import ROOT

FAMILY = "llava-mini"  # the embedded benchmark's model
MODALITIES = ("both", "text", "visual")  # what can be forgotten; the first where nobody says
SPLIT = "forget10"
BASE_SPLIT = "full+tofu"
FORGET_TASK = 2  # place of the forget task among the evaluation's tasks
TUNING_TASKS = (2, 3, 4, 5)  # of those that a choice of settings needs
# what a config of one's own may leave out
DEFAULTS: dict[str, dict[str, Any]] = {
    "finetune": {"data_path": "data/clear-mini", "split": BASE_SPLIT},
    "forget": {
        "forget_data_path": "data/clear-mini", "retain_data_path": "data/clear-mini",
        "forget_split": "forget10+tofu", "retain_split": "retain90+tofu",
    },
    "eval": {},
    "protocols": {},
    "stress": {"data_path": "data/clear-mini", "text_data_path": "data/tofu-mini", "split": "forget10_perturbed"},
}  # fmt: skip


def config(script: str) -> tuple[Path, str]:
    """(Hydra's folder, the name in it) of a script's config."""
    return ROOT / "config", f"mm/{script}"


def settings(script: str, values: Mapping[str, Any]) -> Any:
    """The checked settings of `finetune`, `forget`, `eval`, `stress` or `protocols` from its composed config.
    ValueError names a bad key."""
    from unlearn.config.settings import FinetuneSettings, ForgetSettings, StressSettings, read_settings

    values = {"model_family": FAMILY, **DEFAULTS[script], **values}
    if script == "protocols":
        from mm.protocol_settings import protocol_settings

        return protocol_settings(values)
    if script in ("finetune", "forget") and _elsewhere(values):
        return _of_benchmark(script, values)
    if script == "finetune":
        return read_settings(FinetuneSettings, values)
    if script == "forget":
        read = read_settings(ForgetSettings, values)  # a bad key is told before more is imported
        from mm.clear import with_modality

        return with_modality(read)
    if script == "stress":
        return read_settings(StressSettings, values)
    from mm.tasks import eval_settings

    return eval_settings(values)


def _elsewhere(values: Mapping[str, Any]) -> bool:
    """Whether a config asks for another benchmark's rows, or for a folder of the user's."""
    return bool(values.get("benchmark") or (values.get("own_data") or {}).get("path"))


def _of_benchmark(script: str, values: Mapping[str, Any]) -> Any:
    """A run on another benchmark's rows: its modality is what these are."""
    from mm.benchmarks import of
    from unlearn.config.settings import FinetuneSettings, ForgetSettings, read_settings

    if values.get("exclude_people"):
        raise ValueError("exclude_people is for CLEAR; name a holdout of your own folder in own_data.holdout.")
    if script == "finetune":
        return read_settings(FinetuneSettings, values)
    settings = read_settings(ForgetSettings, values)
    return dataclasses.replace(settings, modality=settings.modality or of(settings).MODALITY)


def adapt(script: str, config: Any) -> None:
    """Another benchmark's data and splits in a composed config where it says `benchmark` or `own_data`."""
    if _elsewhere(config):
        from mm.benchmarks import adapt as fill

        fill(script, config)


def _rows(settings: Any) -> Any:
    """The module that knows the rows of a run."""
    import mm.benchmarks
    import mm.clear

    return mm.benchmarks if settings.benchmark or settings.own_data.path else mm.clear


def finetune(settings: Any) -> Path:
    """The folder of the finetuned model."""
    from unlearn import pipeline
    from unlearn.models.families import load_family

    return pipeline.finetune(
        settings, load_family(settings.model_family), lambda: _rows(settings).finetune_source(settings)
    )


def forget(settings: Any) -> Path:
    """The folder of the unlearned model."""
    from unlearn import pipeline
    from unlearn.data.samples import REFUSALS, read_lines
    from unlearn.models.families import load_family

    family = load_family(settings.model_family)
    return pipeline.forget(settings, family, lambda: _rows(settings).forget_sources(settings), read_lines(REFUSALS))


def evaluate(settings: Any) -> Path:
    """The aggregated eval log."""
    from mm.tasks import load_tasks
    from unlearn import pipeline
    from unlearn.models.families import load_family

    return pipeline.evaluate(settings, load_family(settings.model_family), lambda: load_tasks(settings),
                             lambda: eco_splits(settings))  # fmt: skip


def eco_splits(settings: Any) -> Any:
    """The (forget, retain) rows that ECO's classifier learns from: those of `eco`, else the forget script's."""
    from mm.clear import forget_sources

    eco, path = settings.eco, settings.eco.data_path or settings.tasks[0]["data_path"]
    from unlearn.config.settings import ForgetSettings

    splits = {
        "forget_split": eco.forget_split or DEFAULTS["forget"]["forget_split"],
        "retain_split": eco.retain_split or DEFAULTS["forget"]["retain_split"],
    }
    return forget_sources(
        ForgetSettings(forget_data_path=path, retain_data_path=path, data_revision=settings.data_revision, **splits)
    )


def stress(settings: Any) -> Path:
    """The folder with the results of a stress run."""
    from mm.own_stress import own_plan
    from mm.stress_plan import load_plan
    from unlearn import stress_suite
    from unlearn.models.families import load_family

    plan = own_plan if settings.own_data.path else load_plan
    return stress_suite.stress(settings, load_family(settings.model_family), lambda: plan(settings))


def gold_split(split: str) -> str:
    """The finetuning split without the people of a forget split: `retain90+tofu` for `forget10`."""
    return f"{_retain(split)}+tofu"


def forget_overrides(split: str, modality: str) -> tuple[str, ...]:
    """What makes `mm/forget.py` unlearn a forget split in a modality."""
    return f"forget_split={split}+tofu", f"retain_split={_retain(split)}+tofu", f"modality={modality}"


def eval_overrides(split: str) -> tuple[str, ...]:
    """What makes `mm/eval.py` ask about a forget split."""
    return (f"split={split}_perturbed",)


def tuning_split(split: str) -> str:
    """The forget split of other people, on which settings for `split` are chosen; the embedded benchmark has them."""
    return f"{split}_tuning"


def _retain(split: str) -> str:
    if split.endswith("_tuning"):
        return f"{_retain(split.removesuffix('_tuning'))}_tuning"
    size = split.removeprefix("forget")
    if not split.startswith("forget") or len(size) != 2 or not size.isdigit():
        raise ValueError(f"splits has {split!r}; a forget split is called forget01, forget05, forget10.")
    return f"retain{100 - int(size):02d}"
