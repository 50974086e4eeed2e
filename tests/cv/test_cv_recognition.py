"""Enrolment, nearest neighbours and logits on embeddings whose angles are known."""

import math

import pytest
import torch

from cv.network.enrolment import accuracy, enrolled, recognise, similarities


def at(*degrees: float) -> torch.Tensor:
    radians = torch.tensor(degrees, dtype=torch.double) * math.pi / 180
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def test_enrolment_takes_the_first_photos_of_each_wherever_they_stand():
    labels = torch.tensor([1, 0, 1, 0, 0, 1])
    assert enrolled(labels, 2).tolist() == [True, True, True, True, False, False]


def test_angles_by_hand():
    labels = torch.tensor([0, 0, 1, 1, 0])
    embeddings = at(0, 20, 80, 100, 60) * torch.tensor([1.0, 1.0, 2.0, 2.0, 9.0])[:, None]
    cosines = similarities(embeddings, labels, 2)  # enrolled at 10 and at 90 degrees
    assert cosines[4].tolist() == pytest.approx([math.cos(math.radians(50)), math.cos(math.radians(30))])
    correct, logits = recognise(embeddings, labels, 2)
    assert correct.tolist() == [True, True, True, True, False]
    s = math.cos(math.radians(50))
    assert logits[4].item() == pytest.approx(math.log(s / (1 - s)), rel=1e-6)
    assert accuracy(correct, torch.tensor([0, 1, 4]), enrolled(labels, 2)) == 0.0  # 0 and 1 only enrol


def test_long_embeddings_weigh_more_in_the_mean_they_enrol():
    embeddings = torch.cat([at(0), 3 * at(90), at(45)])
    cosine = similarities(embeddings, torch.zeros(3, dtype=torch.int64), 2)[2, 0]
    direction = math.atan2(3, 1)
    assert cosine.item() == pytest.approx(math.cos(direction - math.pi / 4))


def test_logits_stay_finite_at_both_ends():
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    _, logits = recognise(embeddings, torch.tensor([0, 0, 1, 1]), 1)
    _, opposite = recognise(torch.cat([at(0), at(180)]), torch.tensor([0, 0]), 1)
    assert logits.tolist() == pytest.approx([math.log(1e6 - 1)] * 4, rel=1e-4)
    assert opposite[1].item() == pytest.approx(-math.log(1e6 - 1), rel=1e-4)


def test_order_of_the_people_in_the_data_does_not_matter():
    torch.manual_seed(0)
    labels = torch.arange(5).repeat_interleave(4)
    embeddings = torch.randn(20, 7)
    correct, logits = recognise(embeddings, labels, 2)
    order = torch.randperm(20)
    shuffled = torch.empty_like(order)
    for person in range(5):  # people mixed, each one's photos in their order
        places = (labels[order] == person).nonzero()[:, 0]
        shuffled[places] = (labels == person).nonzero()[:, 0]
    got_correct, got_logits = recognise(embeddings[shuffled], labels[shuffled], 2)
    assert torch.equal(got_correct, correct[shuffled]) and torch.allclose(got_logits, logits[shuffled])
