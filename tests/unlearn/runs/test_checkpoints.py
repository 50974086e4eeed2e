"""A folder appears whole or not at all, and what can be resumed is told from what cannot."""

import copy
from pathlib import Path

import pytest
import torch

from tests.models import tiny_llava
from unlearn.atomic import replace_folder, whole_folder
from unlearn.config.settings import LoraSettings
from unlearn.models.loading import load_weights
from unlearn.models.lora import prepare_trainable
from unlearn.runs.checkpoints import keep_newest, newest_checkpoint, remove_checkpoints


def checkpoint(folder: Path, name: str, whole: bool = True) -> Path:
    (folder / name).mkdir(parents=True)
    if whole:
        (folder / name / "trainer_state.json").write_text("{}")
    return folder / name


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "model") as staging:
        (staging / "weights").write_text("new")
        assert not (tmp_path / "model").exists()
    assert (tmp_path / "model" / "weights").read_text() == "new" and len(list(tmp_path.iterdir())) == 1


def test_a_block_that_breaks_off_leaves_the_old_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "model") as staging:
        (staging / "weights").write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "model" / "weights").read_text() == "old"
    with whole_folder(tmp_path / "model") as staging:  # what was left over does not get in
        assert not list(staging.iterdir())
        (staging / "other").write_text("new")
    assert [file.name for file in (tmp_path / "model").iterdir()] == ["other"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_replacing_survives_what_an_earlier_kill_left(tmp_path: Path) -> None:
    for name in ("new", "model", ".incomplete-old-model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text(name)
    replace_folder(tmp_path / "new", tmp_path / "model")
    assert (tmp_path / "model" / "x").read_text() == "new" and [e.name for e in tmp_path.iterdir()] == ["model"]


def test_the_newest_is_by_steps_and_whole(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None and newest_checkpoint(tmp_path / "nowhere") is None
    for name in ("checkpoint-9", "checkpoint-10", "checkpoint-x", "checkpoint-12-old", ".incomplete/checkpoint-30"):
        checkpoint(tmp_path, name)
    checkpoint(tmp_path, "checkpoint-20", whole=False)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


@pytest.mark.parametrize(("count", "left"), [(1, ["checkpoint-10"]), (2, ["checkpoint-10", "checkpoint-9"]),
                                             (5, ["checkpoint-10", "checkpoint-2", "checkpoint-9"]),
                                             (None, ["checkpoint-10", "checkpoint-2", "checkpoint-9"])])  # fmt: skip
def test_keeping_the_newest(tmp_path: Path, count: int | None, left: list[str]) -> None:
    for step in (2, 10, 9):
        checkpoint(tmp_path, f"checkpoint-{step}")
    keep_newest(tmp_path, count)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == left


def test_removing_takes_half_written_ones_too_and_spares_the_rest(tmp_path: Path) -> None:
    for name in ("checkpoint-1", ".incomplete/checkpoint-2", ".incomplete-model", "eval_results"):
        checkpoint(tmp_path, name)
    (tmp_path / "run.json").write_text("{}")
    remove_checkpoints(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["eval_results", "run.json"]


@pytest.mark.parametrize("lora", [2, 0])
def test_weights_come_back_into_the_model_they_were_saved_from(tmp_path: Path, lora: int) -> None:
    def model(seed: int) -> torch.nn.Module:
        settings = LoraSettings(r=lora, init_noise=0.1)
        return prepare_trainable(copy.deepcopy(tiny_llava(seed)[0]), settings, freeze_vision=True, seed=seed)

    saved, other = model(0), model(1)
    saved.save_pretrained(tmp_path)
    load_weights(other, tmp_path)
    expected = dict(saved.named_parameters())
    for name, parameter in other.named_parameters():
        if parameter.requires_grad or not lora:
            assert torch.equal(parameter, expected[name]), name
