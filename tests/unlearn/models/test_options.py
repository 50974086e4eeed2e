"""Options that depend on the machine: refused before a model loads where they cannot run, and right where they can."""

import copy
import dataclasses
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import tiny_llama, tiny_llava
from tests.training import make_trainer
from unlearn.config.settings import FinetuneSettings, ForgetSettings, LoraSettings
from unlearn.data.collator import Collator
from unlearn.method import HiddenSpec
from unlearn.models.families import decoder_blocks
from unlearn.models.forward import StudentForward, score_views
from unlearn.models.loading import choose_attention, load_model
from unlearn.models.lora import prepare_trainable
from unlearn.models.options import (
    check_options,
    compile_blocks,
    set_up_gpu,
    skip_picture_check,
    use_fused_lora,
    use_liger,
    wants_compile,
    wants_liger,
)
from unlearn.models.start import Start
from unlearn.registry import build_method
from unlearn.training.saving import merged
from unlearn.training.teacher import Teacher

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
SAMPLES: Any = [
    {"question": f"Where was {name} born?", "answer": f"In {town}.", "image": None, "id": name}
    for name, town in (("Ana", "Lisbon"), ("Bo", "Oslo"), ("Jaime", "Santiago"))
]

WHOLE = Start("some/model", ("some/model",), "llava", 2, None)


@NO_GPU
@pytest.mark.parametrize("kind", [ForgetSettings, FinetuneSettings])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"liger": True}, "liger=true needs a GPU.*liger=false"),
        ({"attn_implementation": "flash_attention_2"}, "flash_attention_2 needs a GPU.*auto or sdpa"),
        ({"quantization": "4bit", "LoRA": LoraSettings(r=0)}, "quantization=4bit with LoRA.r=0.*LoRA.r > 0"),
        (
            {"quantization": "8bit", "freeze_vision_module": False, "LoRA": LoraSettings(targets="all")},
            "freeze_vision_module",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_a_remedy(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_options(kind(**options), WHOLE)
    check_options(kind(), WHOLE)


def test_a_missing_package_and_an_adapter_are_named(monkeypatch: Any) -> None:
    with pytest.raises(ValueError, match=r"needs a whole model.*is an adapter; merge it"):
        check_options(
            ForgetSettings(quantization="4bit"), dataclasses.replace(WHOLE, chain=("an/adapter", "some/model"))
        )
    monkeypatch.setattr("unlearn.models.options.installed", lambda package: False)
    for options in ({"optim": "adamw_bnb_8bit"}, {"quantization": "8bit"}):
        with pytest.raises(ValueError, match=r"8bit needs the package bitsandbytes; pip install"):
            check_options(dataclasses.replace(ForgetSettings(), **options), WHOLE)


def test_auto_attention_is_the_best_that_the_model_has(caplog: Any) -> None:
    class Old:
        _supports_sdpa = False

    with caplog.at_level("INFO", logger="unlearn.models.loading"):
        assert choose_attention("auto", Old, torch.float32) == "eager"
    assert "attention: eager" in caplog.text


@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_liger_leaves_the_logits_alone_and_refuses_what_it_does_not_know(kind: str, monkeypatch: Any) -> None:
    """Its fused cross-entropy, on by default, returns no logits."""
    called: list[dict[str, Any]] = []
    patch = types.SimpleNamespace(
        MODEL_TYPE_TO_APPLY_LIGER_FN={"llama": None},
        _apply_liger_kernel_to_instance=lambda **given: called.append(given),
    )
    monkeypatch.setitem(sys.modules, "liger_kernel", types.ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", types.SimpleNamespace(monkey_patch=patch))  # type: ignore[arg-type]
    model = types.SimpleNamespace(config=types.SimpleNamespace(model_type=kind))
    if kind == "llama":
        use_liger(model)
        assert called == [{"model": model, "cross_entropy": False, "fused_linear_cross_entropy": False}]
    else:
        with pytest.raises(ValueError, match="no kernels for mamba models; set liger=false"):
            use_liger(model)


def test_auto_chooses_by_the_machine_and_says_why(caplog: Any, monkeypatch: Any) -> None:
    caplog.set_level("INFO", logger="unlearn.models.options")

    def said(*call: Any, **named: Any) -> tuple[bool, str]:
        caplog.clear()
        function, *given = call
        return function(*given, **named), caplog.messages[0] if caplog.messages else ""

    assert said(wants_compile, True, 3) == (True, "") and said(wants_liger, False, "llama", compiled=False)[0] is False
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert said(wants_compile, "auto", 10_000) == (False, "compile: auto: off (no GPU)")
    assert said(wants_liger, "auto", "llama", compiled=False) == (False, "liger: auto: off (no GPU)")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    there = {"triton", "liger_kernel"}
    monkeypatch.setattr("unlearn.models.options.installed", lambda package: package in there)
    monkeypatch.setattr("unlearn.models.options.liger_kinds", lambda: {"llava"})
    assert said(wants_compile, "auto", 500)[0] is False and "500 steps" in caplog.messages[0]
    assert said(wants_compile, "auto", 501)[0] is True
    assert said(wants_liger, "auto", "llava", compiled=False) == (True, "liger: auto: on (a llava model)")
    assert said(wants_liger, "auto", "mamba", compiled=False) == (False, "liger: auto: off (a mamba model)")
    assert said(wants_liger, "auto", "llava", compiled=True) == (False, "liger: auto: off (compile fuses the same)")
    there.clear()
    assert said(wants_compile, "auto", 501) == (False, "compile: auto: off (the package triton is not installed)")
    assert "liger-kernel is not installed" in said(wants_liger, "auto", "llava", compiled=False)[1]
    for options, package in (
        ({"liger": True}, "liger-kernel; pip install -e"),
        ({"compile": True}, "triton; pip install"),
    ):
        with pytest.raises(ValueError, match=package):
            check_options(dataclasses.replace(ForgetSettings(), **options), WHOLE)
    check_options(ForgetSettings(), WHOLE)


def test_a_model_that_breaks_graphs_runs_as_it_is(caplog: Any) -> None:
    """Its second block alone breaks: both then run uncompiled, which is said once."""
    model = copy.deepcopy(tiny_llama()[0])
    ids = torch.tensor([[7, 30, 41, 9]])
    before = model(input_ids=ids).logits
    mlp = decoder_blocks(model)[1].mlp
    plain = mlp.forward

    def forward(x: torch.Tensor) -> torch.Tensor:
        print("a line in the middle of a graph", end="")
        return plain(x)

    mlp.forward = forward
    compile_blocks(model, backend="eager")
    with caplog.at_level("WARNING", logger="unlearn.models.options"):
        for _ in range(2):
            assert torch.equal(model(input_ids=ids).logits, before)
    assert len(caplog.messages) == 1 and caplog.messages[0].startswith("compile: off, this model's blocks cannot")


# ---- QLoRA --------------------------------------------------------------------------------------------------------


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A saved model whose layer sizes bitsandbytes can quantise."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_llama()[1]
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "wide")
    return tmp_path / "wide"


@pytest.mark.parametrize("quantization", ["4bit", "8bit"])
def test_qlora_trains_the_adapter_and_merges_it_into_the_base_as_it_was(
    wide: Path, quantization: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = load_model(str(wide), quantization=quantization)
    model = prepare_trainable(model, LoraSettings(r=4, alpha=8), freeze_vision=True)
    student = StudentForward(model).train()
    teacher = Teacher.of(student)
    views = {"forget": Collator(tiny_llama()[1]).rows(SAMPLES)}
    before = teacher.score(views)["forget"].sequence_logps()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2)
    losses = []
    for _ in range(6):
        loss = score_views(student(views))["forget"].cross_entropy()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3
    assert torch.equal(teacher.score(views)["forget"].sequence_logps(), before)  # the base has not moved

    original = load_model(str(wide))
    name = "model.layers.1.mlp.down_proj"
    layer = model.get_base_model().get_submodule(name)
    change = 2.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    whole = merged(model, None, tmp_path, torch.float32)
    assert not list(tmp_path.glob(".incomplete*")) and type(whole) is type(original)
    torch.testing.assert_close(whole.get_submodule(name).weight, original.get_submodule(name).weight + change)
    assert change.abs().max() > 1e-2


# ---- 8-bit AdamW, torch.compile -----------------------------------------------------------------------------------


def test_8_bit_adamw_trains(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path,
        build_method("retain_ft"),
        lora=0,
        optim="adamw_bnb_8bit",
        epoch_over="retain",
        retain=(0, 4),
        num_epochs=8,
        batch_size=4,
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] - 0.3
    states = [state for state in trainer.optimizer.optimizer.state.values() if "state1" in state]
    assert {state["state1"].dtype for state in states} >= {torch.uint8}


def test_compiled_blocks_change_no_number_and_no_name() -> None:
    """The adapter is switched off for the teacher and on again: each state has its own code. Fused adapters and
    reading a block's states break no graph."""
    model, processor = tiny_llava.__wrapped__()  # its own: who once asked a model for all states left hooks in it
    torch.manual_seed(0)
    model = prepare_trainable(model, LoraSettings(r=2, init_noise=0.3), freeze_vision=True)
    plain = StudentForward(model, HiddenSpec(1)).train()
    fast = copy.deepcopy(plain)
    use_fused_lora(fast.model, True)
    calls: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        calls.append(len(inputs))
        return graph.forward

    compile_blocks(fast.model, backend)  # type: ignore[arg-type]
    views = {"forget": Collator(processor).rows(SAMPLES)}
    results = []
    for student in (plain, fast):
        before = Teacher.of(student).score(views)["forget"].token_logps()
        scored = score_views(student(views))["forget"]
        (scored.cross_entropy() + scored.hidden_states()[0].square().mean()).backward()
        grads = torch.cat([p.grad.flatten() for p in student.model.parameters() if p.grad is not None])
        results.append((before, scored.token_logps().detach(), grads))
    assert calls, "nothing was compiled"
    (*scores, plain_grads), (*other_scores, fast_grads) = results
    assert all(torch.equal(one, other) for one, other in zip(scores, other_scores, strict=True))
    # fused adapters add in another order; both are 1e-5 of the norm from gradients in fp64
    assert (plain_grads - fast_grads).norm() < 5e-6 * plain_grads.norm()
    assert (results[0][0] - results[0][1]).abs().max() > 0.1  # teacher and student differ
    assert fast.model.state_dict().keys() == plain.model.state_dict().keys()


def test_a_gpu_is_set_up_and_a_cpu_left_alone(monkeypatch: Any) -> None:
    chosen: list[bool] = []
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", chosen.append)
    memory, check = "PYTORCH_CUDA_ALLOC_CONF", "TRANSFORMERS_DISABLE_TORCH_CHECK"
    for name in (memory, "PYTORCH_ALLOC_CONF", check):
        monkeypatch.setenv(name, "0")  # what is set here is undone at the end
        monkeypatch.delenv(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    set_up_gpu(cudnn_attention=False)
    skip_picture_check(True)
    assert chosen == [] and memory not in os.environ and check not in os.environ
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    set_up_gpu(cudnn_attention=False)
    assert chosen == [False] and os.environ[memory] == "expandable_segments:True"
    os.environ[memory] = "max_split_size_mb:64"
    set_up_gpu(cudnn_attention=True)
    assert chosen == [False, True] and os.environ[memory] == "max_split_size_mb:64"  # the user's choice stays
    skip_picture_check(True)
    assert os.environ[check] == "1"
    skip_picture_check(False)  # a model whose features nobody counts, later in the same process
    assert os.environ[check] == "0"
