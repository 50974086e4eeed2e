"""Decoding: steps of fixed shape say what a growing cache says, dispatch the same kernels each time and read nothing
back; drawn generations come from the right distribution and are the same whatever they are drawn beside."""

import contextlib
import importlib
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine import build, prefix_of
from tests.models import tiny_llama, tiny_llava, tiny_qwen2vl
from tests.vision_models import FAMILIES
from unlearn.evaluation import generation, recorded
from unlearn.evaluation.generation import generate_greedy, generate_sampled, stop_token_ids
from unlearn.evaluation.growing import decode_growing
from unlearn.evaluation.recorded import Steps, decode_fixed
from unlearn.evaluation.sampling import likeliest, sampler, uniforms
from unlearn.evaluation.step import Step

IDS = ["a", "b", "c"]
PICTURES, MIXED, TEXT = (True, True, True), (True, False, True), (False, False, False)
CASES = [(tiny_llama, TEXT), (tiny_llava, MIXED), (tiny_qwen2vl, PICTURES)]
every_case = pytest.mark.parametrize(("factory", "images"), CASES)
# Language models of which nothing is special but the class: rotary, fused or learned positions, biases.
TEXT_MODELS = {
    "qwen2": "Qwen2", "qwen3": "Qwen3", "mistral": "Mistral", "phi3": "Phi3", "gpt2": "GPT2", "gpt_neox": "GPTNeoX",
}  # fmt: skip


def both(model, collator, prompts, tokens=24, stop=None, steps=None):
    """(by a growing cache, by steps of fixed shape), greedily."""
    stop = stop_token_ids(model, collator) if stop is None else stop
    prefix = prefix_of(model, collator, prompts)
    how: dict[str, Any] = {"max_new_tokens": tokens, "stop_ids": stop}
    growing = decode_growing(model, prefix, None, likeliest, None, **how)
    return growing, decode_fixed(model, prefix, None, likeliest, None, **how, steps=steps or Steps())


def text_model(kind):
    import transformers

    _, tokenizer = tiny_llama()
    shape: dict[str, Any] = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4, "intermediate_size": 48, "pad_token_id": 0, "initializer_range": 0.3}
    if kind in ("qwen2", "qwen3", "mistral", "phi3"):
        shape |= {"num_key_value_heads": 2, "sliding_window": None}
    config = getattr(transformers, f"{TEXT_MODELS[kind]}Config")(**shape)
    torch.manual_seed(0)
    name = "GPT2LMHeadModel" if kind == "gpt2" else f"{TEXT_MODELS[kind]}ForCausalLM"
    return getattr(transformers, name)(config).eval(), tokenizer


# ---- steps of fixed shape -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stops", [False, True])
@pytest.mark.parametrize("family", recorded.TESTED)
def test_every_listed_model_type_says_the_same_over_a_fixed_cache(family, stops, caplog, monkeypatch):
    """Prompts of uneven length, so that rows are padded; answers of uneven length where they stop."""
    monkeypatch.setattr(generation, "_said", set())
    if family == "llama":
        make = tiny_llama
    else:
        make = FAMILIES[family] if family in FAMILIES else lambda: text_model(family)
        make.__name__ = family
    model, collator, prompts, _ = build(make, MIXED if family in FAMILIES else TEXT)
    assert model.config.model_type == family and len({len(prompt.ids) for prompt in prompts}) == 3
    growing, fixed = both(model, collator, prompts, stop=frozenset(range(0, 400, 9)) if stops else frozenset())
    assert fixed == growing
    assert stops or {len(tokens) for tokens in fixed} == {24}
    prefix = prefix_of(model, collator, prompts)
    assert recorded.why_growing(model, prefix, Steps()) is None


@every_case
def test_rows_that_end_leave_and_the_others_go_on(factory, images, monkeypatch):
    model, collator, prompts, _ = build(factory, images)
    rows = []
    forward = Step.step

    def counted(self):
        rows.append(len(self.tokens))
        return forward(self)

    monkeypatch.setattr(Step, "step", counted)
    lengths = set()
    for stop in (frozenset(range(k, 400, 11)) for k in range(0, 11, 2)):
        growing, fixed = both(model, collator, prompts, stop=stop)
        assert fixed == growing
        lengths |= {tuple(map(len, fixed))}
    assert any(len(set(own)) == 3 for own in lengths)  # rows did end one by one
    assert {3, 2, 1} <= set(rows)


@every_case
def test_a_full_cache_is_followed_by_a_larger_one(factory, images):
    model, collator, prompts, _ = build(factory, images)
    steps = Steps()
    growing, fixed = both(model, collator, prompts, tokens=170, stop=frozenset(), steps=steps)
    assert fixed == growing and {len(tokens) for tokens in fixed} == {170}
    sizes = [step.size for step in steps.known.values()]
    assert len(sizes) == 2 and sizes[0] < sizes[1] and all(size % 64 == 0 for size in sizes)


def test_a_kept_step_serves_the_next_batch_and_nothing_of_the_last_is_left():
    model, collator, prompts, _ = build(tiny_llava, MIXED)
    steps, stop = Steps(), frozenset(range(0, 400, 11))
    first = both(model, collator, prompts, steps=steps, stop=stop)
    (shape, step), *_ = steps.known.items()
    for layer in step.cache.layers:
        layer.keys.fill_(float("nan")), layer.values.fill_(float("nan"))
    other = [prompts[2], prompts[0], prompts[0]]
    second = both(model, collator, other, steps=steps, stop=stop)
    assert steps.known[shape] is step
    assert first[0] == first[1] and second[0] == second[1] and second != first
    for tokens in range(2, 9):  # other lengths are other steps; the oldest go
        both(model, collator, prompts, tokens=tokens, steps=steps)
    assert len(steps.known) == recorded.KEPT


@pytest.mark.parametrize("sampled", [False, True])
@every_case
def test_each_step_dispatches_the_same_kernels_and_reads_nothing_back(factory, images, sampled, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "benchmarks"))
    meter: Any = importlib.import_module("kernel_meter")

    class Listing(meter.Meter):
        def count(self, func, args, kwargs, ins, out):
            super().count(func, args, kwargs, ins, out)
            seen.append((str(func), [(tuple(tensor.shape), tensor.dtype) for tensor in ins]))

    model, collator, prompts, _ = build(factory, images)
    prefix = prefix_of(model, collator, prompts)
    choose = sampler(0.7, 0.9) if sampled else likeliest
    step = Step(model, prefix, rows=3, size=128, limit=20, choose=choose, stop_ids=frozenset({1, 2}))
    step.begin(prefix, None, uniforms(IDS, 1, 0, 20))
    lists, places = [], [tensor.data_ptr() for tensor in step.state]
    for _ in range(5):
        seen: list[Any] = []
        counts = meter.Counts()
        with meter.as_on_a_gpu(counts), Listing(counts):
            step.step()
        lists.append(seen)
        assert counts.syncs.total() == 0 and counts.kernels.total() > 50
    assert all(other == lists[0] for other in lists)
    assert [tensor.data_ptr() for tensor in step.state] == places


class Graph:
    """Stands for torch.cuda.CUDAGraph: what is captured here also runs, and may change what a step changes."""

    played: list[Any] = []

    def replay(self):
        self.played.append(self.step.__self__)
        self.step()


@every_case
def test_what_is_recorded_starts_where_it_was_and_is_asked_every_16_tokens(factory, images, monkeypatch):
    """The path of a GPU with its graph played by hand: warm-ups are undone, and few values are read back."""
    model, collator, prompts, _ = build(factory, images)
    graphs, forward = [], Step.step

    @contextlib.contextmanager
    def capture(graph, **options):
        graphs.append(graph)
        yield

    def step(self):
        if graphs:
            graphs[-1].step = forward.__get__(self)
        return forward(self)

    class Stream:
        def wait_stream(self, other):
            pass

    monkeypatch.setattr(Step, "step", step)
    monkeypatch.setattr(recorded, "_records", lambda device: True)
    for name, fake in {"Stream": Stream, "current_stream": Stream, "stream": contextlib.nullcontext, "CUDAGraph": Graph,
                       "graph": capture, "device": contextlib.nullcontext}.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(Graph, "played", [])
    steps, stop = Steps(), frozenset(range(0, 400, 11))
    for tokens, chosen in ((100, frozenset()), (100, stop), (100, stop), (9, stop)):
        growing, fixed = both(model, collator, prompts, tokens=tokens, stop=chosen, steps=steps)
        assert fixed == growing
    assert 2 <= len(graphs) <= 4  # two caches for the first, one or two for the others, none for the last
    assert len(Graph.played) > 99


def test_an_answer_of_one_token_takes_no_step(monkeypatch):
    model, collator, prompts, _ = build(tiny_llava, MIXED)
    monkeypatch.setattr(Step, "step", None)
    growing, fixed = both(model, collator, prompts, tokens=1)
    assert fixed == growing
    growing, fixed = both(model, collator, prompts, stop=frozenset(range(400)))
    assert fixed == growing


def test_a_model_that_attends_by_flash_attention_decodes_by_sdpa(monkeypatch):
    model, collator, prompts, _ = build(tiny_llava, MIXED)
    stop = stop_token_ids(model, collator)
    prefix = prefix_of(model, collator, prompts)
    expected = generate_greedy(model, prefix, max_new_tokens=12, stop_ids=stop)
    config = model.config.get_text_config()
    config._attn_implementation = "flash_attention_2"  # no kernel of that name is here: a call would fail
    try:
        assert generate_greedy(model, prefix, max_new_tokens=12, stop_ids=stop) == expected
        assert config._attn_implementation == "flash_attention_2"
        config._attn_implementation = "flex_attention"
        assert "flex_attention" in str(recorded.why_growing(model, prefix, Steps()))
    finally:
        config._attn_implementation = "sdpa"


def test_under_autocast_keys_have_the_type_of_the_prompts(monkeypatch):
    model, collator, prompts, _ = build(tiny_qwen2vl, PICTURES)
    with torch.autocast("cpu", torch.bfloat16):
        growing, fixed = both(model, collator, prompts, stop=frozenset())
    assert [row[0] for row in fixed] == [row[0] for row in growing]
    assert [len(row) for row in fixed] == [24] * 3


@pytest.mark.parametrize("failing", [None, "crash", "wrong"])
def test_a_model_type_without_a_test_is_tried_once(failing, monkeypatch, caplog):
    monkeypatch.setattr(recorded, "TESTED", ())
    monkeypatch.setattr(recorded, "_other", {})
    monkeypatch.setattr(generation, "_said", set())
    model, collator, prompts, _ = build(tiny_llava, MIXED)
    steps, forward = [], Step.step

    def step(self):
        steps.append(self)
        if failing == "crash":
            raise IndexError("no such place")
        return forward(self) + torch.randn(400)[: model.config.get_text_config().vocab_size] * 3 * bool(failing)

    monkeypatch.setattr(Step, "step", step)
    prefix, stop = prefix_of(model, collator, prompts), frozenset()
    expected = decode_growing(model, prefix, None, likeliest, None, max_new_tokens=8, stop_ids=stop)
    for _ in range(2):
        assert generate_greedy(model, prefix, max_new_tokens=8, stop_ids=stop) == expected
    assert len(steps) == (1 + 2 * 7 if failing is None else 1)
    assert caplog.text.count("generates over a cache that grows") == (0 if failing is None else 1)
    assert ("IndexError" in caplog.text) == (failing == "crash")


# ---- drawn generations ----------------------------------------------------------------------------------------------


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


@every_case
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
