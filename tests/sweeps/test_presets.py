"""Every job of every axis, preset and track composes to the run it names; what cannot go together is refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sweeps.figure5 import figure_jobs
from sweeps.jobs import base_job, forget_jobs, gold_jobs, study_job, variants
from sweeps.paper import paper_table
from sweeps.runner import plans
from sweeps.settings import TABLES, SlurmSettings, Sweep
from sweeps.study import run_sweep
from unlearn import ROOT
from unlearn.config.build import build_settings

EXPERIMENTS = {"1": "llava", "3": "llava", "4": "mistral", "5": "clear", "6": "qwen2vl", "fig5": "llava"}
FAMILIES = {"llava": "llava", "mistral": "mistral", "clear": "resnet-18", "qwen2vl": "qwen-vl2-2b"}


def sweep_of(*words: str, **changes: Any) -> Sweep:
    """The settings of `python run_exps.py WORDS`."""
    with initialize_config_dir(str(ROOT / "config"), version_base=None):
        config = OmegaConf.to_container(compose("run_exps", list(words)), resolve=True)
    return build_settings(Sweep, {**config, **changes})  # type: ignore[dict-item]


def works_of(sweep: Sweep) -> list:
    if sweep.table == "fig5":
        return plans(list(figure_jobs(sweep).values()), sweep)
    if sweep.track == "cv":
        return plans([study_job(sweep)], sweep)
    base = base_job(sweep)
    return plans([base, *gold_jobs(sweep).values(), *forget_jobs(sweep, base)], sweep)


def test_the_file_and_the_dataclass_have_the_same_keys_and_defaults() -> None:
    told = sweep_of()
    own: Any = {name: getattr(told, name) for name in ("grid", "grid_more")}  # the files' alone
    assert told == Sweep(**own)
    assert {"lr=1e-3", "lr=2e-3"} <= set(told.grid) and "method_args.dpo.retain_weight=1" in told.grid_more["dpo"]


@pytest.mark.parametrize("label", [[], ["lr=2e-4", "method_args.npo.beta=0.3"]])
def test_every_axis_reaches_the_run_it_names(tmp_path: Path, label: list[str]) -> None:
    axes = {"modalities": ["text", "visual", "both"], "splits": ["forget05", "forget10"], "seeds": [4]}
    sweep = Sweep(save_dir=str(tmp_path / "a sweep"), methods=["npo"], options=[label], **axes)  # type: ignore[arg-type]
    works = works_of(sweep)
    base, golds, forgetting = works[0], works[1:3], works[3:]
    assert len({work.job.folder for work in works}) == len(works) == 3 + 6
    assert [one.save_dir for one in base.evaluations] == [
        str(base.job.folder / "eval_results" / "forget05"), str(base.job.folder / "eval_results")
    ], "base is asked about each forget split"  # fmt: skip
    assert [work.training.split for work in golds] == ["retain95+tofu", "retain90+tofu"]
    for work in forgetting:
        job, settings, (evaluation,) = work.job, work.training, work.evaluations
        size = job.split.removeprefix("forget")
        assert settings.forget_split == job.split + "+tofu" * (job.modality == "both")
        assert settings.forget_data_path == ("data/tofu-mini" if job.modality == "text" else "data/clear-mini")
        assert settings.retain_split == f"retain{100 - int(size)}+tofu" and settings.modality == job.modality
        assert (settings.seed, settings.save_dir) == (job.seed, str(job.folder))
        assert settings.lr == (2e-4 if label else 1e-3) and settings.forget_loss == "npo"
        assert settings.method_args["npo"]["beta"] == (0.3 if label else 1.0)
        assert settings.model_path == str(base.job.folder)
        assert evaluation.model_path == str(job.folder) and not evaluation.overwrite
        assert {task["split"] for task in evaluation.tasks} >= {f"{job.split}_perturbed"}
        assert evaluation.method_name == job.label == ("npo" + (f" [{','.join(label)}]" if label else ""))


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_of_the_papers_methods_and_every_job_of_it_composes(tmp_path: Path, table: str) -> None:
    sweep = sweep_of(f"+table='{table}'", save_dir=str(tmp_path), seeds=[1])
    sweep.check()
    works = works_of(sweep)
    families = {"4": "llama-mini", "5": "faces", "6": "qwen2vl-mini"}
    assert sweep.model_family == families.get(table, "llava-mini")
    if table == "fig5":
        assert sorted(work.training.data_fraction for work in works) == [n / 10 for n in range(1, 11)]
        assert {work.training.seed for work in works} == {42} and {work.training.split for work in works} == {
            "full+tofu"
        }
        assert [one.eval_task_ids for one in works[0].evaluations] == [[2]]
        assert works[0].evaluations[0].tasks[2]["eval_task"] == "eval_log_forget"
        return
    printed = set(paper_table(table).rows)
    if table == "5":
        assert {"original", *works[0].training[0].methods} == printed
        return
    keys = {f"{work.job.method}/{work.job.modality}" if table == "3" else work.job.method for work in works[2:]}
    assert keys == printed - {"gold", "base"}
    assert len(works) == 2 + len(printed) - 2
    assert {work.job.modality for work in works[2:]} == ({"text", "visual", "both"} if table == "3" else
                                                         {"text"} if table == "4" else {"both"})  # fmt: skip


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("table", TABLES)
def test_a_table_on_the_papers_model(tmp_path: Path, table: str, order: int) -> None:
    name = EXPERIMENTS[table]
    words = [f"+table='{table}'", f"+experiment={name}"][::order]
    methods = {} if table == "5" else {"methods": ["npo"]}
    sweep = sweep_of(*words, save_dir=str(tmp_path), seeds=[1], fractions=[0.5, 1.0], **methods)
    sweep.check()
    works = works_of(sweep)
    assert sweep.model_family == FAMILIES[name] and sweep.experiment == name
    for work in works:
        if table == "5":
            assert "data_path=therem/CLEAR" in work.training[0].overrides["prepare"]
            continue
        path = getattr(work.training, "data_path", None) or work.training.forget_data_path
        assert path == ("locuslab/TOFU" if table == "4" or work.job.modality == "text" else "therem/CLEAR")
        assert work.training.model_family == FAMILIES[name] == work.evaluations[0].model_family
        assert work.training.LoRA.r == (0 if table == "6" else 8) and work.training.lr == 1e-5
        expected = 12 if work.job.script == "finetune" else 1
        assert work.training.batch_size == (4 if table == "4" else expected)


def test_a_mistake_in_one_job_is_found_before_the_first_one_runs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dpo_seed1.*betta.*did you mean 'beta'"):
        run_sweep(Sweep(save_dir=str(tmp_path), methods=["npo", "dpo"], seeds=[1],
                        settings={"dpo": ["+method_args.dpo.betta=1"]}))  # fmt: skip
    with pytest.raises(ValueError, match="npo_seed1.*lrr"):
        run_sweep(Sweep(save_dir=str(tmp_path), methods=["npo"], seeds=[1], forget=["lrr=1"]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("changes", "said"), [
    ({"tune": True, "modalities": ["text", "both"]}, "one modality"),
    ({"seeds": []}, "seeds is empty"),
    ({"seeds": [1, 1]}, "called npo_seed1"),
    ({"splits": ["retain90"]}, "'retain90'"),
    ({"experiment": "llama2"}, "llama2 is not one of the mm track's .llava, qwen2vl"),
    ({"table": "4"}, "of the nlp track, not of mm"),
    ({"table": "fig5", "fractions": [0.1, 0.9]}, "the largest of them 1"),
    ({"options": [{"lr": 1}]}, "list of overrides"),
    ({"methods": ["np0"]}, "npo"),
    ({"settings": {"scrup": []}}, "scrub"),
    ({"track": "cv", "tune": True}, "cv track is one study"),
    ({"slurm": SlurmSettings(gpus=2)}, "one GPU; raise jobs"),
])  # fmt: skip
def test_what_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run_sweep(Sweep(**{"save_dir": str(tmp_path), "methods": ["npo"], "seeds": [1], **changes}))
    assert not list(tmp_path.iterdir()), "nothing was begun"


def test_one_method_by_name_and_settings_in_any_letter_case() -> None:
    assert list(variants(Sweep(methods="npo", settings={"NPO": ["lr=1"]}))) == [("npo", ("lr=1",))]
    assert "grad_diff" not in dict(variants(Sweep())), "short for another one of the list"


def test_the_command_takes_a_number_for_a_table_and_answers_without_heavy_imports() -> None:
    command = [
        sys.executable,
        "-X",
        "importtime",
        "run_exps.py",
        "+table=3",
        "+experiment=llava",
        "--cfg",
        "job",
        "--resolve",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "table: '3'" in done.stdout and "model_family: llava\n" in done.stdout
    assert "torch" not in {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
