"""Features of a frozen tower: made once a step, kept from the second epoch on, the same numbers; else left alone."""

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.bad_input import run_script
from tests.models import picture, tiny_llama, tiny_llava, tiny_qwen2vl
from unlearn.config.settings import LoraSettings
from unlearn.data.collator import Collator
from unlearn.models.features import GIB, Features, check_budget, keep_features
from unlearn.models.forward import StudentForward, score_views
from unlearn.models.lora import prepare_trainable
from unlearn.models.vision import pictures_at, vision_modules
from unlearn.training.teacher import Teacher


def samples(*seeds: int | None) -> Any:
    return [
        {"question": f"Who is number {i}?", "answer": "Ana Lima.", "id": f"{i} {seed}",
         "image": None if seed is None else picture(seed, 16 + 8 * (seed % 2))}
        for i, seed in enumerate(seeds)
    ]  # fmt: skip


def students(tiny: Any, rank: int = 2) -> list[Any]:
    """Two of the same weights, the second with a store."""
    base, made = tiny()[0], []
    for _ in range(2):
        torch.manual_seed(0)
        model = prepare_trainable(copy.deepcopy(base), LoraSettings(r=rank, init_noise=0.1), freeze_vision=True)
        made.append(StudentForward(model).train())
    made[1].features = keep_features(made[1].model, 1.0, in_parts=False)
    return made


@pytest.mark.parametrize("tiny", [tiny_llava, tiny_qwen2vl])
def test_a_picture_is_read_once_a_step_and_then_never(tiny: Any) -> None:
    plain, student = students(tiny)
    collator, read = Collator(tiny()[1]), []
    (tower,) = vision_modules(student.model).values()
    tower.register_forward_hook(lambda module, given, out: read.append(1))
    for step, seeds in enumerate([(1, None, 2), (3, 4, 3), (2, 1), (4, 3, None), (1, 3, 2)]):
        view = {"retain": collator.rows(samples(*seeds))}
        results = []
        for one in (plain, student):
            read.clear()
            taught = Teacher.of(one).score(view)["retain"].token_logps()
            scored = score_views(one(view))["retain"]
            grads = torch.autograd.grad(scored.cross_entropy(), [p for p in one.parameters() if p.requires_grad])
            results.append([taught, scored.token_logps().detach(), *grads])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, atol=2e-6, rtol=1e-5)
        # first appearances and then those of the second epoch; student and teacher of a step share them
        assert len(read) == (1, 1, 1, 1, 0)[step], step
    assert all(isinstance(kept, torch.Tensor) for kept in student.features.kept.values())
    assert len(student.features.kept) == 4


def test_what_exceeds_the_memory_lies_in_files() -> None:
    plain, student = students(tiny_qwen2vl)
    student.features = Features(budget=1)
    collator = Collator(tiny_qwen2vl()[1])
    for seeds in ((1, 2), (3, 4), (1, 2), (3, 4), (1, 2)):
        view = {"forget": collator.rows(samples(*seeds))}
        ours, theirs = (score_views(one(view))["forget"].token_logps() for one in (student, plain))
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)
    assert [isinstance(kept, Path) for kept in student.features.kept.values()] == [True] * 4


def test_pictures_that_never_come_again_are_not_kept() -> None:
    student = students(tiny_llava)[1]
    collator = Collator(tiny_llava()[1])
    for seed in range(5):
        student({"forget": collator.rows(samples(seed))})
    assert not student.features.kept and len(student.features.seen) == 5


def test_the_pictures_that_are_left() -> None:
    grid = torch.tensor([[1, 2, 2], [1, 2, 4], [1, 2, 2]])
    pixels = torch.arange(16.0)[:, None]
    left = pictures_at({"pixel_values": pixels, "image_grid_thw": grid}, [2, 1])
    assert left["pixel_values"].flatten().tolist() == [12.0, 13.0, 14.0, 15.0, *map(float, range(4, 12))]
    assert left["image_grid_thw"].tolist() == [[1, 2, 2], [1, 2, 4]]
    assert pictures_at({"pixel_values": pixels}, [3])["pixel_values"].item() == 3.0
    assert pictures_at({"pixel_values": pixels}, []) == {}


def test_a_trained_tower_a_text_model_and_weights_in_parts_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="unlearn.models.features")
    full = prepare_trainable(copy.deepcopy(tiny_llava()[0]), LoraSettings(r=0), freeze_vision=True)
    assert keep_features(full, 1.0, in_parts=False) is None  # its projector is trained
    assert keep_features(tiny_llama()[0], 1.0, in_parts=False) is None
    frozen = prepare_trainable(copy.deepcopy(tiny_qwen2vl()[0]), LoraSettings(r=0), freeze_vision=True)
    assert keep_features(frozen, 1.0, in_parts=True) is None
    reasons = ("what makes the features is trained", "a llama model takes no features", "weights lie in parts")
    assert list(caplog.messages) == [f"vision_features: off ({why})" for why in reasons]
    found = keep_features(frozen, 0.5, in_parts=False)
    assert found is not None and found.left == GIB // 2 and copy.deepcopy(found) is found
    assert keep_features(frozen, 0, in_parts=False) is None


def test_more_than_there_is_is_refused() -> None:
    check_budget(0.001)
    with pytest.raises(ValueError, match=r"vision_features=1e\+06 GiB, but only [\d.]+ GiB of memory are free here"):
        check_budget(1e6)


def test_through_the_script(tmp_path: Path) -> None:
    weights = []
    for gib in ("0", "0.1"):
        folder = tmp_path / gib
        run_script("mm/forget.py", "model_path=minibench/weights/qwen2vl-mini", "model_family=qwen2vl-mini",
                   "forget_loss=KL", "LoRA.init_noise=0.1", "max_steps=2", "batch_size=4", "optim=sgd", "lr=0.01",
                   "save_steps=0", f"vision_features={gib}", f"save_dir={folder}")  # fmt: skip
        weights.append(load_file(folder / "adapter_model.safetensors"))
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-4, atol=1e-6, msg=name)
