"""SKU's second stage: subtracting the task vector, for whole weights and for LoRA factors."""

import pytest
import torch

from unlearn.method import defines
from unlearn.methods.sku import negate_task_vector
from unlearn.registry import build_method


def test_the_change_is_subtracted_by_hand():
    original = {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor([0.5]), "untrained": torch.tensor([9.0])}
    finetuned = {"w": torch.tensor([1.5, 1.0]), "b": torch.tensor([0.5])}
    result = negate_task_vector(original, finetuned, scale=1.0)
    assert {k: v.tolist() for k, v in result.items()} == {"w": [0.5, 3.0], "b": [0.5]}
    assert negate_task_vector(original, finetuned, scale=0.5)["w"].tolist() == [0.75, 2.5]


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_an_unchanged_model_stays_as_it_is(scale):
    state = {
        "w": torch.randn(3, 2),
        "x.lora_A.default.weight": torch.randn(2, 4),
        "x.lora_B.default.weight": torch.zeros(3, 2),
    }
    result = negate_task_vector(state, state, scale=scale)
    assert all(torch.equal(result[name], state[name]) for name in state)


def test_with_lora_the_product_is_negated_not_the_factors():
    torch.manual_seed(0)
    a, b, base = torch.randn(2, 5), torch.randn(3, 2), torch.randn(3, 5)
    names = "m.q_proj.lora_A.default.weight", "m.q_proj.lora_B.default.weight"
    result = negate_task_vector({}, dict(zip(names, (a, b), strict=True)), scale=1.5)
    merged = base + 2.0 * result[names[1]] @ result[names[0]]  # scaling 2
    torch.testing.assert_close(merged, base - 1.5 * (2.0 * b @ a))
    # and equals the full-weight form on the merged model
    full = negate_task_vector({"w": base}, {"w": base + 2.0 * b @ a}, scale=1.5)["w"]
    torch.testing.assert_close(merged, full)


def test_arithmetic_is_done_in_fp32_and_types_are_kept():
    # In bf16, 1.0078125 - (1.015625 - 1.0078125) = 1.0 exactly; the type survives, also where the original is fp32
    original = {"w": torch.tensor([1.0078125]), "n": torch.tensor([7])}
    finetuned = {"w": torch.tensor([1.015625], dtype=torch.bfloat16), "n": torch.tensor([12])}
    result = negate_task_vector(original, finetuned, scale=1.0)
    assert result["w"].dtype == torch.bfloat16 and result["w"].item() == 1.0
    assert result["n"].tolist() == [7]


def test_the_inputs_are_left_alone():
    original, finetuned = {"w": torch.ones(2)}, {"w": torch.zeros(2)}
    negate_task_vector(original, finetuned, scale=1.0)["w"].add_(5)
    assert original["w"].tolist() == [1, 1] and finetuned["w"].tolist() == [0, 0]


def test_models_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"w: \(2,\) after training, original none"):
        negate_task_vector({}, {"w": torch.zeros(2)}, scale=1.0)
    with pytest.raises(ValueError, match=r"original \(3,\)"):
        negate_task_vector({"w": torch.zeros(3)}, {"w": torch.zeros(2)}, scale=1.0)


def test_the_method_finalizes_with_its_scale():
    method = build_method("SKU", {"s": 2.0})
    assert defines(method, "finalize")
    assert method.finalize({"w": torch.zeros(1)}, {"w": torch.ones(1)})["w"].item() == -2.0


def test_random_answers_come_from_other_forget_items():
    view = build_method("SKU", {"k": 4}).student_views[1]
    assert (view.name, view.k, view.source) == ("random", 4, "forget")
