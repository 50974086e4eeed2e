"""The losses on the forget set alone: the published arithmetic by hand, and gradients in the logits from the formulas.

A weight that should carry no gradient, and does, shows only in the gradients.
"""

import math

import pytest
import torch
from batches import from_probabilities, pack_all, require_grad, total, views_of

from unlearn.methods.ceu import ceu_loss
from unlearn.methods.flat import mean_probability
from unlearn.methods.rmu import rmu_loss
from unlearn.methods.simnpo import simnpo_loss
from unlearn.registry import build_method
from unlearn.scoring import IGNORE_INDEX, Scored

I = IGNORE_INDEX  # noqa: E741
LABELS = [[0, 0], [0, I]]


def rows(first, second, third, labels=LABELS) -> Scored:
    """Two rows over two tokens: p(label) = first, second in row 0 and third in row 1."""
    pair = [[first, 1 - first], [second, 1 - second]]
    return from_probabilities([pair, [[third, 1 - third], [0.5, 0.5]]], labels)


STUDENT, TEACHER = rows(0.5, 0.25, 0.8), rows(0.25, 0.25, 0.8)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("simnpo", {"beta": 2.0}, (math.log(1.125) + math.log(1.64)) / 2),  # = .306240
        (
            "simnpo",
            {"beta": 2.0, "gamma": 0.5},
            (math.log(1 + 0.125 * math.e**0.5) + math.log(1 + 0.64 * math.e**0.5)) / 2,
        ),
        ("wga", {"beta": 1.0}, -0.290554),
        ("tnpo", {"beta": 4.0}, -0.971395),  # weights 1.882353, 1, 1
        ("satimp", {"beta1": 1.0, "beta2": 1.0}, -0.156307),
        ("ceu", {"skip": 0}, 0.863422),
        ("ceu", {"skip": 1}, 0.287682),
        ("undial", {"beta": math.log(3)}, 0.635987),  # targets .1, .1, 4/7
    ],
)
def test_value_by_hand(name, options, expected):
    parts = build_method(name, options).loss({"forget": STUDENT}, {"forget": TEACHER})
    assert set(parts) == {"forget"} and parts["forget"].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("divergence", "expected"), [("KL", 0.526996), ("TV", 0.181338), ("JS", 0.269585), ("Pearson", 0.535078)]
)
def test_flat_by_hand(divergence, expected):
    refusals = rows(0.1, 0.1, 0.2)
    assert mean_probability(refusals).tolist() == pytest.approx([0.1, 0.2])
    parts = build_method("flat", {"divergence": divergence}).loss({"forget": STUDENT, "idk": refusals}, {})
    assert total(parts).item() == pytest.approx(expected, abs=1e-6)


def test_rmu_with_a_target_of_the_tokens_own_length_by_hand():
    # h 0, ||h_o|| = 5, u (0, 1), scale 1: ((0 - 0)^2 + (0 - 5)^2) / 2
    value = rmu_loss(torch.zeros(1, 1, 2), 5 * torch.tensor([[[0.0, 1.0]]]), torch.ones(1, 1, dtype=torch.bool))
    assert value.item() == 12.5


def test_simnpo_takes_the_mean_over_tokens_within_a_row():
    # the same nats per token over one token and over four
    values = simnpo_loss(torch.tensor([-0.5, -2.0]), torch.tensor([1, 4]), beta=3.0)
    assert values[0].item() == pytest.approx(values[1].item())


def logits_gradient(name, options, student=STUDENT):
    wanting = Scored(student.logits.clone().requires_grad_(), student.labels)
    loss = total(build_method(name, options).loss({"forget": wanting}, {"forget": TEACHER}))
    (gradient,) = torch.autograd.grad(loss, wanting.logits)
    return gradient[wanting.mask]


P = [0.5, 0.25, 0.8]  # of the three scored tokens; N = 3


def weighted(weights):
    """dL/dz = w (onehot - q) / N: the weight carries no gradient of its own."""
    return torch.tensor([[w * (1 - p) / 3, -w * (1 - p) / 3] for w, p in zip(weights, P, strict=True)])


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("wga", {"beta": 2.0}, weighted([p**2 for p in P])),
        ("tnpo", {"beta": 4.0}, weighted([2 * 16 / 17, 1, 1])),
        ("satimp", {"beta1": 2.0, "beta2": 0.5}, weighted([p**2 * (1 - p) ** 0.5 for p in P])),
        ("ceu", {"skip": 0}, torch.tensor([[p / 3, -p / 3] for p in P])),
        (
            "undial",
            {"beta": math.log(3)},
            torch.tensor([[(p - t) / 3, (t - p) / 3] for p, t in zip(P, [0.1, 0.1, 4 / 7], strict=True)]),
        ),
    ],
)
def test_gradient_in_the_logits_by_hand(name, options, expected):
    torch.testing.assert_close(logits_gradient(name, options), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "options"), [("wga", {"beta": 0.0}), ("tnpo", {}), ("satimp", {"beta1": 0.0, "beta2": 0.0})]
)
def test_with_weight_one_it_is_gradient_ascent(name, options):
    student, _ = views_of(build_method(name, options))
    ascent = build_method("grad_ascent").loss(pack_all(student), {})["forget"]
    value = build_method(name, options).loss(pack_all(student), pack_all(student))["forget"]
    torch.testing.assert_close(value, ascent)


def test_undial_without_a_penalty_is_self_distillation():
    student, leaves = require_grad(pack_all(views_of(build_method("undial"))[0]))
    loss = build_method("undial", {"beta": 0.0}).loss(student, pack_all(views_of(build_method("undial"))[0]))["forget"]
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    assert max(g.abs().max().item() for g in gradients if g is not None) < 1e-7 and loss.item() > 0


def test_ceu_with_nothing_left_is_zero_with_a_graph():
    logits = torch.randn(2, 1, 5, requires_grad=True)
    loss = ceu_loss(logits, torch.zeros(2, 1, dtype=torch.long), torch.ones(2, 1, dtype=torch.bool), skip=1)
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and (logits.grad == 0).all()


@pytest.mark.parametrize("name", ["wga", "tnpo", "satimp", "ceu", "undial", "simnpo"])
def test_certain_and_impossible_tokens_give_finite_losses_and_gradients(name):
    sure = Scored(torch.tensor([[[200.0, -200.0], [-200.0, 200.0]]], requires_grad=True), torch.tensor([[0, 0]]))
    loss = total(build_method(name).loss({"forget": sure}, {"forget": sure.detach()}))
    (gradient,) = torch.autograd.grad(loss, sure.logits)
    assert torch.isfinite(loss) and torch.isfinite(gradient).all()


def test_the_task_vector_of_an_untouched_model_returns_the_start():
    start = {"w": torch.tensor([1.0, 2.0]), "x.lora_B": torch.tensor([0.0])}
    moved = {"w": torch.tensor([1.5, 2.0]), "x.lora_B": torch.tensor([0.5])}
    back = build_method("task_vector", {"s": 0.0}).finalize(start, moved)
    assert back["w"].tolist() == [1.0, 2.0] and back["x.lora_B"].tolist() == [0.0]
    away = build_method("task_vector").finalize(start, moved)
    assert away["w"].tolist() == [0.5, 2.0] and away["x.lora_B"].tolist() == [-0.5]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("simnpo", {"beta": 0}),
        ("simnpo", {"gamma": -1}),
        ("undial", {"beta": -1}),
        ("wga", {"beta": -0.1}),
        ("tnpo", {"beta": 0}),
        ("tnpo", {"alpha": -1}),
        ("satimp", {"beta2": -1}),
        ("ceu", {"skip": -1}),
        ("flat", {"divergence": "Neyman"}),
        ("task_vector", {"s": -1}),
        ("wga", {"retain_weight": -1}),
        ("RMU", {"target": "norm", "scale": -1}),
    ],
)
def test_options_out_of_range_are_refused(name, options):
    with pytest.raises(ValueError, match=f"method_args.{name}"):
        build_method(name, options)


def test_the_retain_view_is_declared_only_where_it_is_read():
    def names(options):
        method = build_method("undial", options)
        return [v.name for v in method.student_views], [v.name for v in method.teacher_views]

    assert names({}) == (["forget"], ["forget"])
    assert names({"retain_weight": 1.0}) == (["forget", "retain"], ["forget"])
    assert names({"retain_weight": 1.0, "retain_loss": "KL"}) == (["forget", "retain"], ["forget", "retain"])
    assert build_method("wga", {"retain_weight": 1.0}).teacher_views == ()
