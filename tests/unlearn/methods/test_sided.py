"""The methods on the sided step, with sides made up by hand: no model, no trainer."""

import pytest
import torch

from unlearn.hooks import Sides
from unlearn.method import StepInfo
from unlearn.registry import build_method

STEP = StepInfo(0, 10, 0, 2)


def sides_of(forget, retain, **more):
    """Sides of tensors given as lists, by parameter."""
    return Sides(*({name: torch.tensor(values) for name, values in side.items()} for side in (forget, retain)), **more)


# ---- project --------------------------------------------------------------------------------------------------------

FORGET, RETAIN = {"w": [1.0, -2.0, 3.0]}, {"w": [-2.0, 1.0, 0.0]}


def test_project_by_hand():
    gradient, memory = build_method("project").combine(sides_of(FORGET, RETAIN), {}, STEP)
    torch.testing.assert_close(gradient["w"], torch.tensor([-0.6, -1.2, 3.0]))  # dot -4, <m, m> 5
    assert memory["m/w"].tolist() == [-2, 1, 0]
    assert float(gradient["w"] @ memory["m/w"]) == pytest.approx(0, abs=1e-6)
    with_retain = build_method("project", {"retain_weight": 0.5}).combine(sides_of(FORGET, RETAIN), {}, STEP)[0]
    torch.testing.assert_close(with_retain["w"], torch.tensor([-1.6, -0.7, 3.0]))


def test_what_agrees_and_what_is_nothing_is_left_alone():
    agreeing = {"w": [2.0, 0.0, 1.0]}
    gradient, _ = build_method("project").combine(sides_of(FORGET, agreeing), {}, STEP)
    assert gradient["w"].tolist() == FORGET["w"]
    gradient, memory = build_method("project").combine(sides_of(FORGET, {"w": [0.0, 0.0, 0.0]}), {}, STEP)
    assert gradient["w"].tolist() == FORGET["w"] and memory["m/w"].tolist() == [0, 0, 0]


def test_project_smooths_the_retain_gradient():
    method = build_method("project", {"gamma": 0.25})
    memory = {"m/w": torch.tensor([4.0, 0.0, 0.0])}
    gradient, memory = method.combine(sides_of({"w": [-1.0, 1.0, 0.0]}, {"w": [0.0, 4.0, 0.0]}), memory, STEP)
    assert memory["m/w"].tolist() == [3, 1, 0]  # a quarter of the new, three quarters of the old
    torch.testing.assert_close(gradient["w"], torch.tensor([-0.4, 1.2, 0.0]))  # dot -2 of 10


def test_a_scope_of_tensors_projects_each_by_itself():
    forget, retain = {"a": [1.0, 0.0], "b": [0.0, -1.0]}, {"a": [2.0, 1.0], "b": [0.0, 1.0]}
    whole = build_method("project").combine(sides_of(forget, retain), {}, STEP)[0]
    assert {name: tensor.tolist() for name, tensor in whole.items()} == forget  # together they agree: dot 2 - 1
    single = build_method("project", {"scope": "tensor"}).combine(sides_of(forget, retain), {}, STEP)[0]
    assert single["a"].tolist() == forget["a"] and single["b"].tolist() == [0, 0]


def test_pieces_are_added_up_before_the_projection():
    """Two processes with a half each: the product is that of the whole, not of a half."""
    left = sides_of({"w": [1.0]}, {"w": [2.0]}, total=lambda number: number + {2.0: -3.0, 4.0: 1.0}[float(number)])
    gradient, _ = build_method("project").combine(left, {}, STEP)
    torch.testing.assert_close(gradient["w"], torch.tensor([1.0 + 0.2 * 2.0]))  # of (1, -3) on (2, 1): dot -1, square 5
