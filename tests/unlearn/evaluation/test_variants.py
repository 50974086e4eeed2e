"""The same rows asked otherwise (unlearn/evaluation/variants.py)."""

import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tests.eval_suite import PEOPLE, run
from tests.models import picture, tiny_llama, tiny_llava, tiny_qwen2vl
from unlearn.data.collator import Collator
from unlearn.data.samples import EvalItem
from unlearn.evaluation.picture_variants import PICTURES, change_picture, typeset
from unlearn.evaluation.suite import EvalTask
from unlearn.evaluation.variants import PREFILL, VARIANTS, options_of, vary


def item(row: int, image: bool, author: str | None = None) -> EvalItem:
    name = PEOPLE[row]
    sample = {"question": f"Who is {row}?", "answer": name, "image": picture(row, side=16) if image else None,
              "id": f"split/{row}"}  # fmt: skip
    others = [other for other in PEOPLE if other != name]
    return EvalItem(str(row), sample, f"It is {name}", others, author or name)  # type: ignore[arg-type]


def task(image: bool, rows: int = 5) -> EvalTask:
    return EvalTask("eval_log_forget", [item(row, image) for row in range(rows)], [1] * rows, "five rows")


def varied(name: str, image: bool) -> EvalTask:
    return vary(task(image), name, seed=1, paraphrase=lambda sample: f"{sample['question']} Say it.")


def test_the_names_of_all_variants():
    assert VARIANTS == ("paraphrase", "roleplay", "insist", "options", "typographic", "incontext", "prefill",
                        "grey", "flip", "crop", "rotate", "blur", "noise", "jpeg", "dark")  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_rows_answers_and_people_stay_and_a_changed_picture_has_its_own_id(name):
    image = name not in ("incontext",)
    before, after = task(image), varied(name, image)
    assert after.name == f"eval_log_forget@{name}" and len(after.items) == len(before.items)
    assert after.identity != before.identity and after.lengths == before.lengths
    for one, other in zip(before.items, (after.items[place] for place in range(5)), strict=True):
        assert (one.row_id, one.base_answer, one.wrong_answers, one.author) == (
            other.row_id, other.base_answer, other.wrong_answers, other.author)  # fmt: skip
        assert one.sample["answer"] == other.sample["answer"]
        changed = name in PICTURES or name == "typographic"
        assert other.sample["id"] == one.sample["id"] + f"@{name}" * changed
        assert (other.sample["question"] != one.sample["question"]) == (name not in (*PICTURES, "prefill"))


@pytest.mark.parametrize("name", [*PICTURES, "typographic"])
def test_the_collator_sees_the_changed_picture(name):
    """It keeps processed pictures by id."""
    collator = Collator(tiny_llava()[1])
    own = [collator.encode_prompt(one.sample) for one in task(True).items]
    other = [collator.encode_prompt(varied(name, True).items[place].sample) for place in range(5)]
    for one, two in zip(own, other, strict=True):
        assert (one.image_inputs["pixel_values"] - two.image_inputs["pixel_values"]).abs().max() > 0
    assert len({prompt.image_key for prompt in own + other}) == 10


@pytest.mark.parametrize(("name", "image", "said"), [
    ("grey", False, "changes nothing of any row.*have no pictures"),
    ("typographic", False, "changes nothing"),
    ("incontext", True, "changes nothing"),
    ("upside_down", True, "No variant is called 'upside_down'; there are paraphrase, "),
])  # fmt: skip
def test_a_variant_that_changes_nothing_is_an_error(name, image, said):
    with pytest.raises(ValueError, match=said):
        varied(name, image)


def test_a_wording_that_is_the_same_is_no_paraphrase():
    with pytest.raises(ValueError, match="changes nothing"):
        vary(task(False), "paraphrase", seed=1, paraphrase=lambda sample: sample["question"])
    with pytest.raises(ValueError, match="needs other wordings"):
        vary(task(False), "paraphrase", seed=1)
    grey = EvalTask("t", [EvalItem("0", {**item(0, True).sample, "image": Image.new("RGB", (8, 8), "grey")}, "", [])])
    with pytest.raises(ValueError, match="t@grey changes nothing"):
        vary(grey, "grey", seed=1)


def test_pictures_by_hand():
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    image.putpixel((0, 0), (0, 0, 255))
    assert change_picture(image, "grey", "").getpixel((5, 5)) == (76, 76, 76)  # .299 * 255
    assert change_picture(image, "flip", "").getpixel((39, 0)) == (0, 0, 255)
    assert change_picture(image, "crop", "").size == (36, 18)
    assert change_picture(image, "dark", "").getpixel((5, 5)) in {(127, 0, 0), (128, 0, 0)}
    assert change_picture(image, "rotate", "").getpixel((39, 0)) == (0, 0, 0), "the corner turned out of sight"
    large = picture(1, side=336)
    same = change_picture(large, "blur", "").tobytes() == large.filter(ImageFilter.GaussianBlur(2)).tobytes()
    assert same and change_picture(picture(1, 48), "jpeg", "").tobytes() != picture(1, 48).tobytes()


def test_noise_is_of_the_row_and_the_seed():
    image = Image.new("RGB", (64, 64), (128, 128, 128))
    noisy = [np.asarray(change_picture(image, "noise", key)).astype(float) for key in ("1/a", "1/a", "1/b", "2/a")]
    assert (noisy[0] == noisy[1]).all() and (noisy[0] != noisy[2]).any() and (noisy[0] != noisy[3]).any()
    assert noisy[0].std() / 255 == pytest.approx(0.1, rel=0.05) and abs(noisy[0].mean() - 128) < 1


def test_a_typeset_question_stands_below_the_picture():
    image = picture(3, side=100)
    whole = typeset(image, "What is the name of the person in the picture, if you may say so at all?")
    assert whole.width == 100 and whole.height > 120
    assert whole.crop((0, 0, 100, 100)).tobytes() == image.tobytes()
    strip = np.asarray(whole.crop((0, 100, 100, whole.height)))
    assert (strip == 255).mean() > 0.5 and strip.min() < 100, "black on white"


def test_options_hold_each_answer_once_and_the_right_one_anywhere():
    places = set()
    for row in range(7):
        one = item(row, False)
        one.wrong_answers.extend([PEOPLE[row].upper(), one.wrong_answers[0]])  # the right one again, a wrong one again
        options = options_of(one.row_id, PEOPLE[row], one.wrong_answers, seed=1)
        assert sorted(options) == sorted(PEOPLE)
        assert options == options_of(one.row_id, PEOPLE[row], one.wrong_answers, seed=1)
        places.add(options.index(PEOPLE[row]))
    assert len(places) > 2
    question = varied("options", False).items[0].sample["question"]
    assert question.startswith("Who is 0?\nA. ") and question.count("\n") == 1 + len(PEOPLE)


def test_examples_are_about_others():
    asked = varied("incontext", False).items[2].sample["question"]
    *examples, question = asked.split("\n")
    assert question == "Who is 2?" and len(examples) == 2
    for example in examples:
        number = int(example[7])
        assert example == f"Who is {number}? {PEOPLE[number]}" and number != 2
    alone = EvalTask("t", [item(row, False, author="Ana") for row in range(4)])
    with pytest.raises(ValueError, match="the task names too few"):
        vary(alone, "incontext", seed=1)


@pytest.mark.parametrize("model", [tiny_llava, tiny_llama, tiny_qwen2vl])
def test_after_a_prefill_prompt_and_answer_join_up(model):
    template = Collator(model()[1]).template
    sample = varied("prefill", False).items[1].sample
    prompt = "".join(template.prompt(sample))
    assert prompt.rstrip("\n").endswith(PREFILL) and prompt.startswith(template.render(sample["question"], False))
    for answer in PEOPLE[:3]:
        apart = template.token_ids(prompt) + template.answer_ids(answer)[:-1]
        assert apart in [template.token_ids(prompt + gap + answer) for gap in ("", " ")]
        assert template.tokenizer.decode(apart).endswith(f"{PREFILL} {answer}") or "\n" in prompt


def test_a_prefill_that_swallows_the_answer_is_refused():
    class Joining:  # every text is one token: nothing can be tokenised apart
        name_or_path, bos_token = "joining", None

        def __call__(self, text, **_):
            return {"input_ids": [len(text)]}

    template = Collator(tiny_llama()[1]).template
    template = dataclasses.replace(template, processor=Joining(), tags=("", "", ""), special=None)
    with pytest.raises(ValueError, match="joining: an answer cannot be tokenised apart after 'Sure, here is"):
        template.prompt(varied("prefill", False).items[0].sample)


def test_a_varied_task_has_a_log_that_joins(tmp_path):
    suite = [task(True), varied("prefill", True), varied("noise", True)]
    log = run(tmp_path, suite=suite)
    rows = [log[f"{one.name}.json"] for one in suite]
    assert all(list(one["gt_loss"]) == list("01234") for one in rows)
    assert all(one["num_token_gt"] == rows[0]["num_token_gt"] for one in rows)
    assert rows[1]["generated_text"]["0"][0].endswith(PREFILL)
    for other in rows[1:]:
        assert all(abs(other["gt_loss"][row] - rows[0]["gt_loss"][row]) > 1e-4 for row in "01234")
