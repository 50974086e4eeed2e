"""The public functions of DPO and NPO on log-probabilities, by hand."""

import math

import pytest
import torch

from unlearn.methods.dpo import dpo_loss
from unlearn.methods.npo import npo_loss
from unlearn.registry import build_method


def test_dpo_loss_by_hand():
    # margins: (-1 + 2) - (-3 + 1) = 3, (-4 + 4) - (-1 + 1) = 0, (-5 + 3) - (-1 + 2) = -3
    value = dpo_loss(
        torch.tensor([-1.0, -4.0, -5.0]), torch.tensor([-3.0, -1.0, -1.0]),
        torch.tensor([-2.0, -4.0, -3.0]), torch.tensor([-1.0, -1.0, -2.0]), beta=0.5,
    )  # fmt: skip
    expected = [math.log(1 + math.exp(-1.5)), math.log(2), math.log(1 + math.exp(1.5))]
    torch.testing.assert_close(value, torch.tensor(expected))


def test_npo_loss_by_hand():
    # ratios 0, +2, -2 at beta 0.5: (2 / .5) ln(1 + e^(.5 r))
    value = npo_loss(torch.tensor([-3.0, -1.0, -5.0]), torch.tensor([-3.0, -3.0, -3.0]), beta=0.5)
    torch.testing.assert_close(value, torch.tensor([4 * math.log(1 + math.exp(x)) for x in (0.0, 1.0, -1.0)]))


def test_npo_is_finite_where_the_power_form_overflows():
    # (p / p_ref)^beta overflows fp32 beyond e^88; here it is linear: (2 / 1) * 300
    torch.testing.assert_close(
        npo_loss(torch.tensor([-100.0]), torch.tensor([-400.0]), beta=1.0), torch.tensor([600.0])
    )
    assert npo_loss(torch.tensor([-400.0]), torch.tensor([-100.0]), beta=1.0).item() == 0


def test_npo_gradient_fades_once_an_answer_is_forgotten():
    logps = torch.tensor([0.0, -20.0], requires_grad=True)
    npo_loss(logps, torch.zeros(2), beta=1.0).sum().backward()
    assert logps.grad[0] == 1.0 and 0 < logps.grad[1] < 1e-8


@pytest.mark.parametrize(
    "call",
    [
        lambda: dpo_loss(torch.zeros(2), torch.zeros(1), torch.zeros(2), torch.zeros(2), beta=0.1),
        lambda: dpo_loss(*[torch.zeros(2, 1)] * 4, beta=0.1),
        lambda: npo_loss(torch.zeros(2), torch.zeros(1), beta=0.1),
        lambda: npo_loss(torch.zeros(()), torch.zeros(()), beta=0.1),
    ],
)
def test_shapes_that_would_broadcast_are_refused(call):
    with pytest.raises(ValueError, match=r"\[B\] tensors"):
        call()


def test_optional_retain_terms_declare_their_views():
    def names(views):
        return [view.name for view in views]

    assert names(build_method("npo").student_views) == ["forget"]
    assert names(build_method("npo", {"retain_weight": 1}).student_views) == ["forget", "retain"]
    assert names(build_method("npo", {"retain_weight": 1}).teacher_views) == ["forget"]
    kl = build_method("npo", {"retain_weight": 1, "retain_loss": "KL"})
    assert names(kl.teacher_views) == ["forget", "retain"]
    assert names(build_method("npo", {"retain_loss": "KL"}).teacher_views) == ["forget"]
    assert names(build_method("dpo").student_views) == ["idk", "forget"]
    assert names(build_method("dpo", {"retain_weight": 1}).student_views) == ["idk", "forget", "retain"]


def test_dpo_names_another_reference_model():
    assert build_method("dpo").reference_path is None
    assert build_method("dpo", {"reference_path": "models/idk"}).reference_path == "models/idk"
