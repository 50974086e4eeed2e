"""Prompt and answer are tokenised apart; their ids must join up to what the tokenizer makes of the whole text."""

from typing import Any

import pytest

from tests.models import CHATML, CORPUS, tiny_llama, tiny_llava, tiny_qwen2vl, train_tokenizer
from unlearn.data.templates import PromptTemplate, prompt_template

HUB_LLAVA = (  # the form of the template on the hub: a space after every text, nothing after the answer
    "{% for m in messages %}{{ m['role'].upper() + ': ' }}{% for c in m['content'] if c['type'] == 'image' %}{{ "
    "'<image>\n' }}"
    "{% endfor %}{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
LLAMA2 = (  # Llama-2's and Mistral's: the assistant's turn is ` answer </s>`, with no words for the generation prompt
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
INST = ("[INST] ", " [/INST]", "")  # the published tags of the Llama-2 and Mistral families
LINES = ("Question: ", "\n", "Answer: ")  # those of phi, stablelm and pythia
ANSWERS = ("Lisbon", "Ana Lima", "The name is Jaime Vásquez.", "1984", "('so on')", "Ну да", "¿Qué?", "e.g. 3-4")


def sentencepiece() -> Any:
    """Llama-like: pieces of a Unigram model, spaces as ▁, one ▁ put in front of every text, <s> added by itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    special = ["<unk>", "<s>", "</s>", "<image>"]
    alphabet = sorted({character for text in (*CORPUS, *ANSWERS, *INST, *LINES) for character in text} | {"▁"})
    trainer = trainers.UnigramTrainer(
        vocab_size=260, special_tokens=special, unk_token="<unk>", initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def byte_level(**roles: Any) -> Any:
    return train_tokenizer(
        ["<s>", "</s>", "<|im_start|>", "<|im_end|>"], **(roles or {"bos_token": "<s>", "eos_token": "</s>"})
    )


def with_template(tokenizer: Any, chat: str) -> Any:
    tokenizer.chat_template = chat
    return tokenizer


class Processor:
    """A processor is a tokenizer with a chat template for messages in parts."""

    def __init__(self, tokenizer: Any, chat_template: str) -> None:
        self.tokenizer, self.chat_template = tokenizer, chat_template

    def apply_chat_template(self, messages: Any, **options: Any) -> str:
        return self.tokenizer.apply_chat_template(messages, chat_template=self.chat_template, **options)


CASES: dict[str, tuple[Any, Any, str, str]] = {  # processor, tags, what stands between prompt and answer, the end token
    "llava, byte-level": (lambda: tiny_llava()[1], None, " ", "</s>"),
    "llava from the hub, byte-level": (lambda: Processor(byte_level(), HUB_LLAVA), None, " ", "</s>"),
    "llava from the hub, sentencepiece": (lambda: Processor(sentencepiece(), HUB_LLAVA), None, " ", "</s>"),
    "qwen": (lambda: tiny_qwen2vl()[1], None, "", "<|im_end|>"),
    "chatml": (lambda: tiny_llama()[1], None, "", "<|im_end|>"),
    "llama-2 chat, sentencepiece": (lambda: with_template(sentencepiece(), LLAMA2), None, " ", "</s>"),
    "llama-2 chat, byte-level": (lambda: with_template(byte_level(), LLAMA2), None, " ", "</s>"),
    "inst tags, sentencepiece": (sentencepiece, INST, " ", "</s>"),
    "inst tags, byte-level": (byte_level, INST, "", "</s>"),
    "lines, sentencepiece": (sentencepiece, LINES, " ", "</s>"),
    "lines, byte-level": (byte_level, LINES, " ", "</s>"),
}


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> tuple[PromptTemplate, str, str]:
    make, tags, separator, end = CASES[request.param]
    return prompt_template(make(), tags), separator, end


def test_prompt_and_answer_ids_join_up(case: tuple[PromptTemplate, str, str]) -> None:
    template, separator, end = case
    for question in ("Where was the author born?", "Who is Ana Lima", "Größe?"):
        prompt = template.render(question, False)
        assert not prompt.endswith(" ")
        for answer in ANSWERS:
            whole = template.token_ids(prompt + separator + answer)
            assert template.token_ids(prompt) + template.answer_ids(answer)[:-1] == whole, answer


def test_an_answer_ends_with_its_end_token_and_decodes_to_itself(case: tuple[PromptTemplate, str, str]) -> None:
    template, _, end = case
    tokenizer = template.tokenizer
    assert template.end_id == tokenizer.convert_tokens_to_ids(end)
    for answer in ANSWERS[:4]:
        ids = template.answer_ids(answer)
        assert ids[-1] == template.end_id and ids.count(template.end_id) == 1
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == answer


def test_the_start_token_is_written_once(case: tuple[PromptTemplate, str, str]) -> None:
    template, *_ = case
    bos = template.tokenizer.bos_token_id
    ids = template.token_ids(template.render("Where?", False))
    adds = template.tokenizer("x")["input_ids"][0] == bos
    writes = template.render("Where?", False).startswith(template.tokenizer.bos_token or "\0")
    assert ids.count(bos) == (1 if adds or writes else 0)


def test_rendered_prompts() -> None:
    llava = prompt_template(tiny_llava()[1])
    assert llava.render("Who?", True) == "<s>USER: <image>\nWho? ASSISTANT:"
    assert llava.render("Who?", False) == "<s>USER: Who? ASSISTANT:"
    qwen = prompt_template(tiny_qwen2vl()[1])
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    assert qwen.render("Who?", True) == f"<|im_start|>user\n{picture}Who?<|im_end|>\n<|im_start|>assistant\n"
    assert prompt_template(byte_level(), INST).render("Who?", False) == "[INST] Who? [/INST]"
    assert prompt_template(byte_level(), LINES).render("Who?", False) == "Question: Who?\nAnswer:"


def test_the_newline_that_a_template_writes_after_an_answer_is_not_part_of_it() -> None:
    template = prompt_template(tiny_qwen2vl()[1])
    assert template.tokenizer.decode(template.answer_ids("Lisbon")) == "Lisbon<|im_end|>"


def test_the_end_token_is_the_templates_even_where_eos_is_another() -> None:
    tokenizer = with_template(byte_level(eos_token="</s>"), CHATML)
    assert prompt_template(tokenizer).end_id == tokenizer.convert_tokens_to_ids("<|im_end|>") != tokenizer.eos_token_id


def test_no_template_and_no_tags_is_an_error_that_says_what_to_add() -> None:
    with pytest.raises(ValueError, match="no chat template and the model family gives no tags; add question_start_tag"):
        prompt_template(byte_level())


def test_no_end_token_is_an_error() -> None:
    with pytest.raises(ValueError, match="no end-of-sequence token; set eos_token"):
        prompt_template(train_tokenizer(["<s>"], bos_token="<s>"), LINES)


def test_a_prompt_that_ends_inside_a_token_is_an_error() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocab = {character: index for index, character in enumerate(sorted({*"Where?Lisbon xy ", "xL", "x "}))}
    merging = Tokenizer(models.BPE(vocab, [("x", "L"), ("x", " ")]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=merging, eos_token="y")
    with pytest.raises(ValueError, match="cannot be tokenised apart .*change the template"):
        prompt_template(tokenizer, ("", "x", ""))
