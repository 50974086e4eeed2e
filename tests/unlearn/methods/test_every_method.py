"""What holds for every method: equality with a slow form, and that padding, order and poison change nothing."""

import pytest
import torch
from batches import NAN, pack_all, reorder, require_grad, total, views_of
from slow_forms import SLOW

from unlearn.hooks import SIDES, side_of_view
from unlearn.method import by_side, defines
from unlearn.registry import build_method, method_names

CASES = pytest.mark.parametrize(
    ("name", "options", "slow"), SLOW, ids=["-".join([n, *(f"{k}={v}" for k, v in o.items())]) for n, o, _ in SLOW]
)


def test_every_registered_method_has_a_slow_form():
    edits = {name for name in method_names() if defines(build_method(name), "edit")}
    assert {name for name, _, _ in SLOW} == set(method_names()) - edits
    assert edits == {"kvw", "manu"}, "an edit has its slow form in test_edits.py"


@CASES
def test_equals_the_slow_form_on_uneven_rows(name, options, slow):
    method = build_method(name, options)
    for seed in range(3):
        student, teacher = views_of(method, batch=2 + seed, student_seed=seed, teacher_seed=seed + 50)
        parts = method.loss(pack_all(student), pack_all(teacher))
        torch.testing.assert_close(
            total(parts).double(), torch.tensor(slow(student, teacher)).double(), rtol=2e-5, atol=1e-5
        )


@CASES
def test_parts_are_named_fp32_scalars(name, options, slow):
    method = build_method(name, options)
    student, teacher = (pack_all(v) for v in views_of(method))
    parts = method.loss(student, teacher)
    sides = by_side(method, parts)
    assert {**sides["forget"], **sides["retain"]} == parts and len(parts) == sum(map(len, sides.values()))
    assert all(p.shape == () and p.dtype == torch.float32 for p in parts.values())


@CASES
def test_each_side_by_itself_gives_its_parts_and_no_others(name, options, slow):
    """What the sided step does: the union over the sides is the joint call, number for number."""
    method = build_method(name, options)
    student, teacher = (pack_all(v) for v in views_of(method))
    joint, union = method.loss(student, teacher), {}
    for side in SIDES:
        own = {n: view for n, view in student.items() if side_of_view(n) == side}
        if own:
            parts = method.loss(own, {n: view for n, view in teacher.items() if side_of_view(n) == side})
            assert by_side(method, parts)[side] == parts, "a part of the other side"
            union |= parts
    assert union.keys() == joint.keys() and all(torch.equal(union[part], joint[part]) for part in joint)


@CASES
def test_padding_and_poison_change_nothing(name, options, slow):
    method = build_method(name, options)
    student, teacher = views_of(method)
    plain, leaves = require_grad(pack_all(student))
    expected = total(method.loss(plain, pack_all(teacher)))
    gradients = [g for g in torch.autograd.grad(expected, leaves, allow_unused=True) if g is not None]
    padded, padded_leaves = require_grad(pack_all(student, left=2, right=3, fill=NAN))
    value = total(method.loss(padded, pack_all(teacher, left=2, right=3, fill=NAN)))
    torch.testing.assert_close(value, expected)
    poisoned = [g for g in torch.autograd.grad(value, padded_leaves, allow_unused=True) if g is not None]
    assert len(poisoned) == len(gradients)
    for clean, other in zip(gradients, poisoned, strict=True):
        assert torch.isfinite(other).all()
        torch.testing.assert_close(other[:, 2:-3], clean)
        assert (other[:, :2] == 0).all() and (other[:, -3:] == 0).all()


@CASES
def test_batch_order_changes_nothing(name, options, slow):
    method = build_method(name, options)
    student, teacher = views_of(method, batch=3)
    expected = total(method.loss(pack_all(student), pack_all(teacher)))
    k = {view.name: view.k for view in (*method.student_views, *method.teacher_views)}
    for views in (student, teacher):
        views.update({n: reorder(rows, [2, 0, 1], k[n]) for n, rows in views.items()})
    torch.testing.assert_close(total(method.loss(pack_all(student), pack_all(teacher))), expected)


@CASES
def test_every_student_view_gets_a_gradient_and_no_teacher_view_does(name, options, slow):
    method = build_method(name, options)
    student, teacher = views_of(method)
    (student, _), (teacher, _) = require_grad(pack_all(student)), require_grad(pack_all(teacher))
    total(method.loss(student, teacher)).backward()
    for view in teacher.values():
        assert view.logits.grad is None and view.hidden.grad is None
    for view, scored in student.items():
        found = [g for g in (scored.logits.grad, scored.hidden.grad) if g is not None]
        assert found and all(g.abs().sum() > 0 for g in found), view


@CASES
def test_bf16_logits_give_the_loss_of_their_fp32_values(name, options, slow):
    method = build_method(name, options)
    student, teacher = (pack_all(v) for v in views_of(method))

    def cast(views, *types):
        def convert(tensor):
            for kind in types:
                tensor = tensor.to(kind)
            return tensor

        return {n: type(s)(convert(s.logits), s.labels, convert(s.hidden), s.hidden_mask) for n, s in views.items()}

    low = total(method.loss(cast(student, torch.bfloat16), cast(teacher, torch.bfloat16)))
    rounded = (torch.bfloat16, torch.float32)
    torch.testing.assert_close(low, total(method.loss(cast(student, *rounded), cast(teacher, *rounded))))
