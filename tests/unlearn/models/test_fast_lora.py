"""Fused LoRA linears give PEFT's numbers, and leave to PEFT what they cannot serve."""

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import Linear as LoraLinear
from safetensors.torch import load_file
from torch import nn

from tests.bad_input import run_script
from tests.models import picture, tiny_llava, tiny_qwen2vl
from unlearn.config.settings import LoraSettings
from unlearn.data.collator import Collator
from unlearn.models.families import decoder, decoder_blocks
from unlearn.models.fast_lora import FusedLora, fuse_lora
from unlearn.models.forward import StudentForward, score_views
from unlearn.models.lora import prepare_trainable
from unlearn.models.options import checkpoint_mlps, use_fused_lora
from unlearn.training.teacher import Teacher

SAMPLES: Any = [
    {"question": "Who is it?", "answer": "Ana Lima.", "image": picture(1, 16), "id": "a"},
    {"question": "Where was Ana Lima born?", "answer": "In Lisbon.", "image": None, "id": "b"},
]
FAMILIES = [tiny_llava, tiny_qwen2vl]


class Small(nn.Module):
    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 5, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


def layers(bias: bool = True, **options: Any) -> tuple[Any, Any]:
    """One adapted linear, PEFT's and fused, of the same weights."""
    torch.manual_seed(0)
    config = LoraConfig(r=2, lora_alpha=7, target_modules=["linear"], init_lora_weights=False, **options)
    plain = get_peft_model(Small(bias), config).base_model.model.linear
    fused = copy.deepcopy(plain)
    fused.__class__ = FusedLora
    return plain, fused


def gradients(layer: Any, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    y = layer(x)
    weight = torch.linspace(-1, 1, y.numel()).view(y.shape)
    trained = [p for p in layer.parameters() if p.requires_grad]
    return [y.detach(), *torch.autograd.grad((y * weight).sum(), [x, *trained])]


@pytest.mark.parametrize("bias", [False, True])
def test_one_layer_by_hand(bias: bool) -> None:
    """y = x (W + s B A)' + b; dB = s g' (x A'), dA = s B' g' x, dx = g (W + s B A), with s = 7 / 2."""
    plain, fused = layers(bias)
    x = torch.randn(2, 3, 6)
    y, dx, da, db = gradients(fused, x)
    a, b, w = fused.lora_A["default"].weight, fused.lora_B["default"].weight, fused.base_layer.weight
    whole, rows, g = (w + 3.5 * b @ a).detach(), x.view(6, 6), torch.linspace(-1, 1, 30).view(6, 5)
    offset = fused.base_layer.bias if bias else torch.zeros(5)
    by_hand = [rows @ whole.t() + offset, g @ whole, 3.5 * b.t() @ g.t() @ rows, 3.5 * g.t() @ (rows @ a.t())]
    for mine, hand, theirs in zip([y, dx, da, db], by_hand, gradients(plain, x), strict=True):
        torch.testing.assert_close(mine, hand.view(mine.shape), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-6)


def count(fused: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often PEFT's own forward runs."""
    calls: list[int] = []
    plain = LoraLinear.forward
    monkeypatch.setattr(LoraLinear, "forward", lambda *given, **named: calls.append(1) or plain(*given, **named))
    return calls


def test_what_it_cannot_serve_keeps_pefts_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, fused = layers()
    calls = count(fused, monkeypatch)
    x = torch.randn(4, 6)
    fused(x)
    assert not calls
    for layer in (plain, fused):
        layer.enable_adapters(False)
    assert torch.equal(fused(x), plain(x)) and torch.equal(fused(x), fused.base_layer(x))
    for layer in (plain, fused):
        layer.enable_adapters(True)
        layer.merge()
    calls.clear()
    assert torch.equal(fused(x), plain(x)) and len(calls) == 2
    for layer in (plain, fused):
        layer.unmerge()
    handle = fused.base_layer.register_forward_hook(lambda *given: None)  # ZeRO-3 listens like this
    calls.clear()
    assert torch.equal(fused(x), plain(x)) and len(calls) == 2
    handle.remove()
    fused.base_layer.weight.requires_grad_(True)  # a base that is trained too
    calls.clear()
    assert len(gradients(fused, x)) == 5 and len(calls) == 1


def test_dropout_two_adapters_and_a_quantised_base_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, fused = layers(lora_dropout=0.5)
    calls = count(fused, monkeypatch)
    fused.train()(torch.randn(4, 6))
    assert len(calls) == 1
    model = get_peft_model(Small(True), LoraConfig(r=2, target_modules=["linear"], init_lora_weights=False))
    model.add_adapter("second", LoraConfig(r=3, target_modules=["linear"], init_lora_weights=False))
    model.base_model.set_adapter(["default", "second"])
    layer = model.base_model.model.linear
    x = torch.randn(4, 6)
    before = layer(x)
    layer.__class__ = FusedLora
    calls.clear()
    assert torch.equal(layer(x), before) and len(calls) == 1

    class Linear4bit(nn.Linear):
        pass

    other = copy.deepcopy(tiny_llava()[0])
    model = prepare_trainable(other, LoraSettings(r=2), freeze_vision=True)
    first = next(module for module in model.modules() if isinstance(module, LoraLinear))
    first.base_layer.__class__ = Linear4bit
    assert fuse_lora(model) == (13, 1) and type(first) is LoraLinear


def test_what_is_chosen_is_said_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def model(dropout: float) -> Any:
        lora = LoraSettings(r=2, dropout=dropout)
        return prepare_trainable(copy.deepcopy(tiny_llava()[0]), lora, freeze_vision=True)

    caplog.set_level(logging.INFO, logger="unlearn.models.options")
    use_fused_lora(plain := model(0.0), "auto")
    assert "fused_lora: auto: off (no GPU)" in caplog.text and not any(
        isinstance(m, FusedLora) for m in plain.modules()
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    caplog.clear()
    use_fused_lora(plain, "auto")
    use_fused_lora(model(0.5), True)
    messages = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert messages[:2] == [("INFO", "fused_lora: auto: on (a GPU)"), ("INFO", "fused_lora: 14 layers")]
    assert messages[2][0] == "WARNING" and "0 layers; 14 keep PEFT's forward (dropout" in messages[2][1]
    assert len(messages) == 3
    caplog.clear()
    use_fused_lora(tiny_llava()[0], True)  # no adapter at all
    use_fused_lora(model(0.0), False)
    assert not caplog.records


def calm(tiny: Any) -> Any:
    """Weights as an initialisation makes them, in steps of bf16: the tiny models' own are so large that a rounding
    error grows to the size of the gradient."""
    model = copy.deepcopy(tiny()[0])
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.25 if p.ndim > 1 else 1.0).copy_(p.bfloat16())
    return model


def run(tiny: Any, *, half: bool, fused: bool, checkpointing: Any = False) -> list[torch.Tensor]:
    """Teacher's and student's scores of a mixed batch, and every adapter's gradient; the second of two steps."""
    base, processor = calm(tiny), tiny()[1]
    base = base.to(torch.bfloat16 if half else torch.float32)
    torch.manual_seed(0)
    model = prepare_trainable(base, LoraSettings(r=2, alpha=4, init_noise=0.1), freeze_vision=True).train()
    use_fused_lora(model, fused)
    student = StudentForward(model).train()
    if checkpointing == "mlp":
        checkpoint_mlps(model)
    elif checkpointing:
        student.activation_checkpointing_enable()
    rows, trained = Collator(processor).rows(SAMPLES), [p for p in model.parameters() if p.requires_grad]
    for step in range(2):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            taught = Teacher.of(student).score({"forget": rows})["forget"].token_logps()
            scored = score_views(student({"forget": rows}))["forget"]
        grads = torch.autograd.grad(scored.cross_entropy(), trained)
        if step == 0:
            with torch.no_grad():  # the same step for every form: what is cast once a forward must be cast anew
                torch.manual_seed(1)
                for p in trained:
                    p.data.add_(0.03 * torch.randn(p.shape))
    return [taught, scored.token_logps().detach(), torch.cat([grad.flatten() for grad in grads])]


@pytest.mark.parametrize("tiny", FAMILIES)
def test_a_model_in_fp32_and_under_autocast(tiny: Any) -> None:
    exact = run(tiny, half=False, fused=False)
    fused = run(tiny, half=False, fused=True)
    assert torch.equal(exact[0], fused[0])  # the teacher: the adapter is off
    for mine, theirs in zip(fused[1:], exact[1:], strict=True):
        assert (mine - theirs).norm() <= 1e-6 * theirs.norm()
    theirs, mine = (run(tiny, half=True, fused=fused) for fused in (False, True))
    assert torch.equal(mine[0], theirs[0])
    torch.testing.assert_close(mine[1], exact[1], rtol=2e-3, atol=2e-3)
    assert 0 < (mine[2] - exact[2]).norm() <= 1.1 * (theirs[2] - exact[2]).norm() < 0.02 * exact[2].norm()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("checkpointing", ["mlp", True])
def test_checkpointing_changes_no_bit(half: bool, checkpointing: Any) -> None:
    for fused in (False, True):
        kept = run(tiny_llava, half=half, fused=fused)
        anew = run(tiny_llava, half=half, fused=fused, checkpointing=checkpointing)
        assert all(torch.equal(a, b) for a, b in zip(kept, anew, strict=True))


def test_an_mlp_of_another_name_is_refused() -> None:
    model = copy.deepcopy(tiny_llava()[0])
    for block in decoder_blocks(model):
        block.experts = block.mlp
        del block.mlp
    with pytest.raises(ValueError, match=r"LlamaDecoderLayer has none of mlp, .*set gradient_checkpointing=true"):
        checkpoint_mlps(model)


def test_weights_in_parts_are_cast_by_their_block() -> None:
    """FSDP2 gathers a block's weights for its own forward only: the cast for all would see the parts."""
    model = prepare_trainable(copy.deepcopy(tiny_llava()[0]).bfloat16(), LoraSettings(r=2), freeze_vision=True)
    fuse_lora(model)
    found = [module for module in model.modules() if isinstance(module, FusedLora)]
    ids = torch.tensor([[7, 30, 41, 9]])
    with torch.autocast("cpu", torch.bfloat16):
        whole = model(input_ids=ids).logits
        assert all(layer.cast is not None and layer.cast[0].dtype == torch.bfloat16 for layer in found)
        for layer in found:
            layer.lora_A["default"].weight.to_local = None  # what a DTensor has
        assert torch.equal(model(input_ids=ids).logits, whole) and all(layer.cast is None for layer in found)
    assert len(decoder(model)._forward_pre_hooks) == 1


def test_through_the_script(tmp_path: Path) -> None:
    """Three steps leave the weights of PEFT's form under the same names."""
    weights = []
    for word in ("false", "true"):
        folder = tmp_path / word
        run_script("mm/forget.py", "model_path=minibench/weights/llava-mini", "forget_loss=KL", "LoRA.init_noise=0.1",
                   "max_steps=3", "batch_size=2", "optim=sgd", "lr=0.03", "max_grad_norm=0", "warmup_epochs=0",
                   "save_steps=0", f"fused_lora={word}", f"save_dir={folder}")  # fmt: skip
        weights.append(load_file(folder / "adapter_model.safetensors"))
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-4, atol=1e-5, msg=name)
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0]), "the fused form ran"
