"""L1 of weights and of their change: by hand, against autograd, and the published config's keys."""

import pytest
import torch

from unlearn.config.settings import ForgetSettings, LoraSettings
from unlearn.method import LoraPair, StepInfo, Trained, defines
from unlearn.methods.sparsity import check_norms, l1_norm, with_l1
from unlearn.pipeline import choose_method
from unlearn.registry import build_method

STEP = StepInfo(step=0, total_steps=4, epoch=0, epochs=1)


def full() -> Trained:
    weights = {"w": torch.tensor([[1.0, -2.0], [0.0, 4.0]]), "b": torch.tensor([-1.0])}
    start = {"w": torch.tensor([[1.0, 1.0], [0.5, 4.0]]), "b": torch.tensor([-3.0])}
    return Trained({n: w.requires_grad_() for n, w in weights.items()}, start)


@pytest.mark.parametrize(
    ("origin", "reduction", "expected"),
    [("zero", "sum", 8.0), ("zero", "mean", 8 / 5), ("init", "sum", 3 + 0.5 + 2), ("init", "mean", 5.5 / 5)],
)
def test_norm_of_whole_weights_by_hand(origin, reduction, expected):
    assert l1_norm(full(), origin=origin, reduction=reduction).item() == pytest.approx(expected)


def test_gradient_of_whole_weights_is_the_sign():
    trained = full()
    l1_norm(trained, origin="init", reduction="sum").backward()
    assert trained.parameters["w"].grad.tolist() == [[0, -1], [-1, 0]]
    assert trained.parameters["b"].grad.tolist() == [1]


def adapted(dtype=torch.float32) -> Trained:
    torch.manual_seed(0)
    shapes = {"q": (3, 7, 5), "v": (2, 4, 6)}  # r, out, in
    pairs = {
        name: LoraPair(
            torch.randn(r, i, dtype=dtype).requires_grad_(), torch.randn(o, r, dtype=dtype).requires_grad_(), s
        )
        for (name, (r, o, i)), s in zip(shapes.items(), (4.0, 0.5), strict=True)
    }
    parameters = {f"{n}.lora_{side}": getattr(pair, side) for n, pair in pairs.items() for side in "AB"}
    return Trained(parameters, {}, pairs)


def materialised(trained: Trained) -> torch.Tensor:
    return sum((pair.scaling * pair.B @ pair.A).abs().sum() for pair in trained.lora.values())


def test_lora_norm_and_gradient_equal_those_of_the_materialised_change():
    fast, slow = adapted(), adapted()
    value, expected = l1_norm(fast, origin="init", reduction="sum"), materialised(slow)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(l1_norm(fast, origin="init"), expected / (7 * 5 + 4 * 6))
    (3 * value).backward()
    (3 * expected).backward()
    for name in fast.parameters:
        torch.testing.assert_close(fast.parameters[name].grad, slow.parameters[name].grad)


def test_lora_norm_keeps_only_the_factors_for_backward():
    """[out, in] must not survive forward: at 7B the changes of all layers together would be a second model."""
    a, b = torch.randn(2, 50, requires_grad=True), torch.randn(40, 2, requires_grad=True)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.numel()), t)[1], lambda t: t):
        l1_norm(Trained({"A": a, "B": b}, {}, {"x": LoraPair(a, b, 1.0)}), origin="init").backward()
    assert sizes and max(sizes) <= 2 * 50


def test_the_norm_is_fp32_under_autocast_and_in_bf16():
    exact = l1_norm(adapted(), origin="init", reduction="sum")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(l1_norm(adapted(), origin="init", reduction="sum"), exact)
    low = adapted(torch.bfloat16)
    value = l1_norm(low, origin="init", reduction="sum")
    assert value.dtype == torch.float32
    value.backward()
    assert all(p.grad.dtype == torch.bfloat16 for p in low.parameters.values())


def test_tensors_beside_the_adapters_count_too():
    trained = adapted()
    extra = torch.tensor([2.0, -1.0], requires_grad=True)
    both = Trained({**trained.parameters, "head": extra}, {"head": torch.tensor([1.0, 1.0])}, trained.lora)
    torch.testing.assert_close(l1_norm(both, origin="init", reduction="sum"), materialised(trained) + 3)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="full finetuning"):
        l1_norm(adapted(), origin="zero")
    with pytest.raises(ValueError, match="w: its value at the start was not kept"):
        l1_norm(Trained({"w": torch.ones(2)}), origin="init")
    with pytest.raises(ValueError, match="trainable weights"):
        l1_norm(Trained({}), origin="zero")


def test_sparsity_takes_zero_in_full_finetuning_and_the_change_with_lora():
    method = build_method("sparsity", {"lambda": 2.0})
    assert method.penalty(full(), STEP)["sparsity"].item() == pytest.approx(2 * 8 / 5)
    torch.testing.assert_close(method.penalty(adapted(), STEP)["sparsity"], 2 * materialised(adapted()) / 59)
    assert build_method("sparsity", {"from": "init"}).penalty(full(), STEP)["sparsity"].item() == pytest.approx(1.1)


def test_sparsity_from_zero_with_lora_is_an_error_before_training():
    def chosen(rank, origin):
        options = {"sparsity": {"from": origin}}
        return choose_method(ForgetSettings(forget_loss="sparsity", method_args=options, LoRA=LoraSettings(r=rank)))

    assert chosen(0, "zero").forbids_lora and chosen(8, None).forbids_lora is None
    with pytest.raises(ValueError, match="method_args.sparsity.from=init"):
        chosen(8, "zero")


def test_start_values_are_asked_for_only_where_needed():
    assert build_method("sparsity", {"from": "init"}).needs_initial
    assert not build_method("sparsity").needs_initial
    assert with_l1(build_method("npo"), 0.1, "init").needs_initial
    assert not with_l1(build_method("npo"), 0.1, "zero").needs_initial
    assert with_l1(build_method("sparsity", {"from": "init"}), 0.1, "zero").needs_initial


def test_decay_is_linear_to_zero():
    method = build_method("sparsity", {"decay": True, "reduction": "sum"})
    values = [method.penalty(full(), StepInfo(i, 4, 0, 1))["sparsity"].item() for i in range(4)]
    assert values == pytest.approx([8.0, 6.0, 4.0, 2.0])


def test_l1_goes_on_any_method_and_changes_nothing_else():
    inner = build_method("scrub", {"schedule": "alternating"})
    method = with_l1(inner, 0.5, "zero")
    assert (method.student_views, method.teacher_views, method.hidden) == (
        inner.student_views, inner.teacher_views, inner.hidden,
    )  # fmt: skip
    assert method.passes(0) == ("forget", "retain") and not defines(method, "finalize")
    assert method.penalty(full(), STEP)["l1"].item() == pytest.approx(0.5 * 8 / 5)
    assert defines(with_l1(build_method("SKU"), 0.5, "init"), "finalize")
    assert with_l1(build_method("dpo", {"reference_path": "x"}), 0.5, "init").reference_path == "x"
    assert with_l1(inner, 0.0, "zero") is inner


def test_l1_adds_to_a_penalty_the_method_already_has():
    parts = with_l1(build_method("sparsity"), 0.5, "zero").penalty(full(), STEP)
    assert {n: v.item() for n, v in parts.items()} == pytest.approx({"sparsity": 1.6, "l1": 0.8})


def test_published_norm_keys():
    check_norms(0.0, 0.0, "zero", True)  # the published defaults
    check_norms(0.1, 0.0, "init", True)
    check_norms(0.1, 0.0, "zero", False)
    with pytest.raises(ValueError, match="no gradient.*l1_lambda"):
        check_norms(0.0, 0.1, "zero", False)
    with pytest.raises(ValueError, match="l_norm_from=init"):
        check_norms(0.1, 0.0, "zero", True)
    with pytest.raises(ValueError, match="l1_lambda"):
        check_norms(-0.1, 0.0, "init", False)
    with pytest.raises(ValueError, match="zero or init"):
        check_norms(0.1, 0.0, "start", False)
    assert "l_norm_from=init" in with_l1(build_method("npo"), 0.1, "zero").forbids_lora
    assert with_l1(build_method("npo"), 0.1, "init").forbids_lora is None
