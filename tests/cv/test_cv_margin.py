"""AM-softmax against its definition, written out with loops."""

import math

import pytest
import torch
from torch import Tensor

from cv.network.margin import CosineHead, Margin, score_faces, with_margin


def am_softmax(embeddings: Tensor, weight: Tensor, labels: Tensor, margin: Margin) -> Tensor:
    """Equation 5 of the AM-softmax paper, photo by photo and class by class."""
    losses = []
    for embedding, label in zip(embeddings, labels.tolist(), strict=True):
        terms = []
        for j, w in enumerate(weight):
            length = w.norm() if margin.normalise else 1.0
            cosine = embedding @ w / (embedding.norm() * length)
            terms.append(torch.exp(margin.scale * (cosine - (margin.margin if j == label else 0.0))))
        losses.append(-torch.log(terms[label] / sum(terms)))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("normalise", [True, False])
def test_value_and_gradients_are_those_of_the_definition(normalise):
    torch.manual_seed(0)
    margin = Margin(scale=8.0, margin=0.3, normalise=normalise)
    head = CosineHead(5, 4, margin).double()
    embeddings = torch.randn(6, 5, dtype=torch.double, requires_grad=True)
    labels = torch.tensor([0, 3, 1, 1, 2, 0])
    fast = score_faces(head(embeddings), labels, embeddings, margin).cross_entropy()
    slow = am_softmax(embeddings, head.weight, labels, margin)
    assert fast.item() == pytest.approx(slow.item(), rel=1e-6)  # Scored reduces in fp32
    got = torch.autograd.grad(fast, (embeddings, head.weight))
    expected = torch.autograd.grad(slow, (embeddings, head.weight))
    for a, b in zip(got, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_class_weights_act_with_unit_norm():
    torch.manual_seed(1)
    head, embeddings = CosineHead(5, 4, Margin(scale=1.0)), torch.randn(3, 5)
    before = head(embeddings)
    assert before.abs().max() <= 1 + 1e-6  # cosines
    head.weight.data *= torch.tensor([0.1, 3.0, 20.0, 7.0])[:, None]
    assert torch.allclose(head(embeddings), before, atol=1e-6)


def test_published_head_feels_the_length_of_its_weights():
    torch.manual_seed(1)
    head, embeddings = CosineHead(5, 4, Margin(scale=1.0, normalise=False)), torch.randn(3, 5)
    before = head(embeddings)
    head.weight.data *= 3
    assert torch.allclose(head(embeddings), 3 * before, atol=1e-5)


def test_a_scale_that_overflows_exp_has_a_finite_loss():
    margin = Margin(scale=1000.0, margin=0.4)
    logits = 1000.0 * torch.tensor([[1.0, -1.0]], requires_grad=True)
    loss = score_faces(logits, torch.tensor([1]), torch.ones(1, 2), margin).cross_entropy()
    assert loss.item() == pytest.approx(2400.0)  # s (1 - (-1 - m))
    loss.backward()


def test_the_margin_is_taken_from_the_right_class_alone():
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    assert with_margin(logits, torch.tensor([1]), Margin(10.0, 0.05)).tolist() == [[1.0, 1.5, 3.0]]


def test_a_view_of_faces_is_an_answer_of_one_token():
    margin = Margin(2.0, 0.25)
    scored = score_faces(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), torch.tensor([[3.0, 4.0]]), margin)
    assert scored.sequence_logps().item() == pytest.approx(-math.log(1 + math.exp(-0.5)))  # logits .5 and 0
    hidden, mask = scored.hidden_states()
    assert hidden.tolist() == [[[3.0, 4.0]]] and mask.tolist() == [[True]]
