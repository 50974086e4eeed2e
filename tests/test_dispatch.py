"""The meter counts what can be counted by hand; a tiny step dispatches no more than it did when this was written."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
# Kernels of one npo step of the thin LLaVA with 2 decoder blocks (torch 2.13, transformers 5.23, peft 0.21).
RECORDED = {"kernels": 810, "syncs": 2}


@pytest.fixture
def dispatch(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("TRANSFORMERS_DISABLE_TORCH_CHECK", "1")
    return importlib.import_module("dispatch")


def test_known_operators_by_hand(dispatch: Any) -> None:
    counts = dispatch.Counts()
    with FakeTensorMode(allow_non_fake_inputs=True):
        x, w = torch.zeros(3, 4), torch.zeros(4, 5, requires_grad=True)
        with dispatch.as_on_a_gpu(counts), dispatch.Meter(counts):
            y = x @ w  # one product, 2 * 3 * 4 * 5 FLOPs; its bytes do not count
            y.t().view(5, 3).detach()  # views
            torch.empty(7)
            y + 1.0  # 15 floats in, 15 out: 120 bytes
            half = y.to(torch.bfloat16)  # 60 bytes in, 30 out
            half.float()  # 30 in, 60 out
            torch.cat([y, y])  # 120 in, 120 out
            y.sum().item()  # 60 in, 4 out; one sync
            y[0].tolist()  # one sync
        z, copied = torch.zeros(9, 5), dispatch.Counts()
        with dispatch.Meter(copied):
            z.index_copy_(0, torch.tensor([4]), y[:1])  # 20 bytes read, 20 written
        assert copied.moved == 40
    assert counts.kernels == {"mm": 1, "add": 1, "_to_copy": 2, "cat": 1, "sum": 1, "_local_scalar_dense": 1}
    assert counts.flops == 120 and counts.moved == 120 + 90 + 90 + 240 + 64 + 4
    assert counts.syncs == {"_local_scalar_dense": 1, "tolist": 1}
    assert torch.Tensor.tolist(torch.tensor([2])) == [2]  # all is as before


def test_whole_numbers_stay_real_and_decide(dispatch: Any) -> None:
    counts = dispatch.Counts()
    with FakeTensorMode(allow_non_fake_inputs=True), dispatch.as_on_a_gpu(counts), dispatch.Meter(counts):
        places = torch.arange(6)
        assert places.tolist() == [0, 1, 2, 3, 4, 5] and bool((places > 4).any())
        assert (places % 2 == 1).nonzero().flatten().tolist() == [1, 3, 5]
        assert type(torch.zeros(2)).__name__ == "FakeTensor"
    assert counts.syncs == {"tolist": 2, "_local_scalar_dense": 1, "nonzero": 1}


def test_what_is_kept_for_the_backward_pass_by_storage(dispatch: Any) -> None:
    counts = dispatch.Counts()
    layer = torch.nn.Linear(4, 5, bias=False)
    x = torch.ones(3, 4)
    with dispatch.saved_bytes(counts, layer):
        y = layer(x)  # keeps x, 48 bytes; the weight is the model's own
        z = y.exp()  # keeps its result, 60 bytes
        z * z.view(15).view(3, 5)  # the same storage again, twice
    assert counts.saved == 48 + 60


@pytest.mark.parametrize("casts", [False, True])
def test_a_tiny_step_dispatches_no_more_than_it_did(dispatch: Any, casts: bool) -> None:
    counts = dispatch.train_step(dispatch.SHAPES["tiny"], dispatch.CASES["npo"], 2, peft_casts=casts)
    if casts:  # what keeping the inputs' type saves: see unlearn/models/lora.py
        assert counts.kernels.total() > RECORDED["kernels"] + 40
    else:
        assert counts.kernels.total() <= 1.05 * RECORDED["kernels"]
        assert counts.syncs.total() <= RECORDED["syncs"]


FORMS: tuple[dict[str, Any], ...] = (
    {}, {"peft_casts": True}, {"fused": True, "liger": True}, {"fused": True, "checkpointing": "mlp"},
    {"fused": True, "liger": True, "checkpointing": "mlp"}, {"checkpointing": "true"},
)  # fmt: skip


@pytest.mark.parametrize("key", ["tiny", pytest.param("2b", marks=pytest.mark.slow)])
def test_the_memory_model_agrees_with_the_bytes_that_are_kept(dispatch: Any, key: str) -> None:
    """What one decoder block keeps of one token, at the thin LLaVA's and at Qwen2-VL-2B's widths; an answer a row, so
    no mask: with one, sdpa takes keys and values repeated for each head of a group."""
    import memory_model

    wide = {"tiny": (384, 1024, 384, 32064), "2b": (1536, 8960, 256, 151936)}[key]
    shape, case = memory_model.Shape("", 2, *wide, 0.0), dispatch.Case("", "grad_ascent", ((True, 2),))
    tokens: list[float] = []
    for form in reversed(FORMS):
        found = [dispatch.train_step(dispatch.SHAPES[key], case, layers, **form) for layers in (2, 3)]
        slope = found[1].saved - found[0].saved
        if form == FORMS[-1]:  # whole blocks: their inputs alone, which counts the tokens
            tokens.append(slope / (2 * shape.width))
            assert tokens[0].is_integer() and tokens[0] > dispatch.SHAPES[key].tokens
        how = {name: value for name, value in form.items() if name in ("checkpointing", "liger")}
        model = memory_model.kept_bytes(shape, casts=form.get("peft_casts", False), masked=False, **how)
        assert model == pytest.approx(slope / tokens[0], rel=0.1), form


def test_fewer_kernels_with_each_option(dispatch: Any) -> None:
    """Fused adapters and Liger's kernels dispatch less; a checkpointed MLP dispatches more and keeps less."""
    shape, case = dispatch.SHAPES["tiny"], dispatch.Case("", "grad_ascent", ((True, 2),))
    counts = [dispatch.train_step(shape, case, 2, **form) for form in (
        {}, {"fused": True}, {"fused": True, "liger": True}, {"fused": True, "liger": True, "checkpointing": "mlp"}
    )]  # fmt: skip
    plain, fused, both, anew = (count.kernels.total() for count in counts)
    assert plain - fused > 50 and fused - both > 100 and both < anew < fused
    assert counts[3].saved < 0.7 * counts[2].saved and counts[3].flops > counts[2].flops
    assert counts[1].flops == counts[2].flops == pytest.approx(counts[0].flops, rel=0.01)
