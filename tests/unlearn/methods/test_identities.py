"""Student = teacher, stationary points, limits, and which way a step goes."""

import math

import pytest
import torch
from batches import pack, pack_all, require_grad, total, views_of

from unlearn.divergences import entropy
from unlearn.method import defines
from unlearn.registry import build_method, method_names
from unlearn.scoring import Scored


def at_the_teacher(name, options=None):
    """The method with every teacher view equal to the student's, and the leaves of the student."""
    method = build_method(name, options)
    rows, _ = views_of(method)
    if name in ("twins", "vgid"):
        rows["augmented"] = rows["noised"] = rows["forget"]
    student, leaves = require_grad(pack_all({n: r for n, r in rows.items() if n not in ("augmented", "noised")}))
    return method, student, pack_all(rows), leaves


KL_PARTS = [
    ("grad_diff_forget_ce_retain_KL", ["retain"]),
    ("grad_diff_forget_entropy_retain_KL", ["retain"]),
    ("grad_diff_forget_KL_retain_ce", ["forget"]),
    ("grad_diff_forget_KL_retain_KL", ["forget", "retain"]),
    ("KL", ["kl"]),
    ("scrub", ["forget", "kl"]),
    ("LLMU", ["kl"]),
    ("SKU", ["kl"]),
    ("twins", ["forget", "retain"]),
    ("vgid", ["forget", "retain"]),
    ("jensun", ["retain"]),
]


@pytest.mark.parametrize(("name", "parts"), KL_PARTS)
def test_every_kl_is_zero_with_zero_gradient_at_the_teacher(name, parts):
    method, student, teacher, leaves = at_the_teacher(name)
    found = method.loss(student, teacher)
    for part in parts:
        assert abs(found[part].item()) < 1e-6, part
        gradients = torch.autograd.grad(found[part], leaves, allow_unused=True, retain_graph=True)
        assert max(g.abs().max().item() for g in gradients if g is not None) < 1e-7, part


def test_scrub_bio_is_stationary_at_the_teacher():
    method, student, teacher, leaves = at_the_teacher("scrub_bio")
    parts = method.loss(student, teacher)
    torch.testing.assert_close(parts["forget"], torch.tensor(1.0))
    assert abs(parts["retain"].item()) < 1e-6
    gradients = torch.autograd.grad(total(parts), leaves, allow_unused=True)
    assert max(g.abs().max().item() for g in gradients if g is not None) < 1e-6


@pytest.mark.parametrize("beta", [0.1, 1.0, 4.0])
def test_npo_and_dpo_at_the_teacher(beta):
    method, student, teacher, _ = at_the_teacher("npo", {"beta": beta})
    torch.testing.assert_close(method.loss(student, teacher)["forget"], torch.tensor(2 / beta * math.log(2)))
    method, student, teacher, _ = at_the_teacher("dpo", {"beta": beta})
    torch.testing.assert_close(method.loss(student, teacher)["dpo"], torch.tensor(math.log(2)))


@pytest.mark.parametrize("name", ["RMU", "twins"])
def test_the_retain_term_is_zero_at_the_teacher(name):
    method, student, teacher, _ = at_the_teacher(name)
    assert method.loss(student, teacher)["retain"].item() == pytest.approx(0, abs=1e-6)


def test_gradient_ascent_is_minus_retain_finetuning_on_the_same_batch():
    _, student, _, _ = at_the_teacher("grad_ascent")
    ascent = build_method("grad_ascent").loss(student, {})["forget"]
    descent = build_method("retain_ft").loss({"retain": student["forget"]}, {})["retain"]
    assert ascent.item() == -descent.item()


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0, 2.0])
def test_gradient_difference_of_equal_sets_is_one_minus_beta(beta):
    _, student, _, _ = at_the_teacher("grad_ascent")
    same = student["forget"]
    value = total(build_method("grad_diff", {"beta": beta}).loss({"forget": same, "retain": same}, {}))
    torch.testing.assert_close(value, (1 - beta) * same.cross_entropy())


def test_npo_tends_to_gradient_ascent_as_beta_vanishes():
    """Away from the teacher, so that beta matters: the cosine with the ascent direction on the sums rises to 1."""

    def cosine(beta):
        method = build_method("npo", {"beta": beta})
        student, teacher = views_of(method)
        student, (logits, _) = require_grad(pack_all(student))
        (npo,) = torch.autograd.grad(total(method.loss(student, pack_all(teacher))), logits)
        (ascent,) = torch.autograd.grad(student["forget"].sequence_logps().mean(), logits)
        return torch.cosine_similarity(npo.flatten(), ascent.flatten(), dim=0).item(), npo, ascent

    near, npo, ascent = cosine(1e-5)
    assert cosine(1.0)[0] < 0.999 < near
    torch.testing.assert_close(npo, ascent, rtol=1e-3, atol=1e-4)


FORGETS = [
    ("grad_ascent", {}, "forget"),
    ("grad_diff", {}, "forget"),
    ("grad_diff_forget_ce_retain_KL", {}, "forget"),
    ("KL", {}, "forget"),
    ("npo", {}, "forget"),
    ("npo", {"beta": 0.1}, "forget"),
    ("dpo", {}, "dpo"),
    ("LLMU", {}, "forget"),
    ("LLMU", {"answers": "random"}, "forget"),
    ("simnpo", {"beta": 1.0}, "forget"),
    ("undial", {}, "forget"),
    ("wga", {}, "forget"),
    ("tnpo", {}, "forget"),
    ("satimp", {"beta1": 1.0}, "forget"),
    ("ceu", {"skip": 0}, "forget"),
    ("flat", {}, "forget"),
    ("altpo", {}, "forget"),
    ("pava", {}, "forget"),
]


@pytest.mark.parametrize(("name", "options", "part"), FORGETS)
def test_a_step_on_the_forget_part_lowers_every_forget_answer(name, options, part):
    method, student, teacher, _ = at_the_teacher(name, options)
    logits = student["forget"].logits
    (gradient,) = torch.autograd.grad(method.loss(student, teacher)[part], logits)
    after = Scored((logits - 0.1 * gradient).detach(), student["forget"].labels)
    assert (after.sequence_logps() < student["forget"].sequence_logps()).all()


def test_a_step_of_dpo_raises_the_refusal():
    method, student, teacher, _ = at_the_teacher("dpo")
    logits = student["idk"].logits
    (gradient,) = torch.autograd.grad(method.loss(student, teacher)["dpo"], logits)
    after = Scored((logits - 0.1 * gradient).detach(), student["idk"].labels)
    assert (after.sequence_logps() > student["idk"].sequence_logps()).all()


@pytest.mark.parametrize("name", ["grad_diff_forget_entropy_retain_ce", "grad_diff_forget_entropy_retain_KL"])
def test_a_step_on_the_entropy_part_raises_entropy(name):
    method, student, teacher, _ = at_the_teacher(name)
    forget = student["forget"]
    (gradient,) = torch.autograd.grad(method.loss(student, teacher)["forget"], forget.logits)
    after = (forget.logits - 0.5 * gradient).detach()
    assert entropy(after, forget.mask) > entropy(forget.logits, forget.mask) + 1e-3


def test_npo_lowers_a_memorised_label_where_the_vocabulary_form_would_raise_it():
    """The published loss averages over the vocabulary and raised the label's logit at p = .7."""
    logits = torch.tensor([[[0.7, 0.1, 0.1, 0.1]]]).log().requires_grad_()
    scored = Scored(logits, torch.tensor([[0]]))
    build_method("npo").loss({"forget": scored}, {"forget": scored.detach()})["forget"].backward()
    # d/dlogit = 2 * sigmoid(0) * (onehot - p)
    torch.testing.assert_close(logits.grad, torch.tensor([[[0.3, -0.1, -0.1, -0.1]]]))


@pytest.mark.parametrize("name", ["dpo", "npo"])
def test_ratios_can_use_cached_teacher_scores(name):
    method = build_method(name)
    student, teacher = (pack_all(v) for v in views_of(method))
    cached = {n: Scored.from_logps(s.sequence_logps(), s.lengths()) for n, s in teacher.items()}
    torch.testing.assert_close(method.loss(student, cached), method.loss(student, teacher))


def test_a_row_of_other_answers_is_noticed():
    method = build_method("KL")
    student, teacher = views_of(method)
    with pytest.raises(ValueError, match="different"):
        method.loss(pack_all(student), {"retain": pack(teacher["retain"][::-1])})


@pytest.mark.parametrize("name", [name for name in method_names() if not defines(build_method(name), "edit")])
def test_losses_need_no_more_views_than_they_declare(name):
    """`views_of` hands out exactly what is declared: this fails when a declaration forgets one."""
    method = build_method(name)
    student, teacher = views_of(method)
    assert torch.isfinite(total(method.loss(pack_all(student), pack_all(teacher))))
