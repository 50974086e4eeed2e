"""Shared-prefix scoring against one whole forward per answer, and its generation against transformers' own."""

import copy
import logging

import pytest
import torch
import torch.nn.functional as F

from tests.engine import QUESTIONS, build, prefix_of
from tests.models import picture, tiny_llama, tiny_llava, tiny_qwen2vl, tiny_qwen25vl
from unlearn.evaluation import prefix as engine
from unlearn.evaluation.generation import generate_greedy, stop_token_ids
from unlearn.evaluation.prefix import score_answers, score_plain, score_prompts


def one_forward(model, prompt, answer):
    """-log p of an answer by the definition: one unpadded row through the model, every logit, a sum over the answer."""
    ids = torch.tensor([prompt.ids + answer])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **prompt.image_inputs}
    if "image_grid_thw" in inputs:
        inputs["mm_token_type_ids"] = (ids == model.config.image_token_id).long()
    with torch.no_grad():
        logits = model(**inputs).logits[0, len(prompt.ids) - 1 : -1]
    return F.cross_entropy(logits.double(), torch.tensor(answer), reduction="sum").item()


CASES = [
    (tiny_llama, (False, False, False)),
    (tiny_llava, (True, True, True)),
    (tiny_llava, (True, False, True)),
    (tiny_llava, (False, False, False)),
    (tiny_qwen2vl, (True, True, True)),
    (tiny_qwen2vl, (False, True, False)),
    (tiny_qwen2vl, (False, False, False)),
    (tiny_qwen25vl, (True, True, False)),
]


@pytest.mark.parametrize(("factory", "images"), CASES)
def test_scores_equal_one_forward_per_answer(factory, images):
    model, collator, prompts, answers = build(factory, images)
    truth = [[one_forward(model, prompt, ids) for ids in own] for prompt, own in zip(prompts, answers, strict=True)]
    shared = score_answers(model, prefix_of(model, collator, prompts), answers, rows_per_forward=4)
    plain = score_plain(model, collator, prompts, answers, rows_per_forward=3)
    for form in (shared, plain):
        assert [[score.tokens for score in own] for own in form] == [[len(ids) for ids in own] for own in answers]
        for own, expected in zip(form, truth, strict=True):
            assert [score.loss for score in own] == pytest.approx(expected, abs=1e-4)
    assert max(truth[0]) - min(truth[0]) > 1  # the fixture distinguishes answers, so the comparison means something


@pytest.mark.parametrize("rows_per_forward", [1, 2, 64])
def test_the_size_of_a_fork_changes_nothing(rows_per_forward):
    model, collator, prompts, answers = build(tiny_llava, (True, False, True))
    prefix = prefix_of(model, collator, prompts)
    first = score_answers(model, prefix, answers, rows_per_forward=5)
    again = score_answers(model, prefix, answers, rows_per_forward=rows_per_forward)
    for own, other in zip(first, again, strict=True):
        assert [score.loss for score in own] == pytest.approx([score.loss for score in other], abs=1e-5)


def test_the_picture_is_seen_and_counts_for_its_own_row_only():
    model, collator, prompts, answers = build(tiny_qwen2vl, (True, True, True))
    before = score_answers(model, prefix_of(model, collator, prompts), answers, rows_per_forward=8)
    sample = {"question": QUESTIONS[1], "answer": "", "image": picture(99, side=24), "id": "another"}
    prompts[1] = collator.encode_prompt(sample)
    after = score_answers(model, prefix_of(model, collator, prompts), answers, rows_per_forward=8)
    assert before[0][0].loss == pytest.approx(after[0][0].loss, abs=1e-4)
    assert before[2][3].loss == pytest.approx(after[2][3].loss, abs=1e-4)
    assert abs(before[1][0].loss - after[1][0].loss) > 1e-2


def test_equal_answers_are_forwarded_once_and_the_prompt_once():
    model, collator, prompts, answers = build(tiny_llava, (True, True, True))
    forwarded = []
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: forwarded.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    try:
        score_answers(model, prefix_of(model, collator, prompts), answers, rows_per_forward=64)
    finally:
        hook.remove()
    longest = max(len(prompt.ids) for prompt in prompts)
    distinct = {(i, tuple(ids)) for i, own in enumerate(answers) for ids in own}
    assert forwarded == [(3, longest), (len(distinct), max(len(ids) for _, ids in distinct) - 1)]


def test_an_answer_of_one_token_needs_no_further_forward():
    model, collator, prompts, _ = build(tiny_llama, (False, False, False))
    only_end = [[[collator.template.end_id]] for _ in prompts]
    scores = score_answers(model, prefix_of(model, collator, prompts), only_end, rows_per_forward=4)
    for prompt, own in zip(prompts, scores, strict=True):
        assert own[0].loss == pytest.approx(one_forward(model, prompt, [collator.template.end_id]), abs=1e-4)
        assert own[0].tokens == 1


def generate(model, collator, prompts, max_new_tokens):
    """transformers' own greedy generation, cut after the first stop token."""
    from transformers import GenerationConfig

    stop = stop_token_ids(model, collator)
    inputs = collator.pad([(prompt, ()) for prompt in prompts])["inputs"]
    length = inputs["input_ids"].shape[1]
    config = GenerationConfig(
        do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=sorted(stop), pad_token_id=collator.pad_id
    )
    rows = model.generate(**inputs, generation_config=config)[:, length:].tolist()
    cut = [next((i + 1 for i, token in enumerate(row) if token in stop), len(row)) for row in rows]
    return [row[:end] for row, end in zip(rows, cut, strict=True)]


def eager_to_stop(model, collator):
    """A copy whose head likes the end token, so that some rows stop before others."""
    model = copy.deepcopy(model)
    end = collator.template.end_id
    with torch.no_grad():
        model.lm_head.weight[end] = model.lm_head.weight.abs().mean() * 1.2 * model.lm_head.weight[5].sign()
    return model


@pytest.mark.parametrize(("factory", "images"), CASES)
@pytest.mark.parametrize("stops", [False, True])
def test_generation_equals_transformers_token_for_token(factory, images, stops):
    model, collator, prompts, answers = build(factory, images)
    model = eager_to_stop(model, collator) if stops else model
    expected = generate(model, collator, prompts, 24)
    prefix = prefix_of(model, collator, prompts)
    score_answers(model, prefix, answers, rows_per_forward=4)  # scoring first must leave the prefix as it was
    stop = stop_token_ids(model, collator)
    assert generate_greedy(model, prefix, max_new_tokens=24, stop_ids=stop) == expected
    assert generate_greedy(model, prefix, max_new_tokens=24, stop_ids=stop) == expected


def test_some_rows_of_the_generation_test_stop_early_and_others_do_not():
    """Guards the guard: without rows of different lengths the test above would not see a row leave the batch."""
    lengths = set()
    for factory, images in CASES:
        model, collator, prompts, _ = build(factory, images)
        prefix = prefix_of(eager_to_stop(model, collator), collator, prompts)
        rows = generate_greedy(
            eager_to_stop(model, collator), prefix, max_new_tokens=24, stop_ids=stop_token_ids(model, collator)
        )
        lengths |= {tuple(map(len, rows))}
    assert any(len(set(row)) > 1 for row in lengths)


def test_generation_ignores_the_checkpoints_sampling_flags():
    model, collator, prompts, _ = build(tiny_llama, (False, False, False))
    stop = stop_token_ids(model, collator)
    plain = generate_greedy(model, prefix_of(model, collator, prompts), max_new_tokens=16, stop_ids=stop)
    noisy = copy.deepcopy(model)
    noisy.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=3.0, max_new_tokens=2)
    assert generate_greedy(noisy, prefix_of(noisy, collator, prompts), max_new_tokens=16, stop_ids=stop) == plain


def test_stop_tokens_are_those_of_template_tokenizer_and_checkpoint():
    model, collator, _, _ = build(tiny_llama, (False, False, False))
    model = copy.deepcopy(model)
    model.generation_config.eos_token_id = [7, 9]
    assert stop_token_ids(model, collator) == {7, 9, collator.template.end_id, collator.tokenizer.eos_token_id}


def test_an_adapter_on_top_scores_and_generates_like_its_merged_model():
    from peft import LoraConfig, get_peft_model

    model, collator, prompts, answers = build(tiny_qwen2vl, (True, False, True))
    torch.manual_seed(0)
    targets = r".*language_model.*\.(q_proj|v_proj)"
    adapted = get_peft_model(
        copy.deepcopy(model), LoraConfig(r=2, target_modules=targets, init_lora_weights=False)
    ).eval()
    merged = copy.deepcopy(adapted).merge_and_unload()
    outcomes = []
    for each in (adapted, merged):
        prefix = prefix_of(each, collator, prompts)
        scores = score_answers(each, prefix, answers, rows_per_forward=8)
        tokens = generate_greedy(each, prefix, max_new_tokens=8, stop_ids=stop_token_ids(each, collator))
        outcomes.append(([score.loss for own in scores for score in own], tokens))
    assert outcomes[0][0] == pytest.approx(outcomes[1][0], abs=1e-3)
    assert outcomes[0][1] == outcomes[1][1]
    base = score_answers(model, prefix_of(model, collator, prompts), answers, rows_per_forward=8)
    assert abs(base[0][0].loss - outcomes[0][0][0]) > 1e-2


def test_a_sliding_window_cache_is_not_forked_and_generates_right(caplog, monkeypatch):
    from transformers import MistralConfig, MistralForCausalLM

    monkeypatch.setattr("unlearn.evaluation.prefix._warned", set())
    _, collator, prompts, answers = build(tiny_llama, (False, False, False))
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(collator.tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=8, initializer_range=0.3,
        eos_token_id=collator.tokenizer.eos_token_id,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    with caplog.at_level(logging.WARNING, logger="unlearn.evaluation.prefix"):
        prefix = prefix_of(model, collator, prompts)
    assert not prefix.forkable
    assert "DynamicSlidingWindowLayer" in caplog.text
    for prompt, own, scores in zip(
        prompts, answers, score_plain(model, collator, prompts, answers, rows_per_forward=4), strict=True
    ):
        assert [score.loss for score in scores] == pytest.approx(
            [one_forward(model, prompt, ids) for ids in own], abs=1e-4
        )
    expected = generate(model, collator, prompts, 20)
    assert generate_greedy(model, prefix, max_new_tokens=20, stop_ids=stop_token_ids(model, collator)) == expected


def test_half_precision_logits_are_scored_in_fp32():
    """In bf16 a log-softmax over the logits themselves is off by hundredths of a nat per token."""
    model, collator, prompts, answers = build(tiny_llama, (False, False, False))
    half = copy.deepcopy(model).to(torch.bfloat16)
    scores = score_plain(half, collator, prompts[:1], answers[:1], rows_per_forward=1)
    for score, ids in zip(scores[0], answers[0], strict=True):
        assert score.loss == pytest.approx(one_forward(half, prompts[0], ids), abs=1e-4)


@pytest.mark.parametrize("right", [True, False])
def test_a_family_without_a_test_is_scored_both_ways_once_and_falls_back_if_they_differ(right, monkeypatch, caplog):
    monkeypatch.setattr(engine, "_agrees", {})
    calls = {"plain": 0, "shared": 0}

    def counted(name, off, real):
        def scored(*given, **options):
            calls[name] += 1
            return [[engine.AnswerScore(s.loss + off, s.tokens) for s in own] for own in real(*given, **options)]

        return scored

    monkeypatch.setattr(engine, "score_plain", counted("plain", 0.0, score_plain))
    monkeypatch.setattr(engine, "score_answers", counted("shared", 0.0 if right else 0.5, score_answers))
    model, collator, prompts, answers = build(tiny_llava, (True, True, False))
    prefix = prefix_of(model, collator, prompts)
    score_prompts(model, collator, prefix, prompts, answers, rows_per_forward=8)
    assert calls == {"plain": 0, "shared": 1}  # LLaVA has a test
    model = copy.copy(model)
    model.config = copy.copy(model.config)
    monkeypatch.setattr(type(model.config), "model_type", "new")
    results = [score_prompts(model, collator, prefix, prompts, answers, rows_per_forward=8) for _ in range(3)]
    assert calls == ({"plain": 1, "shared": 4} if right else {"plain": 3, "shared": 2})
    assert ("new models score otherwise" in caplog.text) is not right
    truth = [score.loss for own in score_plain(model, collator, prompts, answers, rows_per_forward=3) for score in own]
    for result in results:
        assert [score.loss for own in result for score in own] == pytest.approx(truth, abs=1e-3)
