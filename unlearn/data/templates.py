"""How a question becomes a prompt, and where the answer starts and ends after it."""

from dataclasses import dataclass
from typing import Any

PROBE_ANSWER = "Lisbon"
DATE = "26 Jul 2024"  # some templates write the day into the prompt: a run must not depend on when it was started


@dataclass(frozen=True)
class PromptTemplate:
    """A chat template, or plain tags around the question, with what separates and ends the answer.

    `answer_prefix` is what the tokenizer wants in front of an answer so that ids(prompt) + ids(prefix + answer) equals
    ids(prompt + separator + answer): a space for byte-level BPE, nothing for SentencePiece, which adds its own.
    """

    processor: Any
    tags: tuple[str, str, str] | None
    answer_prefix: str
    end_id: int

    @property
    def tokenizer(self) -> Any:
        return getattr(self.processor, "tokenizer", self.processor)

    def render(self, question: str, has_image: bool) -> str:
        """The prompt up to the point where the answer begins, without trailing spaces (they belong to the answer)."""
        return _render(self.processor, self.tags, question, has_image).rstrip(" ")

    def token_ids(self, text: str) -> list[int]:
        """Ids of a prompt, with the tokenizer's own start token unless the template has already written it."""
        bos = self.tokenizer.bos_token
        return self.tokenizer(text, add_special_tokens=not (bos and text.startswith(bos)))["input_ids"]

    def answer_ids(self, answer: str) -> list[int]:
        """Ids of one answer with its end token; the template's newline after it is not part of the answer."""
        return self.tokenizer(self.answer_prefix + answer, add_special_tokens=False)["input_ids"] + [self.end_id]


def prompt_template(processor: Any, tags: tuple[str, str, str] | None = None) -> PromptTemplate:
    """The template of `processor` (or tokenizer): its own chat template, else `tags` = (before question, after, before
    answer).

    Raises ValueError when there is neither, when no end token is known, or when answers cannot be tokenised apart.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    if tags is None and not has_chat_template(processor):
        raise ValueError(
            f"{tokenizer.name_or_path}: its tokenizer has no chat template and the model family gives no tags; "
            "add question_start_tag, question_end_tag and answer_tag to its entry in config/model_config.yaml."
        )
    raw = _render(processor, tags, "Where?", False)
    prompt = raw.rstrip(" ")
    separator, tail = _around_answer(processor, tags, raw, prompt)
    end_id = _end_token(tokenizer, tail)
    # SentencePiece cannot join "[/INST]" and an answer without a space: Llama-2's own format has one there.
    for between, prefix in dict.fromkeys((sep, pre) for sep in (separator, " ") for pre in (sep, "", " ")):
        template = PromptTemplate(processor, tags, prefix, end_id)
        joined = template.token_ids(prompt) + template.answer_ids(PROBE_ANSWER)[:-1]
        if joined == template.token_ids(prompt + between + PROBE_ANSWER):
            return template
    raise ValueError(
        f"{tokenizer.name_or_path}: prompt and answer cannot be tokenised apart (their ids do not join up at "
        f"{prompt[-12:]!r} "
        f"+ {separator + PROBE_ANSWER!r}); change the template so that the prompt ends at a token boundary."
    )


def has_chat_template(processor: Any) -> bool:
    """Whether the processor, or its tokenizer, brings a chat template."""
    tokenizer = getattr(processor, "tokenizer", processor)
    return bool(getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None))


def _messages(processor: Any, question: str, has_image: bool, answer: str | None = None) -> list[dict[str, Any]]:
    if processor is getattr(processor, "tokenizer", processor):  # text-only templates take plain strings
        messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
        return messages if answer is None else [*messages, {"role": "assistant", "content": answer}]
    content: list[dict[str, Any]] = [{"type": "image"}] * has_image + [{"type": "text", "text": question}]
    messages = [{"role": "user", "content": content}]
    return (
        messages
        if answer is None
        else [*messages, {"role": "assistant", "content": [{"type": "text", "text": answer}]}]
    )


def _render(processor: Any, tags: tuple[str, str, str] | None, question: str, has_image: bool) -> str:
    if tags is not None:
        return tags[0] + question + tags[1] + tags[2]
    return _apply(processor, _messages(processor, question, has_image), add_generation_prompt=True)


def _apply(processor: Any, messages: list[dict[str, Any]], **options: Any) -> str:
    """A conversation as text. Only language models' templates ask for the day."""
    if processor is getattr(processor, "tokenizer", processor):
        options["date_string"] = DATE
    return processor.apply_chat_template(messages, tokenize=False, **options)


def _around_answer(processor: Any, tags: tuple[str, str, str] | None, raw: str, prompt: str) -> tuple[str, str]:
    """What stands between prompt and answer, and what follows the answer, in a whole rendered conversation."""
    if tags is not None:
        return raw[len(prompt) :], ""
    messages = _messages(processor, "Where?", False, PROBE_ANSWER)
    whole = _apply(processor, messages)
    start = whole.rfind(PROBE_ANSWER)
    if not whole.startswith(prompt) or start < len(prompt):
        return raw[len(prompt) :], ""  # templates that add text only for generation: the answer follows it directly
    return whole[len(prompt) : start], whole[start + len(PROBE_ANSWER) :]


def _end_token(tokenizer: Any, tail: str) -> int:
    """The special token that the template writes after an answer, else the end-of-sequence token."""
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    for token in tokenizer(tail.strip(), add_special_tokens=False)["input_ids"] if tail.strip() else []:
        if token in special:
            return token
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{tokenizer.name_or_path}: no end-of-sequence token; set eos_token in its tokenizer config.")
    return tokenizer.eos_token_id
