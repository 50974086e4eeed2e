"""Divergences against arithmetic by hand: value, direction, masking."""

import math

import pytest
import torch

from unlearn.divergences import entropy, kl_divergence, masked_mean, teacher_kl
from unlearn.scoring import IGNORE_INDEX, Scored

P, Q = [0.5, 0.5], [0.9, 0.1]
KL_P_Q = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)  # .5108
KL_Q_P = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)  # .3681


def test_kl_is_of_the_first_against_the_second():
    p, q = torch.tensor([[P]]).log(), torch.tensor([[Q]]).log()
    mask = torch.tensor([[True]])
    torch.testing.assert_close(kl_divergence(p, q, mask), torch.tensor(KL_P_Q))
    torch.testing.assert_close(kl_divergence(q, p, mask), torch.tensor(KL_Q_P))


def test_kl_is_the_mean_over_the_mask_of_uneven_rows():
    # Row 0 scores two positions (p against q, p against p), row 1 one (q against p).
    p = torch.tensor([[P, P, Q], [Q, Q, P]]).log()
    q = torch.tensor([[Q, P, P], [P, P, Q]]).log()
    mask = torch.tensor([[True, True, False], [True, False, False]])
    torch.testing.assert_close(kl_divergence(p, q, mask), torch.tensor((KL_P_Q + 0 + KL_Q_P) / 3))


def test_kl_of_equals_is_zero_with_zero_gradient():
    logits = torch.randn(2, 3, 11)
    student = logits.clone().requires_grad_()
    value = kl_divergence(logits, student, torch.ones(2, 3, dtype=torch.bool))
    value.backward()
    assert abs(value.item()) < 1e-6 and student.grad.abs().max() < 1e-7


def test_kl_gradient_is_the_difference_of_probabilities():
    p, q = torch.randn(2, 2, 5), torch.randn(2, 2, 5, requires_grad=True)
    kl_divergence(p, q, torch.ones(2, 2, dtype=torch.bool)).backward()
    torch.testing.assert_close(q.grad, (q.detach().softmax(-1) - p.softmax(-1)) / 4)


def test_entropy_by_hand_and_without_nan_at_underflow():
    logits = torch.tensor([[P, Q, [1.0, 0.0]]]).log().nan_to_num(neginf=-1e4)
    mask = torch.tensor([[True, True, True]])
    by_hand = (math.log(2) - 0.9 * math.log(0.9) - 0.1 * math.log(0.1) + 0) / 3
    torch.testing.assert_close(entropy(logits, mask), torch.tensor(by_hand))
    logits.requires_grad_()
    entropy(logits, mask).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("function", [lambda x, m: kl_divergence(torch.zeros(1, 2, 3), x, m), entropy])
def test_nan_outside_the_mask_changes_nothing(function):
    clean = torch.tensor([[[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]])
    poisoned = clean.clone()
    poisoned[0, 1] = math.nan
    poisoned.requires_grad_()
    mask = torch.tensor([[True, False]])
    value = function(poisoned, mask)
    torch.testing.assert_close(value, function(clean, mask))
    value.backward()
    assert torch.isfinite(poisoned.grad).all() and (poisoned.grad[0, 1] == 0).all() and (poisoned.grad[0, 0] != 0).any()


def test_masked_mean():
    values = torch.tensor([[1.0, math.nan], [3.0, 8.0]], dtype=torch.bfloat16)
    result = masked_mean(values, torch.tensor([[True, False], [True, True]]))
    assert result.item() == 4.0 and result.dtype == torch.float32


def scored(probabilities, labels) -> Scored:
    return Scored(torch.tensor(probabilities).log(), torch.tensor(labels))


def test_teacher_kl_matches_answers_across_different_padding():
    I = IGNORE_INDEX  # noqa: E741
    teacher = scored([[Q, P], [Q, Q]], [[I, 0], [1, 0]])
    student = scored([[Q, Q, P], [P, P, Q]], [[0, I, I], [I, 1, 0]])
    # row 0: P against Q; row 1: Q against P, Q against Q
    torch.testing.assert_close(teacher_kl(teacher, student), torch.tensor((KL_P_Q + KL_Q_P) / 3))


def test_teacher_kl_gives_no_gradient_to_the_teacher():
    labels = torch.tensor([[0, 1]])
    t, s = torch.randn(1, 2, 3, requires_grad=True), torch.randn(1, 2, 3, requires_grad=True)
    teacher_kl(Scored(t, labels), Scored(s, labels)).backward()
    assert t.grad is None and s.grad.abs().sum() > 0


def test_teacher_kl_refuses_other_answers():
    student = scored([[P, P]], [[0, 1]])
    with pytest.raises(ValueError, match="different tokens"):
        teacher_kl(scored([[P, P, P]], [[0, 1, 1]]), student)
    with pytest.raises(ValueError, match="different answers"):
        teacher_kl(scored([[P, P]], [[0, 0]]), student)
    with pytest.raises(ValueError, match="cached"):
        teacher_kl(Scored.from_logps(torch.tensor([-1.0]), torch.tensor([2])), student)


@pytest.mark.parametrize(
    "call",
    [
        lambda: kl_divergence(torch.randn(1, 2, 3), torch.randn(1, 2, 4), torch.ones(1, 2) > 0),
        lambda: kl_divergence(torch.randn(1, 2, 3), torch.randn(1, 2, 3), torch.ones(2, 1) > 0),
        lambda: entropy(torch.randn(1, 2, 3), torch.ones(1, 3) > 0),
        lambda: masked_mean(torch.randn(2), torch.ones(1) > 0),
        lambda: entropy(torch.randn(1, 2, 3), torch.zeros(1, 2) > 0),
        lambda: kl_divergence(torch.randn(1, 2, 3), torch.randn(1, 2, 3), torch.zeros(1, 2) > 0),
    ],
)
def test_wrong_shapes_and_empty_masks_are_refused(call):
    with pytest.raises(ValueError, match="needs|differ|no scored position"):
        call()
