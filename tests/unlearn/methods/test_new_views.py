"""The losses on views of their own: by hand, in the limits, and with a view left out."""

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
     ("jensun", "retain", "retain"), ("altpo", "retain", "retain"), ("eco_ft", "corrupted", "forget"),
     ("eco_ft", "retain", "retain"), ("pava", "forget", "forget"), ("pava", "anchor", "anchor")],
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
     ("jensun", {"forget_weight": -1}), ("jensun", {"retain_weight": -0.5}),
     ("altpo", {"beta": 0}), ("altpo", {"K": 0}), ("altpo", {"retain_weight": -1}), ("eco_ft", {"beta": -1}),
     ("pava", {"weight": -1}), ("pava", {"beta": 0}), ("pava", {"questions": 3})],
)  # fmt: skip
def test_options_out_of_range_are_refused(name, options):
    with pytest.raises(ValueError, match=f"method_args.{name}"):
        build_method(name, options)


def test_what_is_declared_follows_the_options():
    vgid, jensun = build_method("vgid", {"prefix": " Be brief. "}), build_method("jensun", {"retain_weight": 0.0})
    assert [(v.name, v.text) for v in vgid.teacher_views] == [("noised", "Be brief."), ("retain", "")]
    assert [(v.name, v.text) for v in jensun.student_views] == [("relabelled", "No idea")] and not jensun.teacher_views


def sums(*values):
    return Scored.from_logps(torch.tensor(values), torch.ones(len(values), dtype=torch.long))


def test_altpo_by_hand():
    # p of the true answers .5 * .25 and .8, of the teacher .25 * .25 and .8
    student = {"alternate": sums(-3.0, -2.0), "forget": sums(math.log(0.125), math.log(0.8))}
    teacher = {"alternate": sums(-4.0, -2.0), "forget": sums(math.log(0.0625), math.log(0.8))}
    method = build_method("altpo", {"retain_weight": 0.0})
    assert method.loss(student, teacher)["forget"].item() == pytest.approx(13.710694, abs=1e-5)
    assert method.loss(student, student)["forget"].item() == pytest.approx(20 * math.log(2), abs=1e-5)  # 13.862944


def test_gradient_of_altpo_in_the_logits():
    """Up for every alternate answer, down for every true one, by the sigmoid of the margin."""
    p = {"alternate": [[[0.5, 0.5]], [[0.25, 0.75]]], "forget": [[[0.8, 0.2]], [[0.5, 0.5]]]}
    rows = {name: from_probabilities(values, [[0], [0]]) for name, values in p.items()}
    student = {name: Scored(view.logits.requires_grad_(), view.labels) for name, view in rows.items()}
    teacher = {name: sums(-1.0, -1.0) for name in p}
    loss = build_method("altpo", {"beta": 0.5, "retain_weight": 0.0}).loss(student, teacher)["forget"]
    gradients = dict(zip(p, torch.autograd.grad(loss, [student[name].logits for name in p]), strict=True))
    for row in range(2):
        margin = math.log(p["alternate"][row][0][0]) - math.log(p["forget"][row][0][0])
        slope = 2 / (1 + math.exp(0.5 * margin)) / 2  # (2 / beta) * beta * sigmoid(-beta * margin), a mean of 2 rows
        for name, sign in (("alternate", -1), ("forget", 1)):
            rest = 1 - p[name][row][0][0]
            expected = torch.tensor([sign * slope * rest, -sign * slope * rest])
            torch.testing.assert_close(gradients[name][row, 0], expected)


def test_what_written_methods_declare():
    altpo, pava = build_method("altpo", {"K": 3}), build_method("pava", {"questions": "bank.txt"})
    assert [(v.name, v.written) for v in altpo.student_views] == [("alternate", 3), ("forget", 1), ("retain", 1)]
    assert [(v.name, v.text) for v in pava.student_views] == [("forget", ""), ("anchor", "bank.txt")]
    assert altpo.teacher_sums_only and pava.teacher_sums_only and pava.mlps_only and not altpo.mlps_only
    assert build_method("eco_ft", loss_beta=0.3).beta == 0.3
