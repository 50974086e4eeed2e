"""Text prompts of every style: what is asked, what is scored, and that padding never eats an end token."""

import functools
from pathlib import Path
from typing import Any

import pytest

from tests.models import train_tokenizer
from unlearn.data.collator import Collator
from unlearn.models.families import Family, load_family
from unlearn.models.start import Start
from unlearn.pipeline import load_collator
from unlearn.scoring import IGNORE_INDEX

MINI = Start.of("minibench/weights/llama-mini")
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] "
    "}}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
TEXTS = ["[INST] Where was Ana Lima born? [/INST] In Lisbon.", "Question: Who is Jaime?\nAnswer: A poet of Santiago."]


@functools.cache
def llama_tokenizer(chat_template: str | None) -> Any:
    """transformers' own LlamaTokenizer (SentencePiece pieces with byte fallback) over a trained vocabulary; pad is
    eos."""
    import json

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaTokenizer

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    llama = LlamaTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    llama.pad_token, llama.chat_template = llama.eos_token, chat_template
    return llama


@functools.cache
def byte_tokenizer(chat_template: str | None) -> Any:
    """A GPT-2-like tokenizer whose pad is its eos, as those of phi, stablelm and pythia are used."""
    special = ["<|endoftext|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    end = "<|eot_id|>" if chat_template == LLAMA3 else "<|endoftext|>"
    tokenizer = train_tokenizer(special, bos_token="<|endoftext|>", eos_token=end, pad_token=end)
    tokenizer.chat_template = chat_template
    return tokenizer


STYLES = {  # tokenizer, tags, the prompt of "Who?", the end token
    "mistral": (llama_tokenizer, MISTRAL, None, "<s>[INST] Who?[/INST]", "</s>"),
    "llama-2 tags": (llama_tokenizer, None, load_family("llama2-7b").tags, "[INST] Who? [/INST]", "</s>"),
    "phi tags": (byte_tokenizer, None, load_family("phi").tags, "Question: Who?\nAnswer:", "<|endoftext|>"),
    "llama-3": (
        byte_tokenizer,
        LLAMA3,
        None,
        "<|endoftext|><|start_header_id|>user<|end_header_id|>\n\n"
        "Who?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
    ),
}


def sample(question: str, answer: str) -> Any:
    return {"question": question, "answer": answer, "image": None, "id": question}


@pytest.mark.parametrize("style", list(STYLES))
def test_exactly_the_answer_and_its_end_are_scored(style):
    make, chat, tags, prompt, end = STYLES[style]
    tokenizer = make(chat)
    collator = Collator(tokenizer, tags=tags)
    assert collator.template.render("Who?", False) == prompt
    pairs = [
        ("Who?", "A poet."),
        ("Where was Ana Lima born, and when?", "In Lisbon, the 5th"),
        ("Who is Jaime?", "Ana"),
    ]
    rows = collator.pad(collator.rows([sample(*pair) for pair in pairs])["rows"])
    for row, (question, answer) in enumerate(pairs):
        labels = rows["labels"][row]
        scored = labels[labels != IGNORE_INDEX].tolist()
        assert tokenizer.decode(scored[:-1]).strip() == answer and scored[-1] == tokenizer.convert_tokens_to_ids(end)
        ids, mask = rows["inputs"]["input_ids"][row], rows["inputs"]["attention_mask"][row]
        length = int(mask.sum())
        assert mask.tolist() == [0] * (len(mask) - length) + [1] * length, (
            "padding stands on the left, the rest is read"
        )
        whole = collator.template.render(question, False)
        assert ids[-length:].tolist()[: -len(scored)] == collator.template.token_ids(whole)
        assert (labels[: -len(scored)] == IGNORE_INDEX).all()


@pytest.mark.parametrize("style", list(STYLES))
def test_pad_equal_to_eos_hides_no_end_token(style):
    make, chat, tags, _, end = STYLES[style]
    tokenizer = make(chat)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids(end)
    short, long = sample("Who?", "A poet."), sample("Where was Ana Lima born, and when?", "In Lisbon, or so they say.")
    collator = Collator(tokenizer, tags=tags)
    rows = collator.pad(collator.rows([short, long])["rows"])
    assert rows["inputs"]["attention_mask"][0, 0] == 0 and rows["inputs"]["input_ids"][0, 0] == tokenizer.pad_token_id
    assert (
        rows["labels"][:, -1].tolist() == [tokenizer.eos_token_id] * 2 and rows["inputs"]["attention_mask"][:, -1].all()
    )


def test_prompt_and_answer_join_to_the_whole():
    """ids(prompt) + ids(answer) are what the tokenizer makes of Mistral's own rendering of the conversation."""
    tokenizer = llama_tokenizer(MISTRAL)
    template = Collator(tokenizer).template
    for answer in ("In Lisbon.", "1984", "Vásquez", "“so”"):
        turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": answer}]
        whole = tokenizer.apply_chat_template(turns, tokenize=False)
        joined = template.token_ids(template.render("Who?", False)) + template.answer_ids(answer)
        assert joined == tokenizer(whole, add_special_tokens=False)["input_ids"]


def test_the_chat_template_comes_before_the_tags(tmp_path: Path):
    family = Family(
        "inst", str(tmp_path), text_only=True, question_start_tag="Q: ", question_end_tag="\n", answer_tag="A: "
    )
    llama_tokenizer(MISTRAL).save_pretrained(tmp_path)
    assert load_collator(MINI, family, 64, str(tmp_path)).template.render("Who?", False) == "<s>[INST] Who?[/INST]"
    llama_tokenizer(None).save_pretrained(tmp_path / "bare")
    assert load_collator(MINI, family, 64, str(tmp_path / "bare")).template.render("Who?", False) == "Q: Who?\nA:"
    with pytest.raises(ValueError, match="no chat template.*question_start_tag"):
        load_collator(MINI, Family("none", str(tmp_path)), 64, str(tmp_path / "bare"))
