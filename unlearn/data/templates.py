"""How a question becomes a prompt, and where the answer starts and ends after it."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from unlearn.data.samples import Sample

PROBE_ANSWER = "Lisbon"
DAY = datetime(
    2024, 7, 26
)  # some templates write the day into the prompt: a run must not depend on when it was started
DATE = DAY.strftime("%d %b %Y")
# `strftime_now` of a template, for DAY alone: its codes are spelled out, since only plain data reaches a template.
_CODES = ("%-d", "%-m", *(f"%{code}" for code in "aAbBdmYyHIMSpjuw"))
_SPELLED = "".join(f"|replace('{code}', '{DAY.strftime(code)}')" for code in _CODES)
FIXED_DAY = "{%- macro strftime_now(format) -%}{{ format" + _SPELLED + " }}{%- endmacro -%}"
_THINKS = re.compile(r"(?i)[<\[|]\W*(think|reason)")  # a generation prompt that opens a thought


@dataclass(frozen=True)
class PromptTemplate:
    """A chat template, or plain tags around the question, with what separates and ends the answer.

    Prompt and answer are what a whole rendered conversation says, thinking switched off: text between the generation
    prompt and the answer (an empty think block, a channel, the header of templates without a generation prompt) is
    `lead`, part of the prompt; a thought that only the generation prompt opens is `cut` from it. Only white space moves
    into the answer.

    `answer_prefix` is what the tokenizer wants in front of an answer so that ids(prompt) + ids(prefix + answer) equals
    ids(prompt + separator + answer): a space for byte-level BPE, nothing for SentencePiece, which adds its own.
    `closing` is the white space between an answer and its end token (Llama-2's space), `trims` whether the template
    strips answers. `special` are the tokenizer's own marks, which are spelled with a space inside where they stand in
    a question or answer ("<image>" -> "< image>"): a row's text can neither show a picture nor end a turn.
    """

    processor: Any
    tags: tuple[str, str, str] | None
    answer_prefix: str
    end_id: int
    lead: str = ""
    cut: str = ""
    closing: str = ""
    trims: bool = False
    special: re.Pattern[str] | None = None

    @property
    def tokenizer(self) -> Any:
        return getattr(self.processor, "tokenizer", self.processor)

    def plain(self, text: str) -> str:
        """A row's own text without a mark that the tokenizer or processor would act on."""
        return self.special.sub(lambda mark: f"{mark[0][0]} {mark[0][1:]}", text) if self.special else text

    def render(self, question: str, has_image: bool) -> str:
        """The prompt up to the point where the answer begins, without trailing spaces (they belong to the answer)."""
        text = _render(self.processor, self.tags, self.plain(question), has_image)
        return (text.removesuffix(self.cut) + self.lead).rstrip(" ")

    def prompt(self, sample: Sample) -> tuple[str, str]:
        """(the question of a sample rendered, what the model's turn begins with already: "" without a prefill).

        Raises:
            ValueError: after the prefill an answer cannot be tokenised apart, with neither a space nor a new line.
        """
        prompt = self.render(sample["question"], sample["image"] is not None)
        prefill = sample.get("prefill")
        if not prefill:
            return prompt, ""
        begun = (self._gap(prompt) or "") + prefill
        for text, gap in ((begun, " "), (f"{begun}\n", "")):
            if self._gap(prompt + text) == gap:
                return prompt, text
        raise ValueError(
            f"{self.tokenizer.name_or_path}: an answer cannot be tokenised apart after {prefill!r} (the ids do not "
            "join up); prefill something that ends at a token boundary."
        )

    def _gap(self, text: str) -> str | None:
        """What stands between `text` and an answer that was tokenised apart: a space or nothing; None: they do not
        join up."""
        joined = self.token_ids(text) + self.answer_ids(PROBE_ANSWER)[:-1]
        whole = (text + gap + PROBE_ANSWER + self.closing for gap in (" ", ""))
        return next((gap for gap, one in zip((" ", ""), whole, strict=True) if self.token_ids(one) == joined), None)

    def token_ids(self, text: str) -> list[int]:
        """Ids of a prompt, with the tokenizer's own start token unless the template has already written it."""
        bos = self.tokenizer.bos_token
        return self.tokenizer(text, add_special_tokens=not (bos and text.startswith(bos)))["input_ids"]

    def answer_ids(self, answer: str) -> list[int]:
        """Ids of one answer with its end token; the template's newline after it is not part of the answer."""
        text = self.plain(answer.strip() if self.trims else answer)
        ids = self.tokenizer(self.answer_prefix + text + self.closing, add_special_tokens=False)["input_ids"]
        return ids + [self.end_id]


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
    cut, lead, tail = _around_answer(processor, tags, raw)
    whole = raw.removesuffix(cut) + lead
    prompt = whole.rstrip(" ")
    separator = whole[len(prompt) :]
    end_id, closing = _end_token(tokenizer, tail)
    trims = tags is None and "  Lisbon  " not in _conversation(processor, "  Lisbon  ")
    # SentencePiece cannot join "[/INST]" and an answer without a space: Llama-2's own format has one there.
    for between, prefix in dict.fromkeys((sep, pre) for sep in (separator, " ") for pre in (sep, "", " ")):
        template = PromptTemplate(
            processor, tags, prefix, end_id, lead, cut, closing, trims, _special_marks(processor, tokenizer)
        )
        joined = template.token_ids(prompt) + template.answer_ids(PROBE_ANSWER)[:-1]
        if joined == template.token_ids(prompt + between + PROBE_ANSWER + closing):
            return template
    raise ValueError(
        f"{tokenizer.name_or_path}: prompt and answer cannot be tokenised apart (their ids do not join up at "
        f"{prompt[-12:]!r} + {separator + PROBE_ANSWER!r}); change the template so that the prompt ends at a token "
        "boundary."
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


def _conversation(processor: Any, answer: str) -> str:
    return _apply(processor, _messages(processor, "Where?", False, answer))


def _apply(processor: Any, messages: list[dict[str, Any]], **options: Any) -> str:
    """A conversation as text, of a fixed day and without a thought."""
    tokenizer = getattr(processor, "tokenizer", processor)
    chat = getattr(processor, "chat_template", None) or tokenizer.chat_template
    if isinstance(chat, dict):  # several by name, of which this is the one for conversations
        chat = chat["default"]
    if "strftime_now" in chat:
        chat = FIXED_DAY + chat
    options |= {"date_string": DATE, "enable_thinking": False}
    return tokenizer.apply_chat_template(messages, chat_template=chat, tokenize=False, **options)


def _around_answer(processor: Any, tags: tuple[str, str, str] | None, raw: str) -> tuple[str, str, str]:
    """What a whole rendered conversation shows of the generation prompt `raw`: (what to take off its end, what to add
    up to the answer, what follows the answer)."""
    if tags is not None:
        return "", "", ""
    whole = _conversation(processor, PROBE_ANSWER)
    start = whole.rfind(PROBE_ANSWER)
    if start < 0:
        return "", "", ""
    head, tail = whole[:start], whole[start + len(PROBE_ANSWER) :]
    if head.startswith(raw.rstrip(" ")):
        stem = raw if head.startswith(raw) else raw.rstrip(" ")
        return raw[len(stem) :], head[len(stem) :], tail
    stem = head.rstrip()
    opened = raw[len(stem) :]
    if raw.startswith(stem) and _THINKS.search(opened):
        return opened, head[len(stem) :], tail
    return "", "", tail  # text that is written for generation only: the answer follows it directly


def _end_token(tokenizer: Any, tail: str) -> tuple[int, str]:
    """The special token that the template writes after an answer, else the end-of-sequence token, and the spaces
    before it."""
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    for token in tokenizer(tail.strip(), add_special_tokens=False)["input_ids"] if tail.strip() else []:
        if token in special:
            before = tail.partition(tokenizer.convert_ids_to_tokens(token))[0]
            return token, "" if before.strip() else before
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{tokenizer.name_or_path}: no end-of-sequence token; set eos_token in its tokenizer config.")
    return tokenizer.eos_token_id, ""


def _special_marks(processor: Any, tokenizer: Any) -> re.Pattern[str] | None:
    """Whatever the tokenizer, or the processor, takes for more than text."""
    added = tokenizer.added_tokens_decoder.values()
    marks = {token.content for token in added if token.special or token.content[:1] in "<[|"}
    marks |= {str(token) for token in tokenizer.all_special_tokens}
    marks |= {str(getattr(processor, f"{kind}_token", None) or "") for kind in ("image", "video", "audio")}
    longest = sorted((mark for mark in marks if len(mark.strip()) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest))) if longest else None
