"""Which run a folder holds: the same command goes on or says done, another one is refused and told why."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from unlearn.config.settings import FinetuneSettings, ForgetSettings
from unlearn.results import read_record
from unlearn.runs.checkpoints import SEAL
from unlearn.runs.record import git_commit, settings_hash, start_run


def settings(folder: Path, **changes: Any) -> ForgetSettings:
    return ForgetSettings(**{"save_dir": str(folder / "run"), "model_path": str(folder / "base"), **changes})


def open_run(chosen: Any, kind: str = "forget", overwrite: bool = False, main: bool = True) -> Any:
    return start_run(chosen, kind=kind, overwrite=overwrite, main=main)


def test_a_new_run_records_what_it_is(tmp_path: Path) -> None:
    run = open_run(settings(tmp_path, forget_loss="npo", seed=7))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record == run.record and not run.finished
    assert (record["kind"], record["status"], record["seed"]) == ("forget", "running", 7)
    assert record["settings"]["forget_loss"] == "npo" and record["settings"]["LoRA"]["r"] == 8
    assert record["settings_hash"] == settings_hash(settings(tmp_path, forget_loss="npo", seed=7))
    assert {"python", "torch", "transformers", "peft", "accelerate"} <= set(record["versions"])


def test_the_same_settings_resume_and_then_are_done(tmp_path: Path) -> None:
    open_run(settings(tmp_path)).note(stopped="because")
    again = open_run(
        settings(tmp_path, report_to="wandb", num_workers=3, cudnn_attention=True, save_steps=5)
    )  # these change no result
    assert not again.finished and again.record["stopped"] == "because"
    again.finish()
    assert open_run(settings(tmp_path)).finished


@pytest.mark.parametrize(("change", "words"), [
    ({"lr": 0.5}, "lr: 1e-05 there, 0.5 here"),
    ({"forget_loss": "npo", "seed": 3},
     "seed: 42 there, 3 here; forget_loss: 'grad_diff_forget_ce_retain_ce' there, 'npo' here"),
    ({"method_args": {"grad_diff_forget_ce_retain_ce": {"beta": 0.1}}}, "method_args: {} there"),
    ({"stop_when": 4.0, "logging_steps": 1}, "logging_steps: 10 there, 1 here"),
])  # fmt: skip
def test_other_settings_are_refused_by_name_of_the_difference(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    open_run(settings(tmp_path)).finish()
    with pytest.raises(ValueError, match=rf"(?s)holds another run \(.*{words}.*overwrite_dir=true"):
        open_run(settings(tmp_path, **change))
    assert open_run(settings(tmp_path)).finished  # what was there is untouched


def test_another_kind_of_run_is_refused(tmp_path: Path) -> None:
    open_run(settings(tmp_path))
    with pytest.raises(ValueError, match="holds another run .a forget run."):
        open_run(settings(tmp_path), kind="finetune")


def test_a_start_model_made_anew_makes_another_run(tmp_path: Path) -> None:
    base = FinetuneSettings(save_dir=str(tmp_path / "base"))
    open_run(base, kind="finetune")
    before = settings_hash(settings(tmp_path))
    open_run(settings(tmp_path))
    open_run(dataclasses.replace(base, seed=1), kind="finetune", overwrite=True)
    assert settings_hash(settings(tmp_path)) != before
    with pytest.raises(ValueError, match=r"base was made anew with other settings"):
        open_run(settings(tmp_path))


def test_a_finetuning_run_does_not_depend_on_the_folder_it_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = FinetuneSettings(save_dir="x")
    here = settings_hash(chosen)
    open_run(settings(tmp_path))
    monkeypatch.chdir(tmp_path / "run")  # it holds a run.json
    assert settings_hash(chosen) == here


def test_overwriting_removes_the_old_model_and_nothing_else(tmp_path: Path) -> None:
    """An adapter_config.json that stays behind would make the loader take the old adapter for the new model."""
    open_run(settings(tmp_path)).finish()
    folder = tmp_path / "run"
    old = [
        "adapter_config.json",
        "adapter_model.safetensors",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "config.json",
        "train_log.jsonl",
        "checkpoint-3/trainer_state.json",
        ".incomplete/checkpoint-4/x",
        "eval_results/eval_log.json",
    ]
    for name in [*old, "notes.md", "other/model.safetensors"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("old")
    run = open_run(settings(tmp_path, lr=0.5), overwrite=True)
    assert run.record["settings"]["lr"] == 0.5 and not run.finished
    assert not [name for name in old if (folder / name).exists()]
    assert (folder / "notes.md").exists() and (folder / "other" / "model.safetensors").exists()


def test_a_folder_without_a_record_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("mine")
    open_run(settings(tmp_path), overwrite=True)
    assert (tmp_path / "run" / "config.json").read_text() == "mine"


def test_the_folder_of_the_start_model_is_never_written_to(tmp_path: Path) -> None:
    base = tmp_path / "base"
    open_run(FinetuneSettings(save_dir=str(base)), kind="finetune").finish()
    (base / "model.safetensors").write_text("weights")
    with pytest.raises(ValueError, match="is the folder of the model that training starts from"):
        open_run(settings(tmp_path, save_dir=str(base / ".." / "base")), overwrite=True)
    assert (base / "model.safetensors").exists()


def test_the_hash_leaves_out_where_a_run_is_written(tmp_path: Path) -> None:
    plain = settings(tmp_path)
    same = dataclasses.replace(
        plain, save_dir="elsewhere", overwrite_dir=True, logging_steps=1, resume_from_checkpoint=False
    )
    assert settings_hash(plain) == settings_hash(same)
    for change in ({"seed": 1}, {"retain_partner": "same_modality"}, {"stop_when": 3.0}, {"forget_split": "forget05"}):
        assert settings_hash(dataclasses.replace(plain, **change)) != settings_hash(plain), change
    lora = dataclasses.replace(plain.LoRA, init_noise=0.1)
    assert settings_hash(dataclasses.replace(plain, LoRA=lora)) != settings_hash(plain)


def test_checkpoints_go_when_a_run_finishes_unless_wanted(tmp_path: Path) -> None:
    for keep in (False, True):
        chosen = settings(tmp_path, save_dir=str(tmp_path / str(keep)), save_ckpts=keep)
        run = open_run(chosen)
        (run.folder / "checkpoint-2").mkdir()
        (run.folder / "checkpoint-2" / SEAL).write_text("{}")
        (run.folder / ".incomplete").mkdir()
        run.finish()
        assert (run.folder / "checkpoint-2").exists() is keep


def test_a_damaged_record_says_so(tmp_path: Path) -> None:
    open_run(settings(tmp_path))
    (tmp_path / "run" / "run.json").write_text('{"kind": "for')
    with pytest.raises(ValueError, match=r"run\.json is damaged .*remove it or choose another save_dir"):
        open_run(settings(tmp_path))
    assert read_record(tmp_path / "nowhere") is None


@pytest.mark.parametrize("save_dir", ["", "file/run"])
def test_a_place_that_cannot_be_written_to(tmp_path: Path, save_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="save_dir is empty|save_dir=file/run cannot be written"):
        open_run(settings(tmp_path, save_dir=save_dir))


def test_only_the_main_process_writes(tmp_path: Path) -> None:
    run = open_run(settings(tmp_path), main=False)
    run.note(x=1)
    run.finish()
    assert not (tmp_path / "run").exists()


def test_the_commit_is_short_or_absent() -> None:
    commit = git_commit()
    assert commit is None or len(commit.rstrip("+")) >= 12


def test_options_of_other_methods_are_no_part_of_a_run(tmp_path: Path) -> None:
    other = {"method_args": {"npo": {"beta": 0.1}}}
    assert settings_hash(settings(tmp_path, **other)) == settings_hash(settings(tmp_path))
    for spelling in ("npo", "NPO"):
        assert settings_hash(settings(tmp_path, forget_loss=spelling, **other)) != settings_hash(
            settings(tmp_path, forget_loss=spelling)
        )


def test_how_answers_are_written_is_part_of_a_run_that_trains_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from unlearn.config.settings import LoraSettings
    from unlearn.data import written

    methods = ("altpo", "npo")
    before = [settings_hash(ForgetSettings(forget_loss=name)) for name in methods]
    monkeypatch.setattr(written, "ALTERNATE", "Another one, please: {question}")
    after = [settings_hash(ForgetSettings(forget_loss=name)) for name in methods]
    assert before[0] != after[0] and before[1] == after[1]
    assert settings_hash(ForgetSettings(LoRA=LoraSettings(layers=[1]))) != settings_hash(ForgetSettings())


def test_the_log_interval_is_part_of_a_run_that_stops_by_the_log(tmp_path: Path) -> None:
    often, seldom = ({"stop_when": 4.0, "logging_steps": steps} for steps in (1, 10))
    assert settings_hash(settings(tmp_path, **often)) != settings_hash(settings(tmp_path, **seldom))
    assert settings_hash(settings(tmp_path, logging_steps=1)) == settings_hash(settings(tmp_path, logging_steps=10))


def test_the_rows_of_a_step_are_part_of_a_run_however_they_are_shared_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on(processes: int, **changes: Any) -> str:
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        return settings_hash(settings(tmp_path, batch_size=2, **changes))

    alone = on(1)
    assert on(2) != alone and on(4) != on(2), "twice the processes are twice the rows and half the steps"
    assert on(2) == on(1, gradient_accumulation_steps=2), "four rows, by two"
    assert on(1, global_batch_size=2) == alone and on(2, global_batch_size=4) == on(1, global_batch_size=4) == on(2)
    assert on(1, global_batch_size=8) != on(1, global_batch_size=4)
    with pytest.raises(ValueError, match="global_batch_size=6 cannot be met"):
        on(2, global_batch_size=6)


def test_another_number_of_processes_is_refused_by_the_rows_of_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(settings(tmp_path, batch_size=2, global_batch_size=4))
    assert run.record["batch"] == {"global": 4, "per_device": 2, "accumulation": 2, "processes": 1}
    run.finish()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert open_run(settings(tmp_path, batch_size=2, global_batch_size=4)).finished
    with pytest.raises(ValueError, match=r"holds another run \(rows of one step: 4 there, 8 here"):
        open_run(settings(tmp_path, batch_size=4))
