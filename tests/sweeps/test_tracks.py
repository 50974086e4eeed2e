"""A track is found by its name alone, and each says what a sweep asks of it; a benchmark of one's own is a folder."""

import inspect
import json
import sys
from pathlib import Path

import pytest

from sweeps.jobs import base_job, forget_jobs, gold_jobs
from sweeps.runner import plans, run_jobs
from sweeps.settings import Sweep
from sweeps.tracks import StudyTrack, Track, find, is_study, presets
from tests.sweeps.test_presets import sweep_of

TRACK = '''
"""A benchmark whose rows are called otherwise."""
from pathlib import Path
from unlearn.config.settings import EvalSettings, FinetuneSettings, ForgetSettings, read_settings
from unlearn.atomic import write_json
from unlearn.runs.record import start_run

HERE = Path(__file__).parent
FAMILY, MODALITIES, SPLIT, BASE_SPLIT, FORGET_TASK = "llama-mini", ("sound",), "out1", "all", 0
KINDS = {"finetune": FinetuneSettings, "forget": ForgetSettings, "eval": EvalSettings}

def config(script): return HERE, script
def settings(script, values): return read_settings(KINDS[script], values)
def finetune(settings): return _made(settings, "finetune")
def forget(settings): return _made(settings, "forget")
def gold_split(split): return f"without_{split}"
def forget_overrides(split, modality): return (f"forget_split={split}", f"retain_split=without_{split}")
def eval_overrides(split): return (f"data_revision={split}",)

def evaluate(settings):
    write_json(Path(settings.save_dir) / "eval_log_aggregated.json", {"asked": settings.data_revision})

def _made(settings, kind):
    run = start_run(settings, kind=kind, overwrite=settings.overwrite_dir, main=True)
    run.finish()
    return run.folder
'''
HEAD = "model_family: x\nmodel_path: null\nsave_dir: x\nseed: 1\n"
FILES = {
    "finetune": HEAD + "split: all\ndata_path: sounds\n",
    "forget": HEAD.replace("null", "x") + "forget_loss: npo\nforget_split: x\nretain_split: x\n",
    "eval": HEAD.replace("null", "x") + "overwrite: true\nmethod_name: null\ndata_revision: null\n",
}


@pytest.mark.parametrize("name", ["mm", "nlp", "cv"])
def test_every_track_has_what_a_sweep_asks_for(name: str) -> None:
    module, wanted = find(name), StudyTrack if is_study(name) else Track
    for member in wanted.__annotations__:
        assert isinstance(getattr(module, member), (str, int, tuple)), member
    for member, function in vars(wanted).items():
        if inspect.isfunction(function) and not member.startswith("_"):
            parameters = [*inspect.signature(function).parameters][1:]
            assert parameters == [*inspect.signature(getattr(module, member)).parameters], member
    assert presets(name), "each has a preset of the paper"


def test_defaults_follow_the_track() -> None:
    assert Sweep(track="nlp").model_family == "llama-mini" and Sweep(track="nlp").modalities == ["text"]
    assert sweep_of("track=nlp").model_family == "llama-mini", "no vision model is trained as a text model"
    assert sweep_of("track=nlp").save_dir == "runs/llama-mini" and sweep_of("track=cv").splits == ["forget10"]
    assert Sweep().save_dir == "runs/llava-mini" and Sweep(track="cv").save_dir == "runs/faces"
    with pytest.raises(ValueError, match="no module sound.track; tracks here are cv, mm, nlp"):
        Sweep(track="sound")
    with pytest.raises(ValueError, match="'both'; of the nlp track it may name text"):
        Sweep(track="nlp", modalities=["both"]).check()


def test_a_benchmark_of_ones_own_is_a_folder_with_a_track(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder := tmp_path / "sounds").mkdir()
    (folder / "__init__.py").touch()
    (folder / "track.py").write_text(TRACK)
    for name, text in FILES.items():
        (folder / f"{name}.yaml").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    sweep = Sweep(track="sounds", save_dir=str(tmp_path / "runs"), methods=["npo"], seeds=[1, 2], executor="debug",
                  splits=["out1", "out2"])  # fmt: skip
    sweep.check()
    base = base_job(sweep)
    jobs = [base, *gold_jobs(sweep).values(), *forget_jobs(sweep, base)]
    outcomes = run_jobs(plans(jobs, sweep), sweep)
    assert {one.status for one in outcomes} == {"finished"}, [one.error for one in outcomes]
    assert [job.name for job in jobs] == [
        "ft_all", "ft_without_out1", "ft_without_out2", "npo_seed1", "npo_seed2", "npo_out2_seed1", "npo_out2_seed2",
    ]  # fmt: skip
    record = json.loads((tmp_path / "runs/npo_out2_seed1/run.json").read_text())
    assert record["settings"]["retain_split"] == "without_out2"
    assert json.loads(base.log("out2").read_text()) == {"asked": "out2"}
    sys.modules.pop("sounds.track", None)
    sys.modules.pop("sounds", None)
