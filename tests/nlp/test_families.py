"""The model classes behind the text families, tiny and random: adapters, scores, hidden states and evaluation of
each."""

import functools
from typing import Any

import pytest
import torch

from tests.models import train_tokenizer
from unlearn.data.collator import Collator
from unlearn.data.samples import EvalItem
from unlearn.evaluation.measure import measure_batch
from unlearn.method import HiddenSpec
from unlearn.models.families import decoder_layers
from unlearn.models.forward import StudentForward
from unlearn.models.lora import lora_targets
from unlearn.scoring import IGNORE_INDEX

TAGS = ("Question: ", "\n", "Answer: ")
SIZE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 256, "pad_token_id": None}  # fmt: skip
CLASSES = {  # config class -> linears of a decoder block
    "PhiConfig": 6, "StableLmConfig": 7, "GPTNeoXConfig": 4, "MistralConfig": 7, "Qwen2Config": 7, "LlamaConfig": 7,
}  # fmt: skip
QUESTIONS = [("Who?", "A poet."), ("Where was Ana Lima born, and when?", "In Lisbon, the 5th of May."), ("Why?", "So.")]


@functools.cache
def tiny(name: str) -> tuple[Any, Collator]:
    import transformers

    tokenizer = train_tokenizer(["<|endoftext|>"], eos_token="<|endoftext|>", bos_token="<|endoftext|>")
    ids = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    extra: dict[str, Any] = {} if name in ("PhiConfig", "GPTNeoXConfig") else {"num_key_value_heads": 2}
    extra |= {"sliding_window": None} if name == "MistralConfig" else {}  # as in Mistral-7B-Instruct-v0.3
    config = getattr(transformers, name)(vocab_size=len(tokenizer), **SIZE, **ids, **extra)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape) * 1.5 * parameter.shape[1] ** -0.5)
    return model, Collator(tokenizer, tags=TAGS)


def sample(question: str, answer: str) -> Any:
    return {"question": question, "answer": answer, "image": None, "id": question}


@pytest.mark.parametrize("name", list(CLASSES))
def test_adapters_go_to_the_decoder_and_not_to_the_head(name):
    model, _ = tiny(name)
    names = lora_targets(model)
    assert len(names) == CLASSES[name] * decoder_layers(model)
    heads = [path for path, module in model.named_modules() if module is model.get_output_embeddings()]
    assert heads and not set(heads) & set(names)


@pytest.mark.parametrize("name", list(CLASSES))
def test_scored_views_equal_plain_forwards(name):
    model, collator = tiny(name)
    student = StudentForward(model, HiddenSpec(layer=0))
    batch = collator.rows([sample(*pair) for pair in QUESTIONS])
    with torch.no_grad():
        out = student({"forget": batch})["forget"]
        for row, (question, answer) in enumerate(QUESTIONS):
            alone = collator.pad(collator.rows([sample(question, answer)])["rows"])
            plain = model(**alone["inputs"], output_hidden_states=True)
            labels = alone["labels"][0]
            where = torch.nonzero(labels != IGNORE_INDEX)[:, 0]
            length = len(where)
            expected = plain.logits[0, where - 1]
            torch.testing.assert_close(out["logits"][row, -length:], expected, atol=2e-5, rtol=1e-4)
            assert out["labels"][row, -length:].tolist() == labels[where].tolist()
            seen = out["hidden_mask"][row]
            torch.testing.assert_close(out["hidden"][row][seen], plain.hidden_states[1][0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", list(CLASSES))
def test_evaluation_equals_one_forward_per_answer(name, tmp_path):
    model, collator = tiny(name)
    wrong = [["A cook.", "A poet, a cook."], ["In Rome."], ["No.", "No, no, no.", "So."]]
    items = [
        EvalItem(str(row), sample(question, answer), answer, others)
        for row, ((question, answer), others) in enumerate(zip(QUESTIONS, wrong, strict=True))
    ]
    rows = measure_batch(model, collator, items, task="t", max_new_tokens=12, folder=tmp_path)
    for row, item in zip(rows, items, strict=True):
        for text, (loss, tokens) in zip(
            [item.sample["answer"], *item.wrong_answers], [row["exact"], *row["wrong"]], strict=True
        ):
            alone = collator.pad(collator.rows([sample(item.sample["question"], text)])["rows"])
            with torch.no_grad():
                logps = model(**alone["inputs"]).logits[0, :-1].log_softmax(-1)
            labels = alone["labels"][0, 1:]
            kept = labels != IGNORE_INDEX
            assert tokens == int(kept.sum())
            assert loss == pytest.approx(-float(logps[kept].gather(1, labels[kept, None]).sum()), abs=2e-4)
        prompt = collator.pad([(collator.encode_prompt(item.sample), ())])["inputs"]
        with torch.no_grad():
            whole = model.generate(**prompt, max_new_tokens=12, do_sample=False, pad_token_id=collator.pad_id)
        new = whole[0, prompt["input_ids"].shape[1] :]
        assert row["generation"] == collator.tokenizer.decode(new, skip_special_tokens=True).strip()
