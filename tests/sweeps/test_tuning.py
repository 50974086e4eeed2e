"""One budget for all: the same number of trials of every method, on people who are not reported, to one table."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sweeps.curves import curve_jobs
from sweeps.jobs import Variant, base_job, forget_job, variants
from sweeps.pictures import _stairs
from sweeps.runner import estimate, plans
from sweeps.settings import Sweep
from sweeps.study import run_sweep
from sweeps.summary import verdict
from sweeps.tracks import find
from sweeps.tuning import choose, trial_settings, tuning_of
from unlearn import ROOT
from unlearn.config.build import build_settings
from unlearn.leaderboard.seeds import Number
from unlearn.runs.record import settings_hash

QUICK = {"finetune": ["max_steps=2", "save_steps=0"], "forget": ["max_steps=1", "save_steps=0"],
         "eval": ["ds_size=3", "generation.max_new_tokens=3"], "executor": "debug", "jobs": 1}  # fmt: skip


def sweep_of(*words: str, **changes: Any) -> Sweep:
    """The settings of `python run_exps.py tune=true WORDS`."""
    with initialize_config_dir(str(ROOT / "config"), version_base=None):
        config = OmegaConf.to_container(compose("run_exps", ["tune=true", *words]), resolve=True)
    return build_settings(Sweep, {**config, **changes})  # type: ignore[dict-item]


def test_every_registered_method_gets_as_many_different_trials() -> None:
    sweep = sweep_of()
    sweep.check()
    methods = [name for name, _ in variants(sweep)]
    assert len(methods) > 30
    assert {len(set(trial_settings(sweep, name))) for name in methods} == {sweep.trials}
    assert all(setting[0].startswith("lr=") for setting in trial_settings(sweep, "retain_ft")), "rates alone"
    edits = [*trial_settings(sweep, "kvw"), *trial_settings(sweep, "manu")]
    assert not any(word.startswith("lr=") for setting in edits for word in setting), "they take no steps"
    assert dict(variants(sweep))["kvw"] == ("LoRA.r=0",) and dict(variants(sweep))["npo"] == ()


def test_trials_are_rates_times_own_settings_cut_rate_by_rate() -> None:
    sweep = Sweep(trials=5, grid=["lr=1", "lr=2", ["lr=3", "num_epochs=2"]], grid_more={"NPO": ["a=1"]})
    own = [("lr=1",), ("lr=1", "a=1"), ("lr=2",), ("lr=2", "a=1"), ("lr=3", "num_epochs=2")]
    assert trial_settings(sweep, "npo") == own
    with pytest.raises(ValueError, match="trials=5, but KL has 3 settings: 3 of grid times 1 of grid_more.KL"):
        trial_settings(sweep, "KL")


@pytest.mark.parametrize(("track", "tasks"), [("mm", [2, 3, 4, 5]), ("nlp", [0, 3])])
def test_trials_meet_nobody_who_is_reported(tmp_path: Path, track: str, tasks: list[int]) -> None:
    sweep = sweep_of(f"track={track}", "methods=[npo]", f"save_dir={tmp_path}", "trials=2")
    tuning = tuning_of(sweep)
    ending = "+tofu" if track == "mm" else ""
    gold, base = plans([tuning.gold, tuning.base], sweep)
    assert gold.training.split == f"retain90_tuning{ending}" and base.training.split == f"full{ending}"
    forget = find(track).FORGET_TASK
    assert [one.tasks[forget]["split"] for one in base.evaluations] == [
        "forget10_perturbed",
        "forget10_tuning_perturbed",
    ]
    assert [one.tasks[forget]["split"] for one in gold.evaluations] == ["forget10_tuning_perturbed"]
    for work in tuning.works:
        settings, (evaluation,) = work.training, work.evaluations
        assert settings.forget_split == f"forget10_tuning{ending}" and settings.seed == 0
        assert settings.retain_split == f"retain90_tuning{ending}"
        asked = {evaluation.tasks[place]["split"] for place in evaluation.eval_task_ids}
        assert evaluation.eval_task_ids == tasks and asked == {"forget10_tuning_perturbed", "retain_tuning_perturbed"}
    assert [work.training.method_args["npo"]["retain_weight"] for work in tuning.works] == [0, 1]


def test_the_curve_is_that_of_the_reported_run(tmp_path: Path) -> None:
    """Watched beside it, with its settings; nothing is evaluated, and what takes no steps has no curve."""
    sweep = sweep_of("methods=[npo,kvw]", f"save_dir={tmp_path}", "trials=2", "seeds=[4,5]")
    tuning = tuning_of(sweep)
    chosen = dict(list(tuning.words)[1::2])  # of each method the second
    (tmp_path / "tuned.json").write_text(json.dumps(chosen))
    (job,) = curve_jobs(sweep, tuning)
    reported = forget_job(
        sweep, tuning.base, Variant("npo (tuned)", "npo", tuning.words["npo", chosen["npo"]]), "both", "forget10", 4
    )
    curve, run = (work.training for work in plans([job, reported], sweep))
    assert curve.eval_while_train and not run.eval_while_train and job.evaluations == ()
    assert settings_hash(curve) == settings_hash(run) and curve.save_dir != run.save_dir


def test_the_modality_of_the_tuning_split(tmp_path: Path) -> None:
    for modality, path in (("text", "data/tofu-mini"), ("visual", "data/clear-mini")):
        sweep = sweep_of(f"modalities=[{modality}]", "methods=[npo]", f"save_dir={tmp_path}", "trials=1")
        (work,) = tuning_of(sweep).works
        assert (work.training.forget_data_path, work.training.forget_split) == (path, "forget10_tuning")


def test_of_equals_the_first_is_chosen() -> None:
    rows = {("a", name): {"Retain metric": 0.8, "Forget metric": forget} for name, forget in
            (("x", 0.3), ("y", 0.1), ("z", 0.3))}  # fmt: skip
    gold = {"Retain metric": 0.8, "Forget metric": 0.2}
    for order in itertools.permutations(rows):
        numbers = {key: {**rows[key], "Forget metric": 0.3} for key in order}
        assert choose(numbers, gold, gold, 0.95) == {"a": order[0][1]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trials=99"], "trials=99, but npo has 27 settings: 9 of grid times 3.*Add entries, or lower trials"),
        (["tuning_split=forget10"], "tuning_split=forget10 is reported"),
        (["+experiment=llava"], "needs a forget split of people who are not reported.*tuning_split=forget10_tuning"),
        (["splits=[forget05,forget10]"], "tune=true chooses a setting for one modality and one split"),
        (["tuning_split=others"], "splits has 'others'"),
    ],
)
def test_bad_words(words: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        run_sweep(sweep_of("methods=[npo]", *words, f"save_dir={tmp_path}"))
    assert not list(tmp_path.glob("*/run.json")), "before a model is made"


def test_the_estimate_counts_what_is_left(tmp_path: Path) -> None:
    sweep = Sweep(save_dir=str(tmp_path), executor="debug", job_seconds=30)
    (work,) = plans([base_job(sweep)], sweep)
    assert estimate([work], 3, sweep) == (
        "at most 4 jobs to do (0 finished before), 30 s each (job_seconds), 1 at a time: about 2 min"
    )
    work.note("finished", seconds=60.0)  # its files are not there: it is to be done again
    assert "4 jobs to do (0 finished before), 60 s each (measured here)" in estimate([work], 3, sweep)


def test_the_front_is_drawn_as_what_is_lost_by_keeping_more() -> None:
    """Between two points of it, who must keep more than the first has to take the second."""
    assert _stairs([(0.5, 0.1), (0.7, 0.3), (0.8, 0.6)]) == ([0.5, 0.5, 0.7, 0.7, 0.8], [0.1, 0.3, 0.3, 0.6, 0.6])
    assert _stairs([]) == ([], [])


@pytest.mark.parametrize(
    ("gap", "retain", "said"),
    [
        ((-0.2, -0.1), (-0.1, 0.1), "beats"),
        ((-0.2, -0.1), (-0.2, -0.1), "trades"),
        ((-0.1, 0.1), (-0.1, 0.1), "unknown"),
        ((0.1, 0.2), (-0.1, 0.1), "loses"),
        ((-0.1, 0.1), (0.1, 0.2), "keeps more"),
        ((-0.1, 0.1), (-0.2, -0.1), "loses"),
        (None, (0.1, 0.2), "unknown"),
    ],
)
def test_verdicts(gap: Any, retain: Any, said: str) -> None:
    assert verdict({"gap": Number(0.0, gap and [*gap]), "retain": Number(0.0, [*retain])}) == said


@pytest.mark.slow
@pytest.mark.parametrize("track", ["mm", "nlp"])
def test_two_methods_from_the_trials_to_the_table(tmp_path: Path, track: str) -> None:
    methods = ["grad_diff_forget_ce_retain_ce", "npo"]
    sweep = sweep_of(f"track={track}", "trials=2", "seeds=[1]", f"save_dir={tmp_path}", methods=methods, **QUICK)
    said = run_sweep(sweep)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [line["label"] for line in results["lines"]] == [
        "gold", "base", *(name + ending for name in methods for ending in ("", " (tuned)"))
    ]  # fmt: skip
    assert "| npo (tuned)" in said and "grad\\_diff\\_forget\\_ce\\_retain\\_ce (tuned)" in said and "0 failed" in said
    assert all(line["train_seconds"] > 0 and line["memory_mb"] > 100 for line in results["lines"])
    assert any(line["front"] for line in results["lines"]) and list(results["against"]) == ["npo (tuned)"]
    trials = json.loads((tmp_path / "trials.json").read_text())
    assert len(trials["rows"]) == 4 and sum(row["chosen"] for row in trials["rows"]) == 2
    assert json.loads((tmp_path / "tuned.json").read_text()) == {
        row["method"]: row["setting"] for row in trials["rows"] if row["chosen"]
    }
    assert (tmp_path / "results.png").is_file() and (tmp_path / "pareto.png").is_file()
    assert (tmp_path / "results.md").read_text().startswith("| Method")
    assert (tmp_path / "curves.png").is_file()
    watched, reported = (tmp_path / f"npo_({kind})_seed1" / "adapter_model.safetensors" for kind in ("curve", "tuned"))
    assert watched.read_bytes() == reported.read_bytes() and (watched.parent / "watch.jsonl").is_file()
    assert f"{3 + 4 + 4 + 2} kept, 0 failed" in run_sweep(sweep)
