"""RMU: the control vector, the loss by hand, presets, declared needs."""

import math

import pytest
import torch

from unlearn.method import HiddenSpec
from unlearn.methods.rmu import control_vector, rmu_loss
from unlearn.registry import build_method
from unlearn.scoring import Scored

MASK = torch.tensor([[True, True], [False, True]])
HIDDEN = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[math.nan, math.nan], [3.0, 1.0]]])


def test_loss_against_one_vector_by_hand():
    # target (1, 1): squares 1, (1 + 1), (4 + 0), each / 2, over three tokens
    torch.testing.assert_close(rmu_loss(HIDDEN, torch.tensor([1.0, 1.0]), MASK), torch.tensor((1 + 2 + 4) / 2 / 3))


def test_loss_against_the_teacher_by_hand():
    target = torch.tensor([[[1.0, 2.0], [0.0, 2.0]], [[math.nan, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(rmu_loss(HIDDEN, target, MASK), torch.tensor((4 + 0 + 10) / 2 / 3))


def test_one_unit_vector_of_positive_entries_fixed_by_its_seed():
    u = control_vector(64, scale=1.0, seed=0)
    assert u.shape == (64,) and (u >= 0).all()
    torch.testing.assert_close(u.norm(), torch.tensor(1.0))
    torch.manual_seed(123)  # the global generator has no say
    torch.testing.assert_close(control_vector(64, scale=300.0, seed=0), 300 * u)
    assert not torch.allclose(control_vector(64, scale=1.0, seed=1), u)


def test_every_token_of_every_row_is_steered_to_the_same_place():
    """The published code drew a vector per row and normalised over the batch; here c u is the optimum of each token."""
    method = build_method("RMU", {"preset": "sane"})
    hidden = control_vector(2, scale=20.0, seed=0).repeat(2, 2, 1).requires_grad_()
    views = {n: Scored(torch.zeros(2, 1, 3), torch.tensor([[0], [1]]), hidden, MASK) for n in ("forget", "retain")}
    parts = method.loss(views, views)
    parts["forget"].backward()
    assert parts["forget"].item() == 0 and (hidden.grad == 0).all()


@pytest.mark.parametrize(
    ("options", "c", "alpha"),
    [({}, 300, 1), ({"preset": "sane"}, 20, 100), ({"preset": "sane", "c": 6.5}, 6.5, 100), ({"alpha": 0}, 300, 0)],
)
def test_presets_give_way_to_explicit_options(options, c, alpha):
    method = build_method("RMU", options)
    assert (method._length, method._retain_weight) == (c, alpha)


def test_declared_needs():
    method = build_method("RMU", {"layer": 3, "token_scope": "answer"})
    assert method.hidden == HiddenSpec(3, "answer") and [v.name for v in method.teacher_views] == ["retain"]
    assert build_method("RMU").hidden == HiddenSpec(None, "all")
    assert build_method("RMU", {"layer": "last"}).hidden == HiddenSpec("last", "all")


@pytest.mark.parametrize("target", [torch.zeros(3), torch.zeros(2, 1, 2), torch.zeros(1, 2)])
def test_targets_that_would_broadcast_are_refused(target):
    with pytest.raises(ValueError, match="rmu_loss needs"):
        rmu_loss(HIDDEN, target, MASK)


def test_an_empty_mask_is_refused():
    with pytest.raises(ValueError, match="no token"):
        rmu_loss(HIDDEN, torch.zeros(2), MASK & False)
