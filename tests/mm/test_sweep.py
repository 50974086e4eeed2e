"""The jobs of a sweep: every override composes, whatever the folders are called, and each run has a folder of its own."""

from pathlib import Path

import pytest

from mm.sweep import Sweep, _forget_jobs, _variants, compose, finetune_job, run_sweep
from mm.tasks import eval_settings
from unlearn.settings import ForgetSettings, read_settings


def jobs(sweep: Sweep, label: str, *overrides: str) -> list:
    return _forget_jobs(sweep, finetune_job(sweep, "full+tofu"), label, overrides, sweep.seeds)


@pytest.mark.parametrize("label", ["npo", "npo [lr=2e-4]", "npo (tuned)"])
@pytest.mark.parametrize("modalities", [["both"], ["text", "visual", "both"]])
def test_every_override_composes_to_the_run_it_names(tmp_path: Path, label: str, modalities: list[str]) -> None:
    sweep = Sweep(save_dir=str(tmp_path / "a sweep"), modalities=modalities, seeds=[1, 2])
    made = jobs(sweep, label, "lr=2e-4")
    assert len({job.folder for job in made}) == len(made) == 2 * len(modalities)
    for job in made:
        settings = read_settings(ForgetSettings, compose("forget", job.overrides))
        assert (settings.forget_loss, settings.lr, settings.save_dir) == ("npo", 2e-4, str(job.folder))
        assert settings.model_path == str(tmp_path / "a sweep" / "ft_full+tofu")
        evaluation = eval_settings(compose("eval", job.evaluation))
        assert (evaluation.model_path, evaluation.method_name) == (str(job.folder), job.label)


def test_one_method_by_name_and_settings_in_any_letter_case() -> None:
    assert _variants(Sweep(methods="npo", settings={"NPO": ["lr=1"]})) == [("npo", ("lr=1",))]
    with pytest.raises(ValueError, match="npo"):
        _variants(Sweep(methods=["np0"]))
    with pytest.raises(ValueError, match="scrub"):
        _variants(Sweep(methods=["npo"], settings={"scrup": []}))


def test_tuning_is_for_one_modality(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one modality"):
        run_sweep(Sweep(save_dir=str(tmp_path), tune=True, modalities=["text", "both"]))
