"""Padding never changes a loss: GPT-2, whose positions are absolute, and the rotary families, which need no telling."""

import json
from typing import Any

import pytest
import torch

from tests.bad_input import run_script
from tests.models import picture, tiny_llama, tiny_llava, tiny_qwen2vl, train_tokenizer
from unlearn.config.settings import LoraSettings
from unlearn.data.collator import Collator
from unlearn.evaluation.prefix import read_prefix, score_answers
from unlearn.models.forward import StudentForward, score_views
from unlearn.models.lora import lora_targets, prepare_trainable

CHAT = (
    "{% for m in messages %}{{ m.role + ': ' + m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def tiny_gpt2() -> tuple[Any, Any]:
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = train_tokenizer(["<|endoftext|>"], eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = CHAT
    torch.manual_seed(0)
    end = tokenizer.eos_token_id
    size = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128, "initializer_range": 0.3}
    config = GPT2Config(vocab_size=len(tokenizer), bos_token_id=end, eos_token_id=end, **size)
    return GPT2LMHeadModel(config).eval(), tokenizer


def sample(question: str, answer: str, image: Any = None) -> Any:
    return {"question": question, "answer": answer, "image": image, "id": question}


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama, tiny_llava, tiny_qwen2vl])
def test_a_row_s_loss_is_the_same_alone_beside_a_longer_one_and_in_evaluation(make):
    model, processor = make()
    collator = Collator(processor)
    short = sample("Who?", "Ana Lima.", picture(0, 16) if hasattr(processor, "image_processor") else None)
    long = {**short, "question": "Where was the author of crime novels born, and who says so?", "id": "long"}
    student = StudentForward(model)
    with torch.no_grad():
        alone, together = (
            score_views(student({"forget": collator.rows(rows)}))["forget"].sequence_logps()[0]
            for rows in ([short], [short, long])
        )
        prompts = [collator.encode_prompt(row) for row in (short, long)]
        prefix = read_prefix(model, collator.pad([(prompt, []) for prompt in prompts])["inputs"])
        scores = score_answers(model, prefix, [[collator.encode_answer("Ana Lima.")]] * 2, rows_per_forward=4)
    assert float(together) == pytest.approx(float(alone), abs=2e-4)
    assert -scores[0][0].loss == pytest.approx(float(alone), abs=2e-4)


def test_conv1d_is_adapted_and_trained():
    model, processor = tiny_gpt2()
    names = lora_targets(model)
    assert names == [f"transformer.h.{i}.{part}" for i in (0, 1)
                     for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")]  # fmt: skip
    adapted = prepare_trainable(model, LoraSettings(r=2), freeze_vision=True)
    batch = {"retain": Collator(processor).rows([sample("Who?", "Ana Lima.")])}
    loss = score_views(StudentForward(adapted)(batch))["retain"].cross_entropy()
    loss.backward()
    grown = [n for n, p in adapted.named_parameters() if ".lora_B." in n and p.grad is not None and p.grad.any()]
    assert len(grown) == len(names)


def test_gpt2_goes_through_the_scripts(tmp_path):
    model, tokenizer = tiny_gpt2()
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "gpt2")
    run_script("nlp/finetune.py", f"model_path={tmp_path}/gpt2", "split=forget10", "max_steps=2", "LoRA.r=2",
               "max_length=128", f"save_dir={tmp_path}/ft")  # fmt: skip
    run_script("nlp/eval.py", f"model_path={tmp_path}/ft", "ds_size=2", "eval_task_ids=[3]", "max_length=128",
               "generation.max_new_tokens=2", f"save_dir={tmp_path}/log")  # fmt: skip
    assert len(json.loads((tmp_path / "log" / "eval_log_forget.json").read_text())["avg_gt_loss"]) == 2
