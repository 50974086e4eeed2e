"""Micro-batches that share a forward train like micro-batches that go one by one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bad_input import run_script
from tests.models import tiny_llama
from tests.training import make_trainer, micro_batches, trained_weights
from unlearn.data.views import Draw
from unlearn.methods.sparsity import with_l1
from unlearn.registry import build_method
from unlearn.results import read_record
from unlearn.training.accumulation import Steps, forwards, one, together

PLAIN = {"optim": "sgd", "max_grad_norm": 0.0, "lr": 1e-3}


def test_batches_go_together_while_they_fit() -> None:
    assert forwards("abcde", [3, 4, 2, 9, 1], 7) == [["a", "b"], ["c"], ["d"], ["e"]]
    assert forwards("abc", [1, 1, 1], 100) == [["a", "b", "c"]]
    assert forwards("abc", [1, 1, 1], 1) == [["a"], ["b"], ["c"]]


def test_a_step_is_one_list_of_draws_that_say_their_batch() -> None:
    batches = [[Draw(0, 4), Draw(0, 5)], [Draw(0, 6)], [Draw(1, 7)]]
    steps = Steps(batches, 10, 2)
    assert len(steps) == 2
    assert list(steps) == [[Draw(0, 4), Draw(0, 5), Draw(0, 6, None, 1)], [Draw(1, 7)]]
    assert list(Steps(batches, 1, 2)) == list(steps)[:1] and len(Steps(batches, 1, 2)) == 1


def test_views_of_micro_batches_and_back() -> None:
    views = build_method("KL").student_views
    batches: list[Any] = [{"views": {"forget": 1, "retain": 2, "idk": 3}}, {"views": {"retain": 4}}]
    found = together(batches, views)
    assert found == {"0/forget": 1, "0/retain": 2, "1/retain": 4}
    assert one(found, 0) == {"forget": 1, "retain": 2} and one(found, 1) == {"retain": 4}


METHODS = {
    "npo": build_method("npo"), "KL": build_method("KL"), "LLMU": build_method("LLMU"),
    "RMU": build_method("RMU", {"layer": 0, "c": 2.0}), "L1": with_l1(build_method("grad_diff"), 0.01, "init"),
    "scrub": build_method("scrub", {"schedule": "alternating", "msteps": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in ("LLMU", "RMU"))) for n in METHODS])
def test_joined_equals_one_by_one(tmp_path: Path, name: str) -> None:
    """Weights and log lines, with batches of unlike lengths and kinds and a last step of fewer."""
    found: dict[int, Any] = {}
    for tokens in (1, 150, 10**6):
        trainer = make_trainer(
            tmp_path / str(tokens), METHODS[name], lora=0 if name in ("RMU", "L1") else 2, init_noise=0.2, num_epochs=1,
            gradient_accumulation_steps=3, log_grad_norms=name == "KL", forget=(4, 5), retain=(3, 4),
            tokens_per_forward=tokens, **PLAIN,
        )  # fmt: skip
        calls = count_calls(trainer)
        trainer.train()
        found[tokens] = trained_weights(trainer), trainer.state.log_history, len(calls), trainer.state.global_step
    batches = len(micro_batches(trainer))
    start = trained_weights(make_trainer(tmp_path / "start", METHODS[name], lora=0 if name in ("RMU", "L1") else 2,
                                         init_noise=0.2, **PLAIN))  # fmt: skip
    steps = found[1][3]
    assert batches > steps > 1 and found[1][2] == batches and found[10**6][2] == steps
    assert steps < found[150][2] <= batches
    for tokens in (150, 10**6):
        for key, weight in found[1][0].items():
            torch.testing.assert_close(
                found[tokens][0][key], weight, atol=1e-6, rtol=1e-4, msg=lambda m, k=key: f"{k}: {m}"
            )
        for line, other in zip(found[1][1], found[tokens][1], strict=True):
            assert line.keys() == other.keys()
            parts = [key for key in line if key.startswith("parts/") or key in ("loss", "grad_norm")]
            assert [other[key] for key in parts] == pytest.approx([line[key] for key in parts], rel=1e-3, abs=1e-4)
    assert max(float((found[1][0][key] - start[key]).abs().max()) for key in start) > 1e-4


def count_calls(trainer: Any) -> list[int]:
    """Grows by one at each forward of the student; a teacher with its adapter off reads in eval mode."""
    calls: list[int] = []
    trainer.student.register_forward_pre_hook(lambda module, given: calls.append(1) if module.training else None)
    return calls


def test_a_script_takes_the_setting_and_the_run_is_the_same_run(tmp_path: Path) -> None:
    for part in tiny_llama():
        part.save_pretrained(tmp_path / "start")
    command = ["nlp/forget.py", f"model_path={tmp_path}/start", "forget_loss=KL", "LoRA.r=2", "batch_size=1",
               "gradient_accumulation_steps=3", "max_steps=2", f"save_dir={tmp_path}/out"]  # fmt: skip
    run_script(*command, "tokens_per_forward=1")
    record = read_record(tmp_path / "out")
    assert record is not None and record["settings"]["tokens_per_forward"] == 1 and record["steps"] == 2
    run_script(*command)  # finished: the number of forwards is no part of what a run is
    assert read_record(tmp_path / "out") == record
