"""The methods on the sided step, with sides made up by hand: no model, no trainer."""

import math
from dataclasses import dataclass

import pytest
import torch

from unlearn.hooks import Sides
from unlearn.method import StepInfo
from unlearn.methods.mmunlearner import saliency_mask
from unlearn.methods.pdu import flatness_loss
from unlearn.methods.salun import largest
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


# ---- a probe of rows made up by hand --------------------------------------------------------------------------------


@dataclass
class Row:
    gradient: dict[str, torch.Tensor]
    image: bool = True
    loss: float = 0.0


class Rows:
    """A probe: rows by view, with their gradients and losses."""

    def __init__(self, **views):
        self.views = views

    def batches(self, view, share=True):
        return iter(self.views[view])

    def gradients(self, row):
        return {name: torch.tensor(values) for name, values in row.gradient.items()}

    def cross_entropy(self, row):
        return torch.tensor(row.loss)

    def sum(self, tensors):
        return dict(tensors)


def row(image=True, loss=0.0, **gradient):
    return Row(gradient, image, loss)


# ---- salun ----------------------------------------------------------------------------------------------------------


def test_salun_keeps_one_ranking_over_the_model():
    """Sums are taken before their size: what two rows pull apart counts for nothing."""
    probe = Rows(forget=[row(b=[1.0, -4.0, 3.0], a=[0.5]), row(b=[1.0, -4.0, -3.0], a=[-2.5])])
    kept = build_method("salun", {"k": 0.5}).prepare(probe)  # sizes: a 2; b 2, 8, 0
    assert kept["keep/a"].tolist() == [True] and kept["keep/b"].tolist() == [False, True, False]  # the earlier name
    kept = build_method("salun", {"k": 0.75}).prepare(probe)
    assert kept["keep/a"].tolist() == [True] and kept["keep/b"].tolist() == [True, True, False]
    everything = build_method("salun", {"k": 1.0}).prepare(probe)
    assert all(mask.all() for mask in everything.values())


def test_of_equal_entries_the_lower_index_is_kept():
    masks = largest({"w": torch.tensor([[1.0, -2.0], [2.0, 2.0]])}, 0.5)
    assert masks["w"].tolist() == [[False, True], [True, False]]
    assert not largest({"w": torch.ones(3)}, 0.1)["w"].any()


def test_salun_with_lora_ranks_b_and_freezes_a():
    gradient = {"x.lora_A.default.weight": [9.0, 9.0], "x.lora_B.default.weight": [1.0, 2.0]}
    kept = build_method("salun").prepare(Rows(forget=[Row(gradient)]))
    assert kept["keep/x.lora_A.default.weight"].tolist() == [False, False]
    assert kept["keep/x.lora_B.default.weight"].tolist() == [False, True]


# ---- mmunlearner ----------------------------------------------------------------------------------------------------


def test_the_mask_by_hand():
    assert saliency_mask(torch.tensor([4.0, 1, 0, 9]), torch.tensor([1.0, 4, 0, 9]), b=1).tolist() == [1, 0, 1, 1]


def test_mmunlearner_measures_picture_rows_of_f_and_a_row_counts_where_it_reaches():
    forget = [row(w=[2.0, 1.0], v=[3.0]), row(w=[2.0, 1.0], v=[3.0]), row(image=False, w=[0.0, 9.0])]
    retain = [row(w=[1.0, 2.0], v=[4.0]), row(image=False, w=[1.0, 2.0])]
    masks = build_method("mmunlearner").prepare(Rows(forget=forget, retain=retain))
    assert masks["mask/w"].tolist() == [True, False]
    assert masks["mask/v"].tolist() == [False], "9 < 16: the text row is none of v's rows, or its mean would be 8"
    paper = build_method("mmunlearner", {"protect": "paper", "b": 0.5}).prepare(Rows(forget=forget, retain=retain))
    assert paper["mask/w"].tolist() == [True, False] and paper["mask/v"].tolist() == [True]
    texts = build_method("mmunlearner").prepare(Rows(forget=[forget[2]], retain=[retain[1]]))
    assert texts == {"mask/w": texts["mask/w"]} and texts["mask/w"].tolist() == [False, True]


def test_mmunlearner_masks_the_forget_gradient_alone():
    sides = sides_of({"w": [1.0, 2.0]}, {"w": [10.0, 20.0]}, measured={"mask/w": torch.tensor([True, False])})
    assert build_method("mmunlearner").combine(sides, {}, STEP)[0]["w"].tolist() == [11, 20]


# ---- pdu ------------------------------------------------------------------------------------------------------------


def test_flatness_by_hand_and_its_gradient():
    logits = torch.tensor([[[3.0, 0.0, 0.0], [math.nan] * 3]], requires_grad=True)
    loss = flatness_loss(logits, torch.tensor([[True, False]]))
    assert loss.item() == pytest.approx(4)
    loss.backward()
    torch.testing.assert_close(logits.grad[0, 0], 2 * 2 * torch.tensor([2 / 3, -1 / 3, -1 / 3]))
    assert (logits.grad[0, 1] == 0).all()


def test_lambda_by_hand():
    method = build_method("pdu", {"warmup": 1})
    sides = sides_of({"w": [1.0]}, {"w": [2.0]}, values={"forget": torch.tensor(9.0), "retain": torch.tensor(0.1)})
    gradient, memory = method.combine(sides, {}, STEP)
    assert gradient["w"].tolist() == [201] and memory["lambda"].item() == 100, "it waits for the warmup"
    later = StepInfo(5, 10, 1, 2)
    gradient, memory = method.combine(sides, memory, later)
    assert gradient["w"].tolist() == [201] and memory["lambda"].item() == pytest.approx(99)
    gradient, memory = method.combine(sides, {"lambda": torch.tensor(0.4)}, later)
    assert gradient["w"].item() == pytest.approx(1.8) and memory["lambda"].item() == 0


def test_eps_can_be_the_original_models():
    method = build_method("pdu", {"eps": None, "warmup": 0})
    measured = method.prepare(Rows(retain=[row(loss=0.1), row(loss=0.3)]))
    assert measured["eps"].item() == pytest.approx(0.22)
    sides = sides_of({"w": [1.0]}, {"w": [2.0]}, values={"retain": torch.tensor(0.42)}, measured=measured)
    assert method.combine(sides, {}, STEP)[1]["lambda"].item() == pytest.approx(101)
    assert build_method("pdu").prepare(Rows()) == {}


# ---- sam ------------------------------------------------------------------------------------------------------------


def test_sam_by_hand():
    """On x^2 / 2 at x = 2, rho .1, the gradient is that of 2.1; the norm is over all weights."""
    eps = build_method("sam", {"rho": 0.1}).perturb(sides_of({"x": [2.0]}, {"x": [0.0]}))
    assert 2 + eps["x"].item() == pytest.approx(2.1)
    eps = build_method("sam", {"rho": 1}).perturb(sides_of({"x": [3.0], "y": [4.0]}, {"x": [0.0], "y": [0.0]}))
    assert (eps["x"].item(), eps["y"].item()) == pytest.approx((0.6, 0.8))
    assert build_method("sam").perturb(sides_of({"x": [0.0]}, {"x": [1.0]}))["x"].tolist() == [0]


# ---- dual -----------------------------------------------------------------------------------------------------------


def test_dual_is_two_adamws_in_turn():
    """Against torch's AdamW, one per side on the same weight; the method's direction through SGD."""
    method, generator = build_method("dual", {"forget": 1, "retain": 2}), torch.Generator().manual_seed(0)
    theirs = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    ours = theirs.detach().clone()
    adams = {side: torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.01) for side in ("forget", "retain")}
    memory, order = {}, []
    for count in range(9):
        gradient = torch.randn(2, generator=generator)
        side = method.side_of(StepInfo(count, 9, 0, 1))
        order.append(side[0])
        theirs.grad = gradient.clone()
        adams[side].step()
        own, none = {"w": gradient}, {"w": torch.zeros(2)}
        sides = Sides(own, none) if side == "forget" else Sides(none, own)
        direction, memory = method.combine(sides, memory, StepInfo(count, 9, 0, 1))
        ours = ours - 0.1 * (direction["w"] + 0.01 * ours)
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-6)
    assert "".join(order) == "frrfrrfrr" and method.is_update
    assert memory["forget.steps"].item() == 3 and memory["retain.steps"].item() == 6
