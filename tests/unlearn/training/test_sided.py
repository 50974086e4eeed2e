"""The sided step on a real model: equal to the joint step where the method only adds, its memory over a kill, what a
second forget pass and a mask leave of the weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training import make_trainer, micro_batches, trained_weights
from tests.unlearn.training.test_trainer import Killed, close, moved
from unlearn.hooks import Gradients, Sides
from unlearn.method import Method, StepInfo, Wrapper
from unlearn.methods.sparsity import with_l1
from unlearn.models.forward import score_views
from unlearn.registry import build_method
from unlearn.runs.checkpoints import newest_checkpoint
from unlearn.training.measured import MEASURED
from unlearn.training.probe import ModelProbe, probing
from unlearn.wrapping import wrap_method

PLAIN: dict[str, Any] = {"optim": "sgd", "max_grad_norm": 0.0, "lr": 1e-2, "init_noise": 0.2, "num_epochs": 1}


@dataclass(frozen=True)
class Summed(Wrapper):
    """The joint step, by the sided one."""

    def combine(self, sides: Sides, memory: Mapping[str, Any], step: StepInfo) -> tuple[Gradients, Gradients]:
        return sides.summed(), {}


def trained(folder: Path, method: Method, **options: Any) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    trainer = make_trainer(folder, method, **{**PLAIN, **options})
    trainer.train()
    return trained_weights(trainer), [line for line in trainer.state.log_history if "loss" in line]


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "lora"),
    [
        ("RMU", 0),
        ("LLMU", 2),
        *(pytest.param(name, lora, marks=SLOW) for name in ("KL", "dpo", "twins") for lora in (0, 2)),
    ],
)
def test_the_sum_of_both_sides_is_the_joint_step(tmp_path: Path, name: str, lora: int) -> None:
    """With micro-batches, a teacher, hidden states; parts and losses are logged as ever."""
    options = {"lora": lora, "gradient_accumulation_steps": 2, "freeze_vision": lora > 0}
    options |= {"lr": 1e-5} if name == "RMU" else {}  # whose loss is in the thousands
    joint, log = trained(tmp_path, build_method(name), **options)
    sided, other = trained(tmp_path, Summed(build_method(name)), **options)
    close(sided, joint, atol=2e-7, rtol=1e-5)
    assert moved(joint, trained_weights(make_trainer(tmp_path, build_method(name), **{**PLAIN, **options}))) > 1e-4
    for one, two in zip(log, other, strict=True):
        assert {key for key in two if "grad_norm_" not in key} == set(one)
        assert all(two[key] == pytest.approx(one[key], rel=1e-4) for key in one)


def test_to_the_last_bit_of_a_float_in_double_precision(tmp_path: Path) -> None:
    """One matrix product over the rows of both sides rounds otherwise than two; in double precision neither shows in
    the bits of a float. (Pictures forgotten, texts kept: a prompt that both sides share adds up inside of norms that
    compute in floats.)"""
    results = []
    for method in (build_method("KL"), Summed(build_method("KL"))):
        trainer = make_trainer(tmp_path, method, forget=(4, 0), retain=(0, 4), **PLAIN)
        trainer.student.double()
        trainer.train()
        results.append({name: tensor.float() for name, tensor in trained_weights(trainer).items()})
    close(*results, atol=0, rtol=0)


def test_a_penalty_counts_as_retain(tmp_path: Path) -> None:
    method = with_l1(build_method("grad_diff"), 0.5, "init")
    joint, log = trained(tmp_path, method)
    sided, other = trained(tmp_path, with_l1(Summed(build_method("grad_diff")), 0.5, "init"))
    close(sided, joint, atol=2e-7, rtol=1e-5)
    assert [line["parts/l1"] for line in other] == pytest.approx([line["parts/l1"] for line in log], rel=1e-4)


def test_project_takes_the_projected_step(tmp_path: Path) -> None:
    """Against gradients taken by hand; the retain gradient itself leaves no trace."""
    trainer = make_trainer(tmp_path, build_method("project", {"scope": "tensor"}), steps=1, **PLAIN)
    start = trained_weights(trainer)
    batch = micro_batches(trainer)[0]
    gradients = []
    for sign, view in ((-1, "forget"), (1, "retain")):
        trainer.student.zero_grad()
        (sign * score_views(trainer.student({view: batch["views"][view]}))[view].cross_entropy()).backward()
        gradients.append({n: p.grad.clone() for n, p in trainer.student.model.named_parameters() if p.requires_grad})
    trainer.student.zero_grad()
    trainer.train()
    projected = 0
    for name, weight in trained_weights(trainer).items():
        forget, retain = (gradient[name].double() for gradient in gradients)
        dot = float((forget * retain).sum())
        if dot < 0:
            forget, projected = forget - dot / float(retain.square().sum()) * retain, projected + 1
        torch.testing.assert_close(weight, (start[name] - PLAIN["lr"] * forget).float(), atol=1e-7, rtol=1e-5)
    assert projected > 0


# ---- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("project", {"gamma": 0.3, "retain_weight": 1.0}),
        pytest.param("dual", {"retain": 1}, marks=SLOW),
        pytest.param("pdu", {"warmup": 0}, marks=SLOW),
    ],
)
def test_a_killed_run_goes_on_with_its_memory(tmp_path: Path, name: str, own: dict[str, Any]) -> None:
    """Bit for bit: an average over all steps so far, two optimisers' moments, a weight."""
    options: dict[str, Any] = {"num_epochs": 1, "save_steps": 1, "save_ckpts": True, "dropout": 0.1}
    method = build_method(name, own)
    whole = make_trainer(tmp_path / "whole", method, **options)
    whole.train()
    broken = make_trainer(tmp_path / "broken", method, **options)
    plain = broken.losses_of

    def losses_of(*inputs: Any, **how: Any) -> Any:
        if broken.state.global_step == 2:
            raise Killed
        return plain(*inputs, **how)

    broken.losses_of = losses_of  # type: ignore[method-assign]
    with pytest.raises(Killed):
        broken.train()
    found = newest_checkpoint(tmp_path / "broken")
    assert found is not None and load_file(found / "memory.safetensors")
    resumed = make_trainer(tmp_path / "broken", method, **options)
    resumed.train(resume_from_checkpoint=str(found))
    close(trained_weights(resumed), trained_weights(whole), atol=0, rtol=0)
    forgetful = make_trainer(tmp_path / "broken", method, **options)
    forgetful.sided.load = lambda checkpoint: None  # type: ignore[union-attr,method-assign]
    forgetful.train(resume_from_checkpoint=str(found))
    assert moved(trained_weights(forgetful), trained_weights(whole)) > 0, "the memory made no difference"


# ---- hooks of no method here ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Nudged(Wrapper):
    """The forget gradient at weights one further along each entry's sign."""

    by: float = 0.1

    def perturb(self, sides: Sides) -> Gradients:
        return {name: self.by * gradient.sign() for name, gradient in sides.forget.items()}


def test_a_perturbed_pass_replaces_the_forget_gradient_and_gives_the_weights_back(tmp_path: Path) -> None:
    joint, _ = trained(tmp_path, build_method("grad_diff"), gradient_accumulation_steps=2)
    still, log = trained(tmp_path, Nudged(build_method("grad_diff"), 0.0), gradient_accumulation_steps=2)
    close(still, joint, atol=2e-7, rtol=1e-5)
    nudged, other = trained(tmp_path, Nudged(build_method("grad_diff"), 0.1), gradient_accumulation_steps=2)
    assert moved(nudged, joint) > 1e-4
    assert other[0]["parts/forget"] == log[0]["parts/forget"], "logged is the first pass"


@pytest.mark.parametrize("lora", [2, pytest.param(0, marks=SLOW)])
def test_saluns_dropped_entries_equal_their_start_after_20_adamw_steps(tmp_path: Path, lora: int) -> None:
    """Bit for bit, under weight decay; and what was measured is not measured again."""
    options: dict[str, Any] = {"lora": lora, "weight_decay": 0.3, "lr": 1e-2, "init_noise": 0.2, "num_epochs": 5}
    method = wrap_method(build_method("grad_diff"), ["salun"], {"salun": {"k": 0.3}})
    trainer = make_trainer(tmp_path, method, **options)
    start = trained_weights(trainer)
    trainer.train()
    measured = load_file(tmp_path / MEASURED)
    assert trainer.state.global_step == 20 and measured.keys() == {f"keep/{name}" for name in start}
    for name, weight in trained_weights(trainer).items():
        keep = measured[f"keep/{name}"]
        assert torch.equal(weight[~keep], start[name][~keep])
        assert keep.any() == (not lora or "lora_B" in name) or not lora
        assert not keep.any() or (weight[keep] != start[name][keep]).float().mean() > 0.9
    ranked = [mask for name, mask in measured.items() if not lora or "lora_B" in name]
    assert sum(map(torch.sum, ranked)) == round(0.3 * sum(mask.numel() for mask in ranked))
    before = (tmp_path / MEASURED).stat().st_mtime_ns
    make_trainer(tmp_path, method, **{**options, "steps": 1}).train()
    assert (tmp_path / MEASURED).stat().st_mtime_ns == before


def test_the_probe_gives_each_row_once_with_its_own_gradient(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, build_method("grad_diff"), init_noise=0.2)
    probe = ModelProbe(trainer.student, trainer.dataset, trainer.data_collator, trainer.accelerator, seed=1)
    with probing(trainer.student):
        rows = list(probe.batches("forget"))
        losses = [probe.cross_entropy(row).item() for row in rows]
        gradient = probe.gradients(rows[0])
    assert len(set(losses)) == 7 == len(rows) and sum(row.image for row in rows) == 4
    other = ModelProbe(trainer.student, trainer.dataset, trainer.data_collator, trainer.accelerator, seed=1)
    assert [probe.cross_entropy(row).item() for row in other.batches("forget", share=False)] == losses
    item = {"views": {"forget": rows[0].sample}, "epoch": 0, "pass_name": None}
    score_views(trainer.student(trainer.data_collator([item])["views"]))["forget"].cross_entropy().backward()
    for name, parameter in probe.trained.items():
        torch.testing.assert_close(gradient[name], parameter.grad, atol=1e-7, rtol=1e-5)


def test_dual_runs_one_side_a_step_with_the_methods_own_moments(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, build_method("dual", {"retain": 1}), num_epochs=1, init_noise=0.2)
    assert str(trainer.args.optim.value) == "sgd" and trainer.args.max_grad_norm == 0
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    assert [("parts/forget" in line, "parts/retain" in line) for line in lines] == [(True, False), (False, True)] * 2
    assert {name.partition("/")[0] for name in trainer.sided.memory} == {  # type: ignore[union-attr]
        f"{side}.{what}" for side in ("forget", "retain") for what in ("m", "v", "steps")
    }  # fmt: skip


def test_lambda_is_logged_and_follows_the_retain_loss(tmp_path: Path) -> None:
    method = build_method("pdu", {"warmup": 0, "lambda_start": 1.0, "eta": 0.1, "eps": 1.0})
    _, log = trained(tmp_path, method)
    weight = 1.0
    for line in log:
        weight = max(0, weight + 0.1 * (line["parts/retain"] - 1.0))
        assert line["parts/lambda"] == pytest.approx(weight, abs=1e-4)


def test_three_wrappers_at_once(tmp_path: Path) -> None:
    method = wrap_method(
        build_method("npo", {"retain_weight": 1.0}), ["salun", "sam", "project"], {"sam": {"rho": 0.1}}
    )
    weights, _ = trained(tmp_path, method)
    without, _ = trained(tmp_path, method.method.method)  # type: ignore[attr-defined]
    assert moved(weights, without) > 1e-4 and (tmp_path / MEASURED).exists()


def test_measurements_that_are_gone_end_a_run_that_goes_on(tmp_path: Path) -> None:
    make_trainer(tmp_path, build_method("salun"), save_steps=1, steps=1).train()
    (tmp_path / MEASURED).unlink()
    trainer = make_trainer(tmp_path, build_method("salun"), steps=2)
    with pytest.raises(ValueError, match=r"measured.safetensors is gone.*goes on from step 1.*resume_from_checkpoint"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
