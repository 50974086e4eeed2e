"""The text track: how a run on TOFU is configured, finetuned, unlearned and evaluated, said once.

`nlp/*.py` are these functions behind a command line; sweeps reach them by the name of the folder (sweeps/tracks.py).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unlearn import ROOT

FAMILY = "llama-mini"  # the embedded benchmark's model
MODALITIES = ("text",)
SPLIT = "forget10"
BASE_SPLIT = "full"
FORGET_TASK = 3  # place of the forget task among the evaluation's tasks
TUNING_TASKS = (0, 3)  # of those that a choice of settings needs
# what a config of one's own may leave out
DEFAULTS: dict[str, dict[str, Any]] = {
    "finetune": {"data_path": "data/tofu-mini", "split": BASE_SPLIT},
    "forget": {"data_path": "data/tofu-mini", "split": SPLIT},
    "eval": {},
    "stress": {"data_path": "data/tofu-mini", "split": "forget10_perturbed"},
}


def config(script: str) -> tuple[Path, str]:
    """(Hydra's folder, the name in it) of a script's config."""
    return ROOT / "config", f"nlp/{script}"


def settings(script: str, values: Mapping[str, Any]) -> Any:
    """The checked settings of `finetune`, `forget`, `eval` or `stress` from its composed config. ValueError names a bad
    key."""
    from unlearn.config.settings import FinetuneSettings, ForgetSettings, StressSettings, read_settings

    values = {"model_family": FAMILY, **DEFAULTS[script], **values}
    if values.get("exclude_people"):
        raise ValueError(
            "exclude_people is a key of mm/: TOFU has authors whom nobody trains on, holdout10 and others."
        )
    if script == "finetune":
        return read_settings(FinetuneSettings, values)
    if script == "forget":
        from nlp.tofu import forget_keys

        return read_settings(ForgetSettings, forget_keys(values))
    if script == "stress":
        return read_settings(StressSettings, values)
    from nlp.tasks import eval_settings

    return eval_settings(values)


def finetune(settings: Any) -> Path:
    """The folder of the finetuned model."""
    from nlp.tofu import finetune_source
    from unlearn import pipeline
    from unlearn.models.families import load_family

    return pipeline.finetune(settings, load_family(settings.model_family), lambda: finetune_source(settings))


def forget(settings: Any) -> Path:
    """The folder of the unlearned model."""
    from nlp.tofu import forget_sources
    from unlearn import pipeline
    from unlearn.data.samples import REFUSALS, read_lines
    from unlearn.models.families import load_family

    family = load_family(settings.model_family)
    return pipeline.forget(settings, family, lambda: forget_sources(settings), read_lines(REFUSALS))


def evaluate(settings: Any) -> Path:
    """The aggregated eval log."""
    from nlp.tasks import load_tasks
    from unlearn import pipeline
    from unlearn.models.families import load_family

    return pipeline.evaluate(settings, load_family(settings.model_family), lambda: load_tasks(settings),
                             lambda: eco_splits(settings))  # fmt: skip


def eco_splits(settings: Any) -> Any:
    """The (forget, retain) rows that ECO's classifier learns from: those of `eco`, else the forget script's."""
    from nlp.tofu import forget_keys, forget_sources

    eco, path = settings.eco, settings.eco.data_path or settings.tasks[0]["data_path"]
    from unlearn.config.settings import ForgetSettings

    split = eco.forget_split or DEFAULTS["forget"]["split"]
    keys = forget_keys({"split": split, "data_path": path, "retain_split": eco.retain_split or None})
    return forget_sources(ForgetSettings(data_revision=settings.data_revision, **keys))


def stress(settings: Any) -> Path:
    """The folder with the results of a stress run."""
    from nlp.stress_plan import load_plan
    from unlearn import stress_suite
    from unlearn.models.families import load_family

    return stress_suite.stress(settings, load_family(settings.model_family), lambda: load_plan(settings))


def gold_split(split: str) -> str:
    """The finetuning split without the authors of a forget split: `retain90` for `forget10`."""
    from nlp.tofu import retain_split

    return retain_split(split)


def forget_overrides(split: str, modality: str) -> tuple[str, ...]:
    """What makes `nlp/forget.py` unlearn a forget split; there is one modality."""
    return (f"split={split}",)


def eval_overrides(split: str) -> tuple[str, ...]:
    """What makes `nlp/eval.py` ask about a forget split."""
    return (f"split={split}_perturbed",)


def tuning_split(split: str) -> str:
    """The forget split of other authors, on which settings for `split` are chosen; the embedded benchmark has them."""
    return f"{split}_tuning"
