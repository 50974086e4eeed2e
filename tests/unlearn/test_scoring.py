"""Scored views against arithmetic on known probabilities."""

import math

import pytest
import torch

from unlearn.scoring import IGNORE_INDEX, Scored, mean_over_answers, score_causal, score_classes

I = IGNORE_INDEX  # noqa: E741

# Two rows of uneven length over a vocabulary of two; the label's probability is .5 and .25 in row 0, .8 in row 1.
PROBABILITIES = [[[0.5, 0.5], [0.75, 0.25], [0.9, 0.1]], [[0.6, 0.4], [0.8, 0.2], [0.3, 0.7]]]
LABELS = [[0, 1, I], [I, 0, I]]


def two_rows() -> Scored:
    return Scored(torch.tensor(PROBABILITIES).log(), torch.tensor(LABELS))


def test_values_of_uneven_rows_by_hand():
    scored = two_rows()
    assert scored.lengths().tolist() == [2, 1]
    torch.testing.assert_close(
        scored.token_logps(), torch.tensor([[math.log(0.5), math.log(0.25), 0.0], [0.0, math.log(0.8), 0.0]])
    )
    torch.testing.assert_close(scored.sequence_logps(), torch.tensor([math.log(0.125), math.log(0.8)]))
    # (ln 2 + ln 4 + ln 1.25) / 3 tokens, not the mean of the two rows' means
    torch.testing.assert_close(scored.cross_entropy(), torch.tensor(math.log(2 * 4 * 1.25) / 3))


def test_causal_scoring_shifts_by_exactly_one():
    # The token at t + 1 is predicted at t: row [prompt, a, b] is scored at positions 0 and 1.
    probabilities = torch.tensor([[[0.5, 0.5], [0.75, 0.25], [0.01, 0.99]]])
    scored = score_causal(probabilities.log(), torch.tensor([[I, 0, 1]]))
    torch.testing.assert_close(scored.sequence_logps(), torch.tensor([math.log(0.5 * 0.25)]))
    assert scored.logits.shape == (1, 2, 2)


def test_a_class_is_an_answer_of_one_token():
    embeddings = torch.randn(2, 5)
    scored = score_classes(torch.tensor([[0.2, 0.8], [0.6, 0.4]]).log(), torch.tensor([1, 0]), hidden=embeddings)
    torch.testing.assert_close(scored.cross_entropy(), torch.tensor(-(math.log(0.8) + math.log(0.6)) / 2))
    hidden, mask = scored.hidden_states()
    assert hidden.shape == (2, 1, 5) and mask.tolist() == [[True], [True]]


def test_nan_at_unscored_positions_reaches_neither_value_nor_gradient():
    clean, poisoned = two_rows(), torch.tensor(PROBABILITIES).log()
    poisoned[~clean.mask] = math.nan
    poisoned.requires_grad_()
    scored = Scored(poisoned, torch.tensor(LABELS))
    for name in ("token_logps", "sequence_logps", "cross_entropy"):
        value = getattr(scored, name)()
        torch.testing.assert_close(value, getattr(clean, name)())
        (gradient,) = torch.autograd.grad(value.sum(), poisoned)
        assert torch.isfinite(gradient).all()
        assert (gradient[~clean.mask] == 0).all() and (gradient[clean.mask] != 0).any(-1).all()


def test_low_precision_logits_are_reduced_in_fp32():
    # 0.1 nats a token over 300 tokens: a bf16 sum would be off by far more than the rounding of one logit
    logits = torch.zeros(1, 300, 7, dtype=torch.bfloat16)
    scored = Scored(logits, torch.zeros(1, 300, dtype=torch.long))
    assert scored.token_logps().dtype == torch.float32
    torch.testing.assert_close(scored.sequence_logps(), torch.tensor([-300 * math.log(7)]))


def test_cached_scores_serve_ratios_and_refuse_logits():
    cached = Scored.from_logps(two_rows().sequence_logps(), two_rows().lengths())
    torch.testing.assert_close(cached.sequence_logps(), two_rows().sequence_logps())
    torch.testing.assert_close(cached.cross_entropy(), two_rows().cross_entropy())
    assert cached.lengths().tolist() == [2, 1]
    assert cached.chunk(2)[1].lengths().tolist() == [1]
    with pytest.raises(ValueError, match="cached sequence scores only"):
        cached.token_logps()


def test_chunks_are_answer_major():
    labels = torch.tensor([[0], [1], [2], [3], [4], [5]])  # 3 items x 2 answers: items 0-2 with answer 0, then 1
    scored = Scored(torch.randn(6, 1, 6), labels, torch.randn(6, 2, 3), torch.ones(6, 2, dtype=torch.bool))
    first, second = scored.chunk(2)
    assert first.labels.flatten().tolist() == [0, 1, 2] and second.labels.flatten().tolist() == [3, 4, 5]
    torch.testing.assert_close(second.hidden, scored.hidden[3:])
    with pytest.raises(ValueError, match="4 answers"):
        scored.chunk(4)


def test_mean_over_answers_weighs_answers_alike():
    # Answer 0 is two tokens of p .5, answer 1 one token of p .25: (ln 2 + ln 4) / 2, where pooling gives 4/3 ln 2.
    probabilities = torch.tensor([[[0.5, 0.5], [0.5, 0.5]], [[0.25, 0.75], [0.5, 0.5]]])
    scored = Scored(probabilities.log(), torch.tensor([[0, 1], [0, I]]))
    torch.testing.assert_close(mean_over_answers(scored, 2), torch.tensor(1.5 * math.log(2)))
    torch.testing.assert_close(scored.cross_entropy(), torch.tensor(4 / 3 * math.log(2)))


def test_detach_cuts_every_tensor():
    logits, hidden = torch.randn(1, 2, 3, requires_grad=True), torch.randn(1, 2, 3, requires_grad=True)
    cut = Scored(logits, torch.tensor([[0, 1]]), hidden, torch.ones(1, 2, dtype=torch.bool)).detach()
    assert not cut.cross_entropy().requires_grad and not cut.hidden_states()[0].requires_grad


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Scored(torch.randn(2, 3, 4), torch.zeros(2, 2, dtype=torch.long)), r"\(2, 3, 4\) and \(2, 2\)"),
        (lambda: Scored(torch.randn(2, 1, 4), torch.tensor([[0], [I]])), r"rows \[1\] have no scored token"),
        (lambda: Scored(torch.randn(0, 1, 4), torch.zeros(0, 1, dtype=torch.long)), "at least one row"),
        (lambda: Scored(torch.randn(1, 1, 4), torch.tensor([[0]]), torch.randn(1, 2, 3)), "together, or neither"),
        (
            lambda: Scored(torch.randn(1, 1, 4), torch.tensor([[0]]), torch.randn(1, 2, 3), torch.ones(1, 2)),
            "bool hidden_mask",
        ),
        (
            lambda: Scored(torch.randn(1, 1, 4), torch.tensor([[0]]), torch.randn(2, 2, 3), torch.ones(2, 2) > 0),
            "with the labels' B",
        ),
        (lambda: score_causal(torch.randn(1, 3, 4), torch.tensor([[0, 1]])), "score_causal"),
        (lambda: score_classes(torch.randn(2, 4), torch.tensor([0])), "score_classes"),
        (lambda: Scored.from_logps(torch.tensor([-1.0, -2.0]), torch.tensor([3])), "cached scores"),
        (lambda: Scored.from_logps(torch.tensor([-1.0]), torch.tensor([0])), "no scored token"),
        (lambda: Scored(torch.randn(1, 1, 4), torch.tensor([[0]])).hidden_states(), "no hidden states"),
    ],
)
def test_what_does_not_fit_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
