"""Every method by name, three real steps on a small LLaVA and a small Qwen2-VL: nothing crashes, something is
learnt."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import tiny_llava, tiny_qwen2vl
from tests.training import make_trainer, trained_weights
from unlearn.method import View, defines
from unlearn.methods.sparsity import with_l1
from unlearn.models.lora import snapshot
from unlearn.registry import build_method, method_names
from unlearn.training.saving import apply_finalize

TINY = {"llava": tiny_llava, "qwen2vl": tiny_qwen2vl}
# Exactly stationary where student and teacher are equal: with a fresh LoRA they need a start that is not the teacher.
NOISE = {"init_noise": 0.05}
ALSO = [
    ("LLMU", {"answers": "random", "k": 2}),
    ("npo", {"retain_weight": 1.0, "retain_loss": "KL"}),
    ("scrub", {"schedule": "alternating", "msteps": 1}),
    ("RMU", {"preset": "sane", "token_scope": "answer", "layer": 1}),
    ("twins", {"distance": "mse"}),
    ("RMU", {"target": "norm", "layer": 1}),
    ("undial", {"retain_weight": 1.0, "retain_loss": "KL"}),
    ("jensun", {"retain_weight": 0.0}),
]
TRAINED = [name for name in method_names() if not defines(build_method(name), "edit")]
CASES = [(name, {}) for name in TRAINED] + ALSO


def run(folder: Path, method: Any, **options: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """Three steps over mixed batches; the trainer and the weights it started from."""
    trainer = make_trainer(folder, method, steps=3, log_grad_norms=True, **options)
    start = trained_weights(trainer)
    trainer.train()
    trainer.check_finite(weights=True)
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert trainer.state.global_step == len(logged) == 3
    assert all(math.isfinite(value) for entry in logged for value in entry.values())
    return trainer, start


def changed(start: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert start.keys() == after.keys()
    return {name for name in start if not torch.equal(start[name], after[name])}


@pytest.mark.parametrize("family", list(TINY))
@pytest.mark.parametrize(
    ("name", "options"), CASES, ids=[name + "".join(map(str, extra.values())) for name, extra in CASES]
)
def test_three_steps_with_lora(tmp_path: Path, family: str, name: str, options: dict[str, Any]) -> None:
    trainer, start = run(tmp_path, build_method(name, options), tiny=TINY[family], **NOISE)
    moved = changed(start, trained_weights(trainer))
    assert any(".lora_A." in n for n in moved) != (name == "salun") and any(".lora_B." in n for n in moved)
    frozen = dict(TINY[family]()[0].named_parameters())
    for n, p in trainer.student.model.get_base_model().named_parameters():
        if "lora_" not in n:
            assert torch.equal(p, frozen[n.replace(".base_layer", "")]), n


@pytest.mark.parametrize("family", ["llava", pytest.param("qwen2vl", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", TRAINED)
def test_three_steps_of_full_finetuning(tmp_path: Path, family: str, name: str) -> None:
    trainer, start = run(tmp_path, build_method(name), tiny=TINY[family], lora=0)
    after = trained_weights(trainer)
    # at the teacher this one's gradient is exactly zero; LoRA.init_noise leaves that point, r=0 has nothing to add it
    # to
    stands_still = name == "grad_diff_forget_KL_retain_KL"
    assert bool(changed(start, after)) != stands_still and not any(
        "vision_tower" in n or ".visual." in n for n in after
    )
    frozen = dict(TINY[family]()[0].named_parameters())
    assert all(torch.equal(p, frozen[n]) for n, p in trainer.student.model.named_parameters() if not p.requires_grad)


@pytest.mark.parametrize("name", ["scrub_bio", "grad_diff_forget_KL_retain_KL"])
def test_methods_that_are_stationary_at_the_teacher_need_the_noise(tmp_path: Path, name: str) -> None:
    """With a fresh LoRA these two have no gradient at all: why LoRA.init_noise is there."""
    trainer = make_trainer(tmp_path, build_method(name), steps=1, optim="sgd", max_grad_norm=0.0, lr=1.0)
    start = trained_weights(trainer)
    trainer.train()
    after = trained_weights(trainer)
    assert max(float((after[n] - start[n]).abs().max()) for n in start) < 1e-5


@pytest.mark.parametrize("lora", [2, 0])
def test_a_weight_norm_on_any_method_pulls_the_change_back(tmp_path: Path, lora: int) -> None:
    plain, _ = run(tmp_path, build_method("grad_ascent"), lora=lora)
    held, start = run(tmp_path, with_l1(build_method("grad_ascent"), 1e4, "init"), lora=lora)
    assert all("parts/l1" in entry for entry in held.state.log_history if "loss" in entry)

    def change(trainer: Any) -> float:
        model, original = copy.deepcopy(trainer.student.model), dict(tiny_llava()[0].named_parameters())
        model = model.merge_and_unload() if lora else model
        return sum(float((p - original[n]).detach().abs().sum()) for n, p in model.named_parameters())

    assert 0 < change(held) < change(plain) and start


@pytest.mark.parametrize("lora", [2, 0])
def test_sku_ends_at_the_original_minus_its_task_vector(tmp_path: Path, lora: int) -> None:
    method = build_method("SKU")
    assert method.student_views[1] == View("random", k=3, source="forget")
    trainer = make_trainer(tmp_path, method, steps=3, lora=lora)

    def merged() -> dict[str, torch.Tensor]:
        model = copy.deepcopy(trainer.student.model)
        return {n: p.detach() for n, p in (model.merge_and_unload() if lora else model).named_parameters()}

    original, start = merged(), snapshot(trainer.student.model)
    trainer.train()
    after = merged()
    apply_finalize(method, trainer, start)
    final = merged()
    assert max(float((after[n] - original[n]).abs().max()) for n in original) > 1e-3
    for n in original:
        torch.testing.assert_close(final[n], original[n] - (after[n] - original[n]), atol=1e-5, rtol=1e-4, msg=n)
