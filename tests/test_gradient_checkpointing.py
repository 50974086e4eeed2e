"""gradient_checkpointing through the scripts: a step with whole blocks, with MLPs and without it, the same weights."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.bad_input import run_script

STEP = ("max_steps=1", "batch_size=4", "optim=sgd", "lr=0.3", "max_grad_norm=0", "warmup_epochs=0", "save_steps=0")


def counted(calls: list[Any], function: Any, *given: Any, **how: Any) -> Any:
    calls.append(how)
    return function(*given, **how)


def llava(rank: int) -> tuple[str, ...]:
    return ("model_path=minibench/weights/llava-mini", "forget_loss=npo", f"LoRA.r={rank}", "LoRA.init_noise=0.1")


CASES = {
    "mm/forget": llava(8),
    "mm/forget, full": ("model_path=minibench/weights/qwen2vl-mini", "model_family=qwen2vl-mini", "forget_loss=KL",
                        "LoRA.r=0"),
    "mm/finetune": ("model_family=qwen2vl-mini",),
    "nlp/finetune": ("LoRA.r=0",),
    "nlp/forget": ("model_path=minibench/weights/llama-mini", "forget_loss=RMU", "LoRA.init_noise=0.1"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_step_through_a_script_equals_the_step_without(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch.utils.checkpoint as saving
    import transformers.modeling_utils as modeling

    calls: dict[str, list[Any]] = {"true": [], "mlp": []}
    for word, owner in (("true", modeling), ("mlp", saving)):
        plain = saving.checkpoint
        count = functools.partial(counted, calls[word], plain)
        monkeypatch.setattr(owner, "checkpoint", count)
    weights: list[dict[str, torch.Tensor]] = []
    for word in ("false", "true", "mlp"):
        folder = tmp_path / word
        run_script(f"{case.partition(',')[0]}.py", *CASES[case], *STEP, f"gradient_checkpointing={word}",
                   f"save_dir={folder}")  # fmt: skip
        assert [key for key, found in calls.items() if found] == ["true", "mlp"][: ("false", "true", "mlp").index(word)]
        weights.append({name: t for file in folder.glob("*.safetensors") for name, t in load_file(file).items()})
    assert all(how["use_reentrant"] is False for found in calls.values() for how in found)
    for other in weights[1:]:
        assert weights[0].keys() == other.keys() and weights[0]
        for name, tensor in weights[0].items():
            torch.testing.assert_close(other[name], tensor, rtol=1e-5, atol=1e-6, msg=name)
