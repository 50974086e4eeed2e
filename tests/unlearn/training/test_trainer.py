"""The trainer against loops written by hand: what a step does to the weights, what is logged, when it stops."""

import copy
import math
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import tiny_llava
from tests.training import make_trainer, micro_batches, trained_weights
from unlearn.config.settings import ForgetSettings
from unlearn.method import Method, View
from unlearn.models.forward import StudentForward, score_views
from unlearn.registry import build_method
from unlearn.runs.checkpoints import newest_checkpoint
from unlearn.training.build import training_arguments

# Plain SGD without clipping: Adam and clipping would hide a gradient of the wrong size.
PLAIN = {"optim": "sgd", "max_grad_norm": 0.0, "lr": 1e-3}


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], **tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], **(tolerance or {"atol": 1e-6, "rtol": 1e-4}), msg=name)


def moved(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).detach().abs().max()) for name in one)


# ---- gradient size --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [2, 0])
def test_two_accumulated_batches_equal_one_of_twice_the_size(tmp_path: Path, lora: int) -> None:
    method, results = build_method("npo"), []
    for size, accumulation in ((4, 1), (2, 2)):
        trainer = make_trainer(
            tmp_path, method, lora=lora, init_noise=0.2, forget=(0, 4), batch_size=size, num_epochs=3,
            gradient_accumulation_steps=accumulation, **PLAIN,
        )  # fmt: skip
        start = trained_weights(trainer)
        trainer.train()
        assert trainer.state.global_step == 3
        results.append(trained_weights(trainer))
    close(*results)
    assert moved(start, results[0]) > 1e-3


@pytest.mark.parametrize("accumulation", [1, 2, 3])
def test_finetuning_is_a_plain_loop_over_the_micro_batches(tmp_path: Path, accumulation: int) -> None:
    """A token mean per micro-batch, averaged over the accumulation, whatever the model's forward accepts: LLaVA's takes
    **kwargs, which once made the gradient grow with the accumulation. 5 batches leave a remainder for 2 and 3."""
    trainer = make_trainer(
        tmp_path, build_method("retain_ft"), lora=0, epoch_over="retain", retain=(0, 9), num_epochs=1,
        gradient_accumulation_steps=accumulation, **PLAIN,
    )  # fmt: skip
    model = copy.deepcopy(tiny_llava()[0])
    batches = micro_batches(trainer)
    trainer.train()
    for start in range(0, len(batches), accumulation):
        together = batches[start : start + accumulation]
        for batch in together:
            loss = score_views(StudentForward(model)(batch["views"]))["retain"].cross_entropy()
            (loss / len(together)).backward()
        with torch.no_grad():
            for p in model.parameters():
                if p.grad is not None:
                    p -= PLAIN["lr"] * p.grad  # type: ignore[operator]
                    p.grad = None
    names = trained_weights(trainer)
    assert trainer.state.global_step == math.ceil(len(batches) / accumulation)
    close(names, {name: p.detach() for name, p in model.named_parameters() if name in names})
    assert moved(names, {n: p for n, p in tiny_llava()[0].named_parameters() if n in names}) > 1e-3


# ---- stopping -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Explodes(Method):
    """CE(R), whose loss or gradient is not finite at one step."""

    at: int
    where: str = "loss"

    student_views = (View("retain"),)

    def loss(self, student: Any, teacher: Any, step: Any = None) -> dict[str, torch.Tensor]:
        loss = student["retain"].cross_entropy()
        if step.step == self.at:
            return {"retain": loss, "forget": loss * math.inf if self.where == "loss" else (loss * 0).sqrt()}
        return {"retain": loss}


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_loss_that_is_not_finite_stops_and_leaves_the_last_good_checkpoint(tmp_path: Path, accumulation: int) -> None:
    trainer = make_trainer(
        tmp_path, Explodes(at=2), save_steps=1, gradient_accumulation_steps=accumulation, num_epochs=4
    )
    with pytest.raises(FloatingPointError, match=r"at step 3 \(loss=inf, retain=\d.*, forget=inf\).*checkpoint-2\."):
        trainer.train()
    assert checkpoints(tmp_path) == ["checkpoint-2"]


def test_without_checkpoints_the_message_says_so(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="no checkpoint had been written"):
        make_trainer(tmp_path, Explodes(at=0)).train()


def test_a_bad_last_step_is_found_too(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, Explodes(at=2), steps=3)
    trainer.train()
    with pytest.raises(FloatingPointError, match="at step 3"):
        trainer.check_finite()


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    """A finite loss can have a gradient that is not: the weights are ruined before any loss shows it."""
    trainer = make_trainer(tmp_path, Explodes(at=2, where="gradient"), save_steps=1)
    with pytest.raises(FloatingPointError, match=r"after step 3.*checkpoint-2"):
        trainer.train()
    assert checkpoints(tmp_path) == ["checkpoint-2"]
    last = make_trainer(tmp_path / "last", Explodes(at=2, where="gradient"), steps=3)
    last.train()
    with pytest.raises(FloatingPointError, match="after step 3"):
        last.check_finite(weights=True)


def test_workers_follow_the_machine_unless_they_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(**options: Any) -> int:
        run = ForgetSettings(save_dir=str(tmp_path), **options)
        return training_arguments(run, 1, 0, save_steps=None).dataloader_num_workers

    assert (count(), count(num_workers=3)) == (0, 3)
    monkeypatch.setattr("unlearn.training.build.torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("unlearn.training.build.TrainingArguments", lambda **given: types.SimpleNamespace(**given))
    assert (count(), count(num_workers=0)) == (4, 0)


def test_the_logged_forget_nll_of_relabelled_rows_is_of_the_true_answers(tmp_path: Path) -> None:
    """jensun trains on other labels; at lr 0 its line says what grad_ascent's says of the same batches."""
    lines = []
    for name in ("jensun", "grad_ascent"):
        trainer = make_trainer(tmp_path / name, build_method(name), lr=0.0, steps=4)
        trainer.train()
        lines.append([entry["parts/forget_nll"] for entry in trainer.state.log_history if "loss" in entry])
    assert len(lines[0]) == 4 and lines[0] == pytest.approx(lines[1], abs=1e-4)


def test_stop_when_ends_the_run_and_is_noted(tmp_path: Path) -> None:
    free = make_trainer(tmp_path / "a", build_method("grad_ascent"), num_epochs=3, lr=0.05)
    free.train()
    nlls = [entry["parts/forget_nll"] for entry in free.state.log_history if "parts/forget_nll" in entry]
    bound = (nlls[0] + max(nlls)) / 2
    first = next(step for step, nll in enumerate(nlls, 1) if nll > bound)
    assert 1 < first < len(nlls) == free.state.global_step and free.stopped is None
    stopped = make_trainer(tmp_path / "b", build_method("grad_ascent"), num_epochs=3, lr=0.05, stop_when=bound)
    stopped.train()
    assert stopped.state.global_step == first
    assert (
        stopped.stopped is not None and f"stop_when={bound}" in stopped.stopped and f"step {first}" in stopped.stopped
    )


# ---- logging --------------------------------------------------------------------------------------------------------


def test_parts_are_logged_by_name_and_add_up(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path, build_method("LLMU"), gradient_accumulation_steps=2, logging_steps=2, num_epochs=4, lr=1e-3
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == trainer.state.global_step // 2 > 1
    for entry in logged:
        parts = {name.removeprefix("parts/"): entry[name] for name in entry if name.startswith("parts/")}
        nll = parts.pop("forget_nll")
        assert set(parts) == {"forget", "idk", "kl"} and nll > 0
        assert sum(parts.values()) == pytest.approx(entry["loss"], abs=2e-4)
    assert logged[-1]["epoch"] == pytest.approx(4 * logged[-1]["step"] / trainer.state.max_steps)


def test_logged_values_are_those_of_the_batches(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, build_method("grad_diff_forget_ce_retain_ce"), lr=0.0, logging_steps=1, steps=3)
    batches = micro_batches(trainer)
    trainer.train()
    for entry, batch in zip(trainer.state.log_history[:3], batches, strict=False):
        with torch.no_grad():
            scored = score_views(StudentForward(tiny_llava()[0])(batch["views"]))
        assert entry["parts/forget_nll"] == pytest.approx(scored["forget"].cross_entropy().item(), abs=1e-4)
        assert entry["parts/forget"] == pytest.approx(-scored["forget"].cross_entropy().item(), abs=1e-4)
        assert entry["parts/retain"] == pytest.approx(scored["retain"].cross_entropy().item(), abs=1e-4)


def test_gradient_norms_are_those_of_autograd(tmp_path: Path) -> None:
    method = build_method("grad_diff_forget_ce_retain_ce", {"beta": 2.0})
    trainer = make_trainer(tmp_path, method, lora=0, steps=1, log_grad_norms=True, **PLAIN)
    batch = micro_batches(trainer)[0]
    model = copy.deepcopy(trainer.student.model)
    plain = make_trainer(tmp_path, method, lora=0, steps=1, **PLAIN)
    trainer.train()
    plain.train()
    close(trained_weights(trainer), trained_weights(plain), atol=0, rtol=0)  # looking changes nothing
    entry = trainer.state.log_history[0]
    for side, weight in (("forget", -2.0), ("retain", 1.0)):
        model.zero_grad()
        (weight * score_views(StudentForward(model)(batch["views"]))[side].cross_entropy()).backward()
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None))
        assert entry[f"parts/grad_norm_{side}"] == pytest.approx(norm, rel=1e-4)


# ---- passes ---------------------------------------------------------------------------------------------------------


def test_alternating_scrub_ascends_in_whole_passes_and_then_only_descends(tmp_path: Path) -> None:
    method = build_method("scrub", {"schedule": "alternating", "msteps": 1})
    trainer = make_trainer(
        tmp_path, method, num_epochs=2, forget=(0, 4), retain=(0, 6), logging_steps=1, init_noise=0.1
    )
    trainer.train()
    seen = [
        {n.removeprefix("parts/") for n in e if n.startswith("parts/")}
        for e in trainer.state.log_history
        if "loss" in e
    ]
    assert seen == [{"forget", "forget_nll"}] * 2 + [{"kl", "retain"}] * 3 + [{"kl", "retain"}] * 3
    assert all(e["parts/forget"] <= 0 for e in trainer.state.log_history if "parts/forget" in e)


# ---- checkpoints ----------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def interrupt(trainer: Any, step: int) -> None:
    """Breaks off while step `step` is being computed, as a kill would."""
    plain = trainer.compute_loss

    def compute_loss(*inputs: Any, **options: Any) -> Any:
        if trainer.state.global_step == step - 1:
            raise Killed
        return plain(*inputs, **options)

    trainer.compute_loss = compute_loss


@pytest.mark.parametrize(("lora", "method"), [(2, "npo"), (0, "scrub"), (2, "sparsity")])
def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path, lora: int, method: str) -> None:
    options: dict[str, Any] = {
        "lora": lora,
        "dropout": 0.2 if lora else 0.0,
        "num_epochs": 3,
        "save_steps": 2,
        "lr_scheduler": "linear",
        "warmup": 2,
        "gradient_accumulation_steps": 2,
    }
    whole = make_trainer(tmp_path / "whole", build_method(method), **options)
    start = trained_weights(whole)
    whole.train()
    broken = make_trainer(tmp_path / "broken", build_method(method), **options)
    interrupt(broken, 4)
    with pytest.raises(Killed):
        broken.train()
    found = newest_checkpoint(tmp_path / "broken")
    assert found is not None and found.name == "checkpoint-2"
    resumed = make_trainer(tmp_path / "broken", build_method(method), **options)
    resumed.train(resume_from_checkpoint=str(found))
    assert resumed.state.global_step == whole.state.global_step == 6
    close(trained_weights(resumed), trained_weights(whole))
    assert moved(start, trained_weights(whole)) > 1e-2


def test_a_run_killed_while_saving_leaves_no_half_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path, build_method("npo"), save_steps=1, steps=3)
    plain = trainer._save_optimizer_and_scheduler

    def killed(folder: str) -> None:
        if trainer.state.global_step == 2:
            raise Killed
        plain(folder)

    monkeypatch.setattr(trainer, "_save_optimizer_and_scheduler", killed)
    with pytest.raises(Killed):
        trainer.train()
    assert [p.name for p in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]
    resumed = make_trainer(tmp_path, build_method("npo"), save_steps=1, steps=3)
    resumed.train(resume_from_checkpoint=str(newest_checkpoint(tmp_path)))
    assert checkpoints(tmp_path) == ["checkpoint-3"]


def test_one_checkpoint_is_kept_unless_all_are_wanted(tmp_path: Path) -> None:
    make_trainer(tmp_path / "one", build_method("retain_ft"), save_steps=1, steps=3).train()
    assert checkpoints(tmp_path / "one") == ["checkpoint-3"]
    make_trainer(tmp_path / "all", build_method("retain_ft"), save_steps=1, steps=3, save_ckpts=True).train()
    assert checkpoints(tmp_path / "all") == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]


@pytest.mark.parametrize("lora", [2, 0])
def test_a_checkpoint_reads_like_any_saved_model_and_holds_no_pickled_arguments(tmp_path: Path, lora: int) -> None:
    trainer = make_trainer(tmp_path, build_method("retain_ft"), save_steps=1, steps=1, lora=lora)
    trainer.train()
    names = {path.name for path in (tmp_path / "checkpoint-1").iterdir()}
    assert {
        "adapter_model.safetensors" if lora else "model.safetensors",
        "tokenizer_config.json",
        "trainer_state.json",
    } <= names
    assert not {"training_args.bin", "pytorch_model.bin"} & names
    for name in ("optimizer.pt", "scheduler.pt"):
        torch.load(tmp_path / "checkpoint-1" / name, weights_only=True)
    if not lora:
        again = type(trainer.student.model).from_pretrained(tmp_path / "checkpoint-1")
        close(dict(again.named_parameters()), dict(trainer.student.model.named_parameters()), atol=0, rtol=0)
