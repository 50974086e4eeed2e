"""Samples -> tensors, against tensors written out by hand, for real processors over a vocabulary one can read."""

from typing import Any

import pytest
import torch

from tests.models import CHATML, LLAVA_TEMPLATE, picture, tiny_llava, tiny_qwen2vl, tiny_qwen25vl
from unlearn.data.collator import Collator, row_key
from unlearn.data.samples import Sample

N = -100
WORDS = [
    "USER",
    "ASSISTANT",
    ":",
    "user",
    "assistant",
    "Where",
    "was",
    "Ana",
    "born",
    "?",
    "Describe",
    "In",
    "Rome",
    ".",
    "She",
    "wrote",
    "Question",
    "Answer",
]
LLAVA = ["<s>", "</s>", "<image>"]
QWEN = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]


def word_tokenizer(special: list[str], **roles: str) -> Any:
    """One id a word: the special tokens first, then WORDS in order."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {word: index for index, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=special[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=special, **roles)


def llava_processor() -> Any:
    """16-pixel pictures in patches of 8: four image tokens each. pad == eos, as LLaVA's tokenizer is often used."""
    from transformers import CLIPImageProcessorPil, LlavaProcessor

    size = {"height": 16, "width": 16}
    tokenizer = word_tokenizer(LLAVA, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    return LlavaProcessor(
        CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False), tokenizer, patch_size=8,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, chat_template=LLAVA_TEMPLATE,
    )  # fmt: skip


def qwen_processor() -> Any:
    """Patches of 4, merged two by two: a token per 8 x 8 pixels, so pictures differ in length."""
    from transformers import Qwen2VLImageProcessorPil

    from unlearn.models.processors import qwen_processor_class

    images = Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, temporal_patch_size=2,
                                      size={"shortest_edge": 64, "longest_edge": 4096})  # fmt: skip
    tokenizer = word_tokenizer(QWEN, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    return qwen_processor_class("qwen2_vl", image_only=True)(images, tokenizer, chat_template=CHATML)


def item(question: str, answer: Any, image: Any = None, id: str = "x") -> Sample:
    return {"question": question, "answer": answer, "image": image, "id": id}


def padded(collator: Collator, samples: list[Sample]) -> dict[str, Any]:
    """The view's rows, text and pictures padded apart."""
    rows = collator.rows(samples)["rows"]
    parts = {
        kind: [row for row in rows if bool(row[0].image_inputs) == (kind == "image")] for kind in ("text", "image")
    }
    return {kind: collator.pad(part) for kind, part in parts.items() if part}


def equal(tensor: torch.Tensor, rows: list[list[int]]) -> None:
    assert tensor.tolist() == rows


def test_llava_rows_by_hand() -> None:
    # ids: <s> 0, </s> 1, <image> 2, USER 3, ASSISTANT 4, : 5, Where 8, was 9, Ana 10, born 11, ? 12, Describe 13,
    #      In 14, Rome 15, . 16, She 17, wrote 18
    batch = padded(
        Collator(llava_processor()),
        [
            item("Describe.", "Ana.", picture(0, 16), "a"),
            item("Where was Ana born?", "In Rome.", None, "b"),
            item("Ana?", "She", None, "c"),
            item("Where?", "Ana wrote.", picture(1, 16), "d"),
        ],
    )
    text, image = batch["text"], batch["image"]
    equal(
        text["inputs"]["input_ids"],
        [
            [0, 3, 5, 8, 9, 10, 11, 12, 4, 5, 14, 15, 16, 1],
            [1, 1, 1, 1, 1, 0, 3, 5, 10, 12, 4, 5, 17, 1],  # padded on the left with </s>, which is also the end token
        ],
    )
    equal(text["inputs"]["attention_mask"], [[1] * 14, [0] * 5 + [1] * 9])
    equal(
        text["labels"], [[N] * 10 + [14, 15, 16, 1], [N] * 12 + [17, 1]]
    )  # the real </s> stays a label, pads are none
    assert text["answer_length"] == 4 and set(text["inputs"]) == {"input_ids", "attention_mask"}
    equal(
        image["inputs"]["input_ids"],
        [
            [1, 0, 3, 5, 2, 2, 2, 2, 13, 16, 4, 5, 10, 16, 1],
            [0, 3, 5, 2, 2, 2, 2, 8, 12, 4, 5, 10, 18, 16, 1],
        ],
    )
    equal(image["inputs"]["attention_mask"], [[0] + [1] * 14, [1] * 15])
    equal(image["labels"], [[N] * 12 + [10, 16, 1], [N] * 11 + [10, 18, 16, 1]])
    assert image["answer_length"] == 4
    assert image["inputs"]["pixel_values"].shape == (2, 3, 16, 16)


def test_qwen_rows_by_hand() -> None:
    # ids: endoftext 0, im_start 1, im_end 2, vision_start 3, vision_end 4, image_pad 5, user 10, assistant 11,
    #      Where 12, was 13, Ana 14, born 15, ? 16, Describe 17, In 18, Rome 19, . 20
    batch = padded(
        Collator(qwen_processor()),
        [
            item("Describe.", "Ana.", picture(0, side=16, height=8), "a"),  # two image tokens
            item("Where?", "In Rome.", picture(1, side=16, height=16), "b"),  # four
            item("Ana?", "Rome", None, "c"),
        ],
    )
    image, text = batch["image"], batch["text"]
    equal(
        image["inputs"]["input_ids"],
        [
            [0, 0, 0, 1, 10, 3, 5, 5, 4, 17, 20, 2, 1, 11, 14, 20, 2],
            [1, 10, 3, 5, 5, 5, 5, 4, 12, 16, 2, 1, 11, 18, 19, 20, 2],
        ],
    )
    equal(image["labels"], [[N] * 14 + [14, 20, 2], [N] * 13 + [18, 19, 20, 2]])
    equal(image["inputs"]["attention_mask"], [[0] * 3 + [1] * 14, [1] * 17])
    equal(
        image["inputs"]["mm_token_type_ids"],
        [
            [0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            [0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ],
    )
    equal(image["inputs"]["image_grid_thw"], [[1, 2, 4], [1, 4, 4]])
    assert image["inputs"]["pixel_values"].shape[0] == 2 * 4 + 4 * 4  # patches, one row each, in order
    equal(text["inputs"]["input_ids"], [[1, 10, 14, 16, 2, 1, 11, 19, 2]])
    equal(text["labels"], [[N] * 7 + [19, 2]])


def test_text_only_chat_and_tags_by_hand() -> None:
    chat = word_tokenizer(QWEN, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    chat.chat_template = CHATML
    rows = padded(Collator(chat), [item("Where?", "In Rome."), item("Ana?", "Rome")])["text"]
    equal(
        rows["inputs"]["input_ids"], [[1, 10, 12, 16, 2, 1, 11, 18, 19, 20, 2], [0, 0, 1, 10, 14, 16, 2, 1, 11, 19, 2]]
    )
    equal(rows["labels"], [[N] * 7 + [18, 19, 20, 2], [N] * 9 + [19, 2]])

    tagged = word_tokenizer(["<s>", "</s>"], bos_token="<s>", eos_token="</s>")  # no pad token, as for Llama
    collator = Collator(tagged, tags=("Question: ", "\n", "Answer: "))
    rows = padded(collator, [item("Where?", "In Rome."), item("Ana?", "Rome")])["text"]
    # Question 18, Answer 19, : 4, Where 7, ? 11, In 13, Rome 14, . 15, Ana 9; this tokenizer adds no <s> by itself
    equal(rows["inputs"]["input_ids"], [[18, 4, 7, 11, 19, 4, 13, 14, 15, 1], [1, 1, 18, 4, 9, 11, 19, 4, 14, 1]])
    equal(rows["inputs"]["attention_mask"], [[1] * 10, [0, 0] + [1] * 8])
    equal(rows["labels"], [[N] * 6 + [13, 14, 15, 1], [N] * 8 + [14, 1]])


def test_several_answers_come_answer_major() -> None:
    view = Collator(llava_processor()).rows(
        [
            item("Where?", ["Rome", "She", "In Rome."], picture(0, 16), "a"),
            item("Ana?", ["Ana", "born", "was"], None, "b"),
        ]
    )
    prompts, answers = zip(*view["rows"], strict=True)
    assert list(answers) == [[15, 1], [10, 1], [17, 1], [11, 1], [14, 15, 16, 1], [9, 1]]
    assert [prompt is prompts[place % 2] for place, prompt in enumerate(prompts)] == [True] * 6
    assert [bool(prompt.image_inputs) for prompt in prompts] == [True, False] * 3
    assert view["keys"] == [row_key(prompt, answer) for prompt, answer in view["rows"]] and len(set(view["keys"])) == 6


@pytest.mark.parametrize("tiny", [tiny_llava, tiny_qwen2vl, tiny_qwen25vl])
def test_prompt_ids_and_images_are_what_the_processor_makes_of_the_whole_prompt(tiny: Any) -> None:
    processor = tiny()[1]
    collator = Collator(processor)
    for number, question in enumerate(("What is in the picture?", "Describe this image.", "Größe, 3×4 — ¿qué?")):
        image = picture(number, side=16 + 8 * number, height=24)
        prompt = collator.encode_prompt(item(question, "x", image, str(number)))
        messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        whole = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False).rstrip(" ")
        expected = processor(text=[whole], images=[image], return_tensors="pt", add_special_tokens=False)
        assert prompt.ids == expected["input_ids"][0].tolist()
        assert prompt.ids.count(collator.image_token_id) > 1
        for name, tensor in prompt.image_inputs.items():
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
        assert set(expected) - set(prompt.image_inputs) <= {"input_ids", "attention_mask", "mm_token_type_ids"}
        if "mm_token_type_ids" in expected:
            padded = collator.pad([(prompt, [7, 8])])["inputs"]["mm_token_type_ids"]
            assert padded[0, :-2].tolist() == expected["mm_token_type_ids"][0].tolist()


def test_padding_that_looks_like_an_image_token_is_not_one() -> None:
    processor = qwen_processor()
    collator = Collator(processor)
    processor.tokenizer.pad_token = "<|image_pad|>"
    rows = collator.pad(
        collator.rows([item("Where?", "Rome", picture(0, 8), "a"), item("Where?", "In Rome.", picture(1, 16), "b")])[
            "rows"
        ]
    )
    assert rows["inputs"]["input_ids"][0, 0] == collator.image_token_id
    assert rows["inputs"]["mm_token_type_ids"].sum(1).tolist() == [1, 4]


@pytest.mark.parametrize("make", [llava_processor, qwen_processor])
def test_cached_images_give_the_same_tensors_and_are_processed_once(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    collator = Collator(make())
    samples = [item("Where?", "Rome", picture(0, 16), "a"), item("Describe.", "Ana", picture(1, 16), "b")]
    first = padded(collator, samples)["image"]["inputs"]
    monkeypatch.setattr(collator, "_encode_image", lambda *_: pytest.fail("the image was processed a second time"))
    again = padded(collator, samples)["image"]["inputs"]
    other = padded(collator, [item("Describe.", "Rome", samples[0]["image"], "a")])["image"]["inputs"]
    assert all(torch.equal(first[name], again[name]) for name in first)
    patches = len(first["pixel_values"]) // 2
    torch.testing.assert_close(other["pixel_values"], first["pixel_values"][:patches])
    assert (other["input_ids"] == collator.image_token_id).sum() == (
        first["input_ids"][0] == collator.image_token_id
    ).sum()


def test_the_image_cache_stays_within_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    import unlearn.data.collator as module

    monkeypatch.setattr(module, "IMAGE_CACHE_BYTES", 3 * 3 * 16 * 16 * 4)  # three pictures of 16 pixels
    collator = Collator(llava_processor())
    for number in range(6):
        collator.rows([item("Where?", "Rome", picture(number, 16), str(number))])
        assert collator._image_bytes <= module.IMAGE_CACHE_BYTES
    assert list(collator._images) == ["3", "4", "5"]


def test_an_item_that_does_not_fit_is_named_and_never_cut() -> None:
    samples = [item("Ana?", "Rome", None, "short"), item("Where was Ana born?", "In Rome.", picture(0, 16), "full/17")]
    assert padded(Collator(llava_processor(), max_length=18), samples)["image"]["labels"].shape == (1, 18)
    with pytest.raises(ValueError, match=r"full/17 needs 18 tokens \(14 prompt and image, 4 answer\).*max_length=17"):
        Collator(llava_processor(), max_length=17).rows(samples)


def test_an_image_for_a_text_model_is_an_error() -> None:
    tokenizer = word_tokenizer(QWEN, eos_token="<|im_end|>")
    tokenizer.chat_template = CHATML
    with pytest.raises(ValueError, match="full/3 has an image, but this model reads text only"):
        Collator(tokenizer).rows([item("Where?", "Rome", picture(0), "full/3")])


def test_views_of_a_batch_are_rows_by_name() -> None:
    items = [{"forget": item("Where was Ana born?", "Rome"), "retain": item("Ana?", "In Rome.", picture(0, 16), "r")}]
    batch = Collator(llava_processor())(items)
    assert {name: [answer for _, answer in view["rows"]] for name, view in batch.items()} == {
        "forget": [[15, 1]], "retain": [[14, 15, 16, 1]],
    }  # fmt: skip


def test_rows_without_an_answer_are_bare_prompts() -> None:
    collator = Collator(llava_processor())
    prompts = [collator.encode_prompt(item(question, "", None)) for question in ("Ana?", "Where was Ana born?")]
    rows = collator.pad([(prompt, []) for prompt in prompts])
    equal(rows["inputs"]["input_ids"], [[1, 1, 1, 0, 3, 5, 10, 12, 4, 5], [0, 3, 5, 8, 9, 10, 11, 12, 4, 5]])
    assert (rows["labels"] == N).all() and rows["answer_length"] == 0


@pytest.mark.parametrize("make", [tiny_llava, tiny_qwen2vl])
def test_the_check_before_a_run_agrees_with_the_batch_and_processes_one_picture_of_a_size(make: Any) -> None:
    samples = [
        item("Who is this?", "Ana Lima.", picture(1, 16), "a"),
        item("Who?", ["Bo.", "Somebody whose name is far longer."], picture(2, 16), "b"),
    ]
    processor = make()[1]
    needed = max(len(prompt.ids) + len(answer) for prompt, answer in (
        row for sample in samples for row in Collator(processor).rows([sample])["rows"]
    ))  # fmt: skip
    Collator(processor, max_length=needed).check(samples)
    with pytest.raises(ValueError, match=f"max_length={needed - 1}"):
        Collator(processor, max_length=needed - 1).check(samples)
    counting = Collator(processor)
    calls: list[Any] = []
    counting._encode_image = lambda *given, real=counting._encode_image: calls.append(given) or real(*given)  # type: ignore
    counting.check(samples)
    assert len(calls) == 1
