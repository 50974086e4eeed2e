"""The losses that are this track's own, and what the core's losses mean for faces, by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from cv.methods import face_method
from cv.methods.rmu import box_vector
from cv.network.margin import Margin, score_faces, with_margin

MARGIN = Margin(scale=2.0, margin=0.25)  # takes half a logit off the right class


def view(logits, labels, embeddings=None):
    logits = torch.tensor(logits, dtype=torch.float32)
    embeddings = torch.zeros(len(labels), 2) if embeddings is None else torch.tensor(embeddings, dtype=torch.float32)
    return score_faces(logits, torch.tensor(labels), embeddings, MARGIN)


def test_neggrad_ascends_on_forget_photos_and_descends_on_retain_photos():
    """A right logit of 1 less the margin of 1/2, against a logit of 1/2: each loss is ln 2."""
    faces = view([[1.0, 0.5]], [0])
    method = face_method("neggrad")
    assert method.passes(3) == ("forget", "retain")
    assert method.loss({"forget": faces}, {})["forget"].item() == pytest.approx(-math.log(2))
    assert method.loss({"retain": faces}, {})["retain"].item() == pytest.approx(math.log(2))


def test_dpo_prefers_a_retain_photo_over_a_forget_photo_by_hand():
    """Log-probabilities: retain ln 1/2 now, ln 1/4 before; forget ln 1/4 now, ln 1/2 before. The difference is 2 ln
    2."""
    half, quarter = [[1.0, 0.5]], [[0.5 - math.log(3) + 0.5, 0.5]]
    student = {"retain": view(half, [0]), "forget": view(quarter, [0])}
    teacher = {"retain": view(quarter, [0]), "forget": view(half, [0])}
    for beta in (1.0, 0.5):
        loss = face_method("dpo", {"beta": beta}).loss(student, teacher)["dpo"].item()
        assert loss == pytest.approx(math.log(1 + 2 ** (-2 * beta)) / beta)
    same = face_method("dpo").loss(teacher, teacher)["dpo"].item()
    assert same == pytest.approx(math.log(2))


def test_rmu_steers_every_forget_photo_to_one_vector_by_hand():
    target = box_vector(2, scale=3.0, seed=4)
    assert torch.equal(target, box_vector(2, scale=3.0, seed=4)) and not torch.equal(
        target, box_vector(2, scale=3.0, seed=5)
    )
    e = [[1.0, 2.0], [0.0, 5.0]]
    student = {"forget": view([[0.0, 0.0]] * 2, [0, 1], e), "retain": view([[0.0, 0.0]], [0], [[1.0, 1.0]])}
    teacher = {"retain": view([[0.0, 0.0]], [0], [[1.0, 4.0]])}
    parts = face_method("rmu", {"c": 3.0, "alpha": 2.0, "seed": 4}).loss(student, teacher)
    expected = (
        sum((x - u) ** 2 for row in e for x, u in zip(row, target.tolist(), strict=True)) / 4
    )  # 2 photos, 2 entries
    assert parts["forget"].item() == pytest.approx(expected, rel=1e-6)
    assert parts["retain"].item() == pytest.approx(2.0 * 9 / 2)


def test_the_random_vector_fills_the_box():
    u = box_vector(4000, scale=2.0, seed=0)
    assert -2 <= u.min() < -1.99 and 1.99 < u.max() <= 2 and abs(u.mean()) < 0.1


def test_twins_has_a_retain_term_by_hand():
    student = {"forget": view([[0.0, 0.0]], [0], [[1.0, 2.0]]), "retain": view([[0.0, 0.0]], [1], [[0.0, 1.0]])}
    teacher = {"augmented": view([[0.0, 0.0]], [0], [[1.0, 4.0]]), "retain": view([[0.0, 0.0]], [1], [[0.0, 4.0]])}
    parts = face_method("twins", {"distance": "mse"}).loss(student, teacher)
    assert sorted(part.item() for part in parts.values()) == pytest.approx([4 / 2, 9 / 2])


DISTILLATION = {
    "scrub": {"alpha": 1.0, "beta": 0.0, "gamma": 0.0},
    "llmu": {"w_f": 0.0, "w_r": 0.0, "w_n": 1.0, "answers": "random", "k": 1},
}


@pytest.mark.parametrize(("name", "options"), DISTILLATION.items())
def test_distillation_compares_class_probabilities(name, options):
    """The published code compares softmaxes of embedding entries; embeddings that differ must not matter here."""
    now, before, labels = [[2.0, 0.0, 1.0]], [[0.5, 1.5, 0.0]], [2]
    student = {view_name: view(now, labels, [[9.0, 1.0]]) for view_name in ("forget", "retain", "random")}
    teacher = {view_name: view(before, labels, [[0.0, 7.0]]) for view_name in ("forget", "retain")}
    total = sum(face_method(name, options).loss(student, teacher).values())
    p, q = (with_margin(torch.tensor(x), torch.tensor(labels), MARGIN) for x in (before, now))
    expected = F.kl_div(q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="batchmean")
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
