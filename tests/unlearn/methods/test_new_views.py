"""The losses on views of their own (vgid, jensun): by hand, in the limits, and with a view left out."""

import math

import pytest
import torch
from batches import from_probabilities, pack_all, views_of

from unlearn.divergences import teacher_js
from unlearn.methods.jensun import js_to_targets
from unlearn.registry import build_method
from unlearn.scoring import IGNORE_INDEX, Scored


def test_js_to_a_target_by_hand_and_at_both_ends():
    values = js_to_targets(torch.tensor([0.5, 1.0, 1e-30]).log())
    assert values.tolist() == pytest.approx([0.215762, 0.0, math.log(2)], abs=1e-6)


def test_gradient_of_jensun_in_the_logits():
    # vocabulary of two, p(target) = .5, .25 and .8: (p / 2) ln(p / (1 + p)) (onehot - q) / 3
    p = torch.tensor([[0.5, 0.25], [0.8, 0.5]])
    rows = from_probabilities(torch.stack([p, 1 - p], -1).tolist(), [[0, 0], [0, IGNORE_INDEX]])
    wanting = Scored(rows.logits.requires_grad_(), rows.labels)
    loss = build_method("jensun", {"retain_weight": 0.0}).loss({"relabelled": wanting}, {})["forget"]
    (gradient,) = torch.autograd.grad(loss, wanting.logits)
    p = torch.tensor([0.5, 0.25, 0.8])
    slope = p / 2 * (p / (1 + p)).log() * (1 - p) / 3
    torch.testing.assert_close(gradient[wanting.mask], torch.stack([slope, -slope], -1))


def test_a_confident_model_has_a_small_but_finite_gradient():
    """Where the released clamp at 1e-9 has none at all."""
    logits = torch.tensor([[[0.0, 23.0]]], requires_grad=True)  # p(target) = 1e-10
    build_method("jensun", {"retain_weight": 0.0}).loss({"relabelled": Scored(logits, torch.tensor([[0]]))}, {})[
        "forget"
    ].backward()
    assert logits.grad is not None and logits.grad[0, 0, 0] < 0 and torch.isfinite(logits.grad).all()


def test_js_of_two_predictions_by_hand():
    # (1, 0) and (1/2, 1/2): m = (3/4, 1/4)
    sure = Scored(torch.tensor([[[50.0, -50.0]]]), torch.tensor([[0]]))
    even = from_probabilities([[[0.5, 0.5]]], [[0]])
    expected = (math.log(4 / 3) + 0.5 * math.log(2 / 3) + 0.5 * math.log(2)) / 2
    assert teacher_js(sure, even).item() == pytest.approx(expected, abs=1e-6)
    assert teacher_js(even, sure).item() == pytest.approx(expected, abs=1e-6)  # symmetric
    away = Scored(torch.tensor([[[-90.0, 90.0]]]), torch.tensor([[0]]))
    assert teacher_js(sure, away).item() == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "view", "part"),
    [("vgid", "forget", "forget"), ("vgid", "retain", "retain"), ("jensun", "relabelled", "forget"),
     ("jensun", "retain", "retain")],
)  # fmt: skip
def test_parts_of_absent_views_are_absent(name, view, part):
    method = build_method(name)
    student, teacher = (pack_all(views) for views in views_of(method))
    joint = method.loss(student, teacher)
    alone = method.loss({view: student[view]}, teacher)
    assert set(alone) == {part} and torch.equal(alone[part], joint[part])


@pytest.mark.parametrize(
    ("name", "options"),
    [("vgid", {"alpha": -1}), ("vgid", {"beta": -1}), ("vgid", {"prefix": None}), ("jensun", {"text": " "}),
     ("jensun", {"forget_weight": -1}), ("jensun", {"retain_weight": -0.5})],
)  # fmt: skip
def test_options_out_of_range_are_refused(name, options):
    with pytest.raises(ValueError, match=f"method_args.{name}"):
        build_method(name, options)


def test_what_is_declared_follows_the_options():
    vgid, jensun = build_method("vgid", {"prefix": " Be brief. "}), build_method("jensun", {"retain_weight": 0.0})
    assert [(v.name, v.text) for v in vgid.teacher_views] == [("noised", "Be brief."), ("retain", "")]
    assert [(v.name, v.text) for v in jensun.student_views] == [("relabelled", "No idea")] and not jensun.teacher_views
