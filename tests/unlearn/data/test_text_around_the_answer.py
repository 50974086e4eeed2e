"""What a template writes between prompt and answer belongs to the prompt, and a row's own text is never a mark."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.bad_input import ROOT, run_script
from tests.models import tiny_llama, tiny_llava, tiny_qwen2vl, train_tokenizer
from tests.unlearn.data.test_templates import with_template
from unlearn.data.collator import Collator
from unlearn.data.templates import prompt_template

LLAMA = "minibench/weights/llama-mini"
USER = "{% for m in messages %}{% if m.role == 'user' %}user: {{ m.content }}\n{% endif %}"
TURN = USER + "{% if m.role == 'assistant' %}"
END = "{{ eos_token + '\n' }}{% endif %}{% endfor %}"
ASK = "{% if add_generation_prompt %}assistant: "
THINK = "<think>\n\n</think>\n\n"
EMPTY = "{{ '" + THINK.replace("\n", "\\n") + "' }}"
TEMPLATES = {  # template -> (prompt of "Who?", answer "Ana" with its end)
    "an empty think block in whole conversations": (
        TURN + "assistant: " + EMPTY + "{{ m.content }}" + END + ASK + "{% endif %}",
        f"user: Who?\nassistant: {THINK}", "Ana</s>"),
    "a think block that enable_thinking=false writes": (
        TURN + "assistant: " + EMPTY + "{{ m.content }}" + END + ASK + "{% if enable_thinking is false %}" + EMPTY
        + "{% endif %}{% endif %}", f"user: Who?\nassistant: {THINK}", "Ana</s>"),
    "a thought that only generation opens": (
        TURN + "assistant: {{ m.content }}" + END + ASK + "<think>\n{% endif %}", "user: Who?\nassistant:", " Ana</s>"),
    "no generation prompt": (
        TURN + "assistant: {{ m.content }}" + END, "user: Who?\nassistant:", " Ana</s>"),
    "no words for the answer": (TURN + "{{ m.content }}" + END, "user: Who?\n", "Ana</s>"),
    "a channel before the answer": (
        TURN + "assistant|final| {{ m.content }}" + END + "{% if add_generation_prompt %}assistant{% endif %}",
        "user: Who?\nassistant|final|", " Ana</s>"),
    "a header for generation only": (
        TURN + "{{ m.content }}" + END + ASK + "{% endif %}", "user: Who?\nassistant:", " Ana</s>"),
    "Llama-2, a space before the end": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} "
        "{{ m.content }} {{ eos_token }}{% endif %}{% endfor %}", "<s>[INST] Who? [/INST]", " Ana </s>"),
    "the day by strftime_now": (
        "Today: {{ strftime_now('%d %B %Y') }}{% if date_string is defined %} {{ date_string }}{% endif %}{{ '\n' }}"
        + TURN + "assistant: {{ m.content }}" + END + ASK + "{% endif %}",
        "Today: 26 July 2024 26 Jul 2024\nuser: Who?\nassistant:", " Ana</s>"),
}  # fmt: skip


def tokenizer_of(template: str) -> Any:
    special = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    return with_template(train_tokenizer(special, bos_token="<s>", eos_token="</s>"), template)


@pytest.mark.parametrize("name", TEMPLATES)
def test_only_white_space_moves_into_the_answer(name):
    chat, prompt, answer = TEMPLATES[name]
    template = prompt_template(tokenizer := tokenizer_of(chat))
    assert template.render("Who?", False) == prompt
    ids = template.answer_ids("Ana")
    assert tokenizer.decode(ids) == answer
    if "generation only" not in name:  # there a whole conversation is written otherwise
        turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ana"}]
        whole = tokenizer.apply_chat_template(turns, tokenize=False, date_string="26 Jul 2024")
        if "strftime_now" not in chat:
            assert prompt + tokenizer.decode(ids) == whole.rstrip("\n")
            assert template.token_ids(prompt) + ids == tokenizer(whole.rstrip("\n"), add_special_tokens=False).input_ids


def test_answers_are_trimmed_where_the_template_trims_them():
    trimming = prompt_template(tokenizer_of(TURN + "assistant: {{ m.content | trim }}" + END))
    assert trimming.answer_ids("  Ana\n") == trimming.answer_ids("Ana")
    keeping = prompt_template(tokenizer_of(TURN + "assistant: {{ m.content }}" + END))
    assert keeping.answer_ids("  Ana\n") != keeping.answer_ids("Ana")


MARKS = ["<image>", "</s>", "<|im_end|>", "<|image_pad|>", "<s>", "<|vision_start|>", "a</s>b<image><image>"]


@pytest.mark.parametrize("make", [tiny_llava, tiny_qwen2vl, tiny_llama])
@pytest.mark.parametrize("mark", MARKS)
def test_a_row_s_text_neither_shows_a_picture_nor_ends_a_turn(make, mark):
    collator = Collator(make()[1])
    template = collator.template
    plain, marked = (
        template.token_ids(template.render(f"Who is{text}?", False)) + template.answer_ids(f"Ana{text} Lima")
        for text in ("", f" {mark}")
    )
    special = {id for id, token in collator.tokenizer.added_tokens_decoder.items() if token.special}
    assert [id for id in marked if id in special] == [id for id in plain if id in special]
    read = collator.tokenizer.decode(marked, skip_special_tokens=True)
    assert read.replace(" ", "").count(mark) == 2, "the text itself is still there"


def evaluated(tmp_path: Path, processor: Path | str, *words: str) -> dict[str, Any]:
    """nlp/eval.py on the forget task, its log."""
    run_script("nlp/eval.py", f"model_path={LLAMA}", f"processor_path={processor}", "ds_size=3", "eval_task_ids=[3]",
               "generation.max_new_tokens=2", f"save_dir={tmp_path}", *words)  # fmt: skip
    return json.loads((tmp_path / "eval_log_forget.json").read_text())


@pytest.fixture
def processors(tmp_path: Path) -> Any:
    """llama-mini's tokenizer with another template or pad token."""

    def make(name: str, chat: str | None = None, pad: str | None = None) -> Path:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(ROOT / LLAMA)
        if chat:
            tokenizer.chat_template = chat
        if pad:
            tokenizer.add_special_tokens({"pad_token": pad})
        tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name

    yield make
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_scripts_score_the_answer_alone_and_pad_with_any_id(tmp_path, processors):
    """A think block in the prompt adds no token to an answer; a pad token without an embedding changes no loss."""
    usual = evaluated(tmp_path / "a", LLAMA)
    outside = evaluated(tmp_path / "b", processors("pad", pad="[PAD]"))
    assert outside["avg_gt_loss"] == usual["avg_gt_loss"] and outside["generated_text"] == usual["generated_text"]
    thinks = TEMPLATES["an empty think block in whole conversations"][0].replace("assistant: ", "assistant:")
    thinking = evaluated(tmp_path / "c", processors("think", thinks))
    plain = evaluated(tmp_path / "d", processors("plain", thinks.replace(EMPTY, "")))
    assert thinking["num_token_gt"] == plain["num_token_gt"]


def test_text_without_an_embedding_is_named_before_a_model_loads(tmp_path, processors, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    chat = TURN + "assistant: {{ m.content }}" + "[PAD]" + END
    with pytest.raises(ValueError, match=r"holds the token '\[PAD\]' \(id 1024\).*ids below 1024.*processor_path"):
        evaluated(tmp_path / "e", processors("text", chat, pad="[PAD]"))
