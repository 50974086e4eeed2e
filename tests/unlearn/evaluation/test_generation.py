"""Drawn generations: from the right distribution, and the same whatever they are drawn beside."""

import math
import random

import pytest
import torch

from tests.engine import build, prefix_of
from tests.models import tiny_llama, tiny_llava, tiny_qwen2vl
from unlearn.evaluation.generation import generate_greedy, generate_sampled, stop_token_ids
from unlearn.evaluation.sampling import sampler, uniforms

IDS = ["a", "b", "c"]


def logits_of(*probabilities):
    return torch.tensor([probabilities]).log()


@pytest.mark.parametrize(
    ("u", "temperature", "top_p", "token"),
    [  # p = .1, .2, .3, .4: cumulative .1, .3, .6, 1
        (0.0, 1, 1, 0), (0.0999, 1, 1, 0), (0.1001, 1, 1, 1), (0.5999, 1, 1, 2), (0.6001, 1, 1, 3), (0.9999, 1, 1, 3),
        # temperature .5: p squared, .01 .04 .09 .16 of .3: cumulative .0333, .1667, .4667
        (0.03, 0.5, 1, 0), (0.16, 0.5, 1, 1), (0.46, 0.5, 1, 2), (0.47, 0.5, 1, 3),
        # the two likeliest hold .7 of it, so .65 keeps both: .3 / .7 = .4286
        (0.0, 1, 0.65, 2), (0.42, 1, 0.65, 2), (0.43, 1, 0.65, 3), (0.0, 1, 0.4, 3), (0.0, 1, 0.41, 2),
        (0.0, 0, 1, 3), (0.99, 1, 1e-9, 3), (0.001, 1e-3, 1, 3),
    ],
)  # fmt: skip
def test_a_number_points_at_the_first_token_whose_cumulative_probability_is_above_it(u, temperature, top_p, token):
    logits = logits_of(0.1, 0.2, 0.3, 0.4)
    assert sampler(temperature, top_p)(logits, torch.tensor([u], dtype=torch.float64)).tolist() == [token]


def test_rounding_never_leads_to_a_token_without_probability():
    logits = torch.tensor([[0.0, 1.0, -math.inf, -math.inf]] * 2)
    largest = torch.tensor([1 - 2**-53, 1.0], dtype=torch.float64)
    assert sampler(1.0, 1.0)(logits, largest).tolist() == [1, 1]


def test_numbers_are_those_of_the_rows_own_generator():
    drawn = uniforms(["a", "b"], 2, 7, 3)
    generator = random.Random("7/b/0")
    assert drawn.shape == (4, 3)
    assert drawn[2].tolist() == [generator.random() for _ in range(3)]


CASES = [
    (tiny_llama, (False, False, False)),
    (tiny_llava, (True, False, True)),
    (tiny_qwen2vl, (True, True, True)),
]


@pytest.mark.parametrize(("factory", "images"), CASES)
def test_what_a_row_says_depends_on_neither_its_batch_nor_the_number_of_samples(factory, images, monkeypatch):
    model, collator, prompts, _ = build(factory, images)
    how = {"seed": 1, "temperature": 0.7, "max_new_tokens": 12, "stop_ids": stop_token_ids(model, collator)}
    prefix = prefix_of(model, collator, prompts)
    together = generate_sampled(model, prefix, IDS, samples=5, **how)
    assert generate_sampled(model, prefix, IDS, samples=5, **how) == together  # the prefix can be used again
    assert len({tuple(tokens) for own in together for tokens in own}) > 10  # samples differ
    alone = [
        generate_sampled(model, prefix_of(model, collator, [prompt]), [name], samples=2, **how)[0]
        for prompt, name in zip(prompts, IDS, strict=True)
    ]
    assert alone == [own[:2] for own in together]
    backwards = generate_sampled(model, prefix_of(model, collator, prompts[::-1]), IDS[::-1], samples=5, **how)
    assert backwards[::-1] == together
    monkeypatch.setattr("unlearn.evaluation.generation.ROWS", 4)
    assert generate_sampled(model, prefix, IDS, samples=5, **how) == together


@pytest.mark.parametrize("how", [{"temperature": 0.0}, {"temperature": 1e-4}, {"top_p": 1e-6}])
def test_no_temperature_or_no_width_is_greedy(how):
    model, collator, prompts, _ = build(tiny_llava, (True, False, True))
    end = {"max_new_tokens": 12, "stop_ids": stop_token_ids(model, collator)}
    prefix = prefix_of(model, collator, prompts)
    drawn = generate_sampled(model, prefix, IDS, samples=2, seed=0, **how, **end)
    greedy = generate_greedy(model, prefix, **end)
    assert drawn == [[tokens, tokens] for tokens in greedy]


def test_the_second_token_is_drawn_from_what_the_model_says_after_the_first():
    """Of 2,000 samples of two tokens, the share of each frequent pair is p(first) p(second | first) by one plain
    forward."""
    model, collator, prompts, _ = build(tiny_llama, (False, False, False))
    prefix = prefix_of(model, collator, prompts[:1])
    drawn = generate_sampled(
        model, prefix, ["x"], samples=2000, seed=3, temperature=0.5, max_new_tokens=2, stop_ids=frozenset()
    )[0]
    counts: dict[tuple[int, ...], int] = {}
    for pair in map(tuple, drawn):
        counts[pair] = counts.get(pair, 0) + 1
    checked = 0
    for (first, second), count in sorted(counts.items(), key=lambda item: -item[1])[:5]:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompts[0].ids + [first]])).logits[0, -2:].double()
        p = (logits / 0.5).softmax(-1)
        expected = float(p[0, first] * p[1, second])
        assert abs(count / 2000 - expected) < 4 * math.sqrt(expected * (1 - expected) / 2000) + 1e-3
        checked += expected > 0.01
    assert checked >= 2


@pytest.mark.parametrize(
    ("wrong", "what"),
    [({"temperature": -1.0}, "temperature=-1.0"), ({"top_p": 0.0}, "top_p=0.0"), ({"samples": 0}, "samples=0")],
)
def test_what_makes_no_sense_is_refused(wrong, what):
    model, collator, prompts, _ = build(tiny_llama, (False, False, False))
    prefix = prefix_of(model, collator, prompts)
    how = {"samples": 1, "seed": 0, "max_new_tokens": 2, "stop_ids": frozenset()} | wrong
    with pytest.raises(ValueError, match=what):
        generate_sampled(model, prefix, IDS, **how)
    with pytest.raises(ValueError, match="needs an id"):
        generate_sampled(model, prefix, IDS[:2], samples=1, seed=0, max_new_tokens=2, stop_ids=frozenset())
