"""Every tested family, on a small model of its real class with a processor of its real class (tests/vision_models.py):
prompts are the processor's own, the shared prefix scores like one plain forward an answer, and a step trains."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.models import picture
from tests.training import make_trainer, trained_weights
from tests.vision_models import FAMILIES
from unlearn.data.collator import Collator, Prompt
from unlearn.evaluation.generation import generate_greedy, stop_token_ids
from unlearn.evaluation.prefix import read_prefix, score_answers, score_plain
from unlearn.models.families import decoder_blocks, decoder_layers, language_model_path
from unlearn.models.forward import StudentForward, score_views
from unlearn.models.lora import lora_targets
from unlearn.models.pictures import PictureReader, join_inputs
from unlearn.models.vision import TESTED, complete_processor, feature_count, vision_class, vision_modules
from unlearn.registry import build_method

every_family = pytest.mark.parametrize("family", FAMILIES)
QUESTIONS = ["Who?", "What is the name of the person in the picture?", "Größe, 3×4 —  ¿qué?"]
SIZES = [(16, 16), (24, 32), (31, 12)]
ANSWERS = [
    ["Ana Lima", "Jaime Vásquez of Santiago", "x", "Ana Lima"],
    ["Lisbon", "crime novels"],
    ["born", "0123456789"],
]
SHARED = set(FAMILIES) - {"gemma3", "paligemma", "llama4"}  # their caches slide, or come in chunks


def samples(family: str, seed: int = 0) -> list[Any]:
    """Three questions with pictures of other sizes."""
    return [
        {"question": q, "answer": "", "image": picture(i + seed, *SIZES[i]), "id": f"{family}-{seed}-{i}"}
        for i, q in enumerate(QUESTIONS)
    ]


def whole(processor: Any, sample: Any) -> dict[str, torch.Tensor]:
    """What the processor itself makes of the message with its picture."""
    content = [{"type": "image", "image": sample["image"]}, {"type": "text", "text": sample["question"]}]
    return processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True,
        return_tensors="pt",
    )  # fmt: skip


@every_family
def test_a_prompt_is_what_the_processor_makes_of_the_message(family: str) -> None:
    processor = FAMILIES[family]()[1]
    collator = Collator(processor)
    seen = []
    for sample in samples(family) + [{**samples(family)[0], "question": "Another question of the same picture?"}]:
        prompt, expected = collator.encode_prompt(sample), whole(processor, sample)
        assert prompt.ids == expected["input_ids"][0].tolist()
        assert set(prompt.image_inputs) | set(prompt.token_inputs) == set(expected) - {"input_ids", "attention_mask",
                                                                                       "labels"}  # fmt: skip
        for name, value in prompt.image_inputs.items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
        for name, values in prompt.token_inputs.items():
            assert values == expected[name][0].tolist() and (any(values) or family == "paligemma")
        seen.append(
            len(prompt.ids) - len(collator.template.token_ids(collator.template.render(sample["question"], True)))
        )
    assert min(seen) >= 3  # the placeholder has become several tokens
    assert seen[3] == seen[0]


@every_family
def test_a_batch_of_unlike_pictures_gives_the_logits_of_each_alone(family: str) -> None:
    model, processor = FAMILIES[family]()
    collator = Collator(processor)
    prompts = [collator.encode_prompt(sample) for sample in samples(family)]
    batch = collator.pad([(prompt, ()) for prompt in prompts])["inputs"]
    with torch.no_grad():
        together = read_prefix(model, batch).logits
        for row, sample in enumerate(samples(family)):
            alone = model(**drop_labels(whole(processor, sample))).logits[0, -1]
            torch.testing.assert_close(together[row], alone, atol=1e-4, rtol=1e-4)
    other = collator.encode_prompt({**samples(family, seed=9)[1], "question": QUESTIONS[1]})
    with torch.no_grad():
        changed = read_prefix(model, collator.pad([(prompts[0], ()), (other, ()), (prompts[2], ())])["inputs"]).logits
    assert (changed[1] - together[1]).abs().max() > 1e-2  # another picture, another answer
    torch.testing.assert_close(changed[[0, 2]], together[[0, 2]], atol=1e-4, rtol=1e-4)


def drop_labels(inputs: Any) -> dict[str, torch.Tensor]:
    return {name: value for name, value in inputs.items() if name != "labels"}


def one_forward(model: Any, collator: Collator, prompt: Prompt, answer: list[int]) -> float:
    """-log p of an answer by the definition: one unpadded row, every logit, no positions or cache of ours."""
    inputs = collator.pad([(prompt, answer)])["inputs"]
    with torch.no_grad():
        logits = model(**inputs, use_cache=False).logits[0, len(prompt.ids) - 1 : -1]
    return F.cross_entropy(logits.double(), torch.tensor(answer), reduction="sum").item()


@every_family
def test_shared_prefix_plain_form_and_definition_agree(family: str) -> None:
    model, processor = FAMILIES[family]()
    collator = Collator(processor)
    text = {"question": "Where was she born?", "answer": "", "image": None, "id": "text"}
    prompts = [collator.encode_prompt(sample) for sample in [*samples(family)[:2], text]]
    answers = [[collator.encode_answer(answer) for answer in own] for own in ANSWERS]
    truth = [[one_forward(model, collator, p, ids) for ids in own] for p, own in zip(prompts, answers, strict=True)]
    plain = score_plain(model, collator, prompts, answers, rows_per_forward=3)
    assert [s.loss for own in plain for s in own] == pytest.approx([t for own in truth for t in own], abs=1e-4)
    prefix = read_prefix(model, collator.pad([(prompt, ()) for prompt in prompts])["inputs"])
    assert prefix.forkable == (family in SHARED)
    if prefix.forkable:
        shared = score_answers(model, prefix, answers, rows_per_forward=4)
        assert [s.loss for own in shared for s in own] == pytest.approx([t for own in truth for t in own], abs=1e-4)
    assert max(truth[0]) - min(truth[0]) > 1


@every_family
def test_generation_is_that_of_transformers(family: str) -> None:
    from transformers import GenerationConfig

    model, processor = FAMILIES[family]()
    collator = Collator(processor)
    stop = stop_token_ids(model, collator)
    config = GenerationConfig(
        do_sample=False, max_new_tokens=6, eos_token_id=sorted(stop), pad_token_id=collator.pad_id
    )
    chosen = samples(family)[:2]
    prompts = [collator.encode_prompt(sample) for sample in chosen]
    prefix = read_prefix(model, collator.pad([(prompt, ()) for prompt in prompts])["inputs"])
    ours = generate_greedy(model, prefix, max_new_tokens=6, stop_ids=stop)
    for row, sample in zip(ours, chosen, strict=True):
        inputs = drop_labels(whole(processor, sample))
        theirs = model.generate(**inputs, generation_config=config)[0, inputs["input_ids"].shape[1] :].tolist()
        assert row == theirs


@every_family
def test_one_step_of_npo_trains_the_language_model_alone(family: str, tmp_path: Any) -> None:
    trainer = make_trainer(tmp_path, build_method("npo"), tiny=FAMILIES[family], steps=1, init_noise=0.05)
    start = trained_weights(trainer)
    path = language_model_path(trainer.student.model)
    assert start and all(f".{path}." in name and ".lora_" in name for name in start)
    trainer.train()
    trainer.check_finite(weights=True)
    after = trained_weights(trainer)
    moved = [name for name in start if not torch.equal(start[name], after[name])]
    assert len(moved) > len(start) // 2


@every_family
def test_training_scores_mixed_views_like_single_rows(family: str) -> None:
    """The student's forward, in training mode, on text and picture rows of two views against one row at a time."""
    model, processor = copy.deepcopy(FAMILIES[family]()[0]), FAMILIES[family]()[1]
    collator = Collator(processor)
    with_pictures = [{**sample, "answer": answer} for sample, answer in zip(samples(family), QUESTIONS, strict=True)]
    text: list[Any] = [{"question": "Where?", "answer": "Oslo, it seems.", "image": None, "id": "t"}]
    views = {"forget": [with_pictures[0], text[0], with_pictures[2]], "retain": [with_pictures[1]]}
    scored = score_views(StudentForward(model.train())({name: collator.rows(rows) for name, rows in views.items()}))
    model.eval()
    for name, rows in views.items():
        for place, sample in enumerate(rows):
            prompt, answer = collator.encode_prompt(sample), collator.encode_answer(sample["answer"])
            mine = -scored[name].sequence_logps()[place].item()
            assert mine == pytest.approx(one_forward(model, collator, prompt, answer), abs=2e-3, rel=1e-4)
    scored["forget"].cross_entropy().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in vision_modules(model).popitem()[1].parameters())


@every_family
def test_where_the_parts_are(family: str) -> None:
    model = FAMILIES[family]()[0]
    (tower,) = vision_modules(model)
    path = language_model_path(model)
    assert tower.split(".")[-1] in ("vision_tower", "visual", "vision_model")
    assert not path.startswith(tower) and not tower.startswith(path)
    assert len(decoder_blocks(model)) == decoder_layers(model) == 2
    targets = lora_targets(model)
    assert any(name.endswith("q_proj") for name in targets) and any(name.endswith("down_proj") for name in targets)
    assert not any(name.startswith(tower) or name.endswith("lm_head") for name in targets)
    assert any(name.startswith(tower) for name in lora_targets(model, "all"))


def test_every_type_that_is_called_tested_is_in_this_table() -> None:
    assert {FAMILIES[name]()[0].config.model_type for name in FAMILIES} == set(TESTED)
    assert all(vision_class(make()[0].config) is type(make()[0]) for make in FAMILIES.values())


def test_inputs_of_unlike_pictures_are_joined() -> None:
    one = torch.tensor([[1, 2]])
    assert join_inputs([one, one + 2]).tolist() == [[1, 2], [3, 4]]
    tall, wide = torch.ones(1, 1, 2, 1), torch.ones(1, 2, 1, 2)
    joined = join_inputs([tall, wide])
    assert joined.tolist() == [[[[1, 0], [1, 0]], [[0, 0], [0, 0]]], [[[1, 1], [0, 0]], [[1, 1], [0, 0]]]]


def reader(family: str) -> PictureReader:
    pictures = Collator(FAMILIES[family]()[1]).pictures
    assert pictures is not None
    return pictures


def test_a_processor_of_another_family_is_refused() -> None:
    config = FAMILIES["llava_next"]()[0].config
    with pytest.raises(ValueError, match="'llava_next' and its processor LlavaProcessor do not fit.*image_sizes"):
        reader("llava").fit(config)
    with pytest.raises(ValueError, match="image_grid_thw, which it does not take"):
        reader("qwen2_vl").fit(config)
    for family in FAMILIES:
        reader(family).fit(FAMILIES[family]()[0].config)


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "qwen2_5_vl"])
def test_a_prompt_has_one_image_token_for_each_feature(family: str) -> None:
    model, processor = FAMILIES[family]()
    collator = Collator(processor)
    assert collator.pictures is not None and not collator.pictures.counts_tokens
    collator.pictures.fit(model.config)
    assert collator.pictures.counts_tokens
    for sample in samples("counted"):
        prompt = collator.encode_prompt(sample)
        given = {name: t for name, t in prompt.image_inputs.items() if name != "mm_token_type_ids"}
        made = model.get_image_features(**given, return_dict=True).pooler_output
        features = sum(part.reshape(-1, part.shape[-1]).shape[0] for part in made)
        assert feature_count(model.config, prompt.image_inputs) == features
    other = copy.deepcopy(model.config)
    other.vision_config.patch_size, other.vision_config.spatial_merge_size = 8, 1
    collator.pictures.fit(other)
    with pytest.raises(ValueError, match=r"image tokens, and the model makes \d+ features.*patch and merge sizes"):
        collator.encode_prompt(samples("counted")[0])


def test_of_other_families_transformers_counts_the_tokens() -> None:
    known = {family for family in FAMILIES if feature_count(FAMILIES[family]()[0].config, reader(family).probe.inputs)}
    assert known == {"llava", "qwen2_vl", "qwen2_5_vl"}


def test_an_input_that_the_class_does_not_take_is_dropped_if_it_is_per_token() -> None:
    from transformers import AutoConfig

    collator = Collator(FAMILIES["gemma3"]()[1])
    assert collator.pictures is not None
    text = {"question": "Who?", "answer": "", "image": None, "id": "t"}
    assert "token_type_ids" in collator.pad([(collator.encode_prompt(text), [5])])["inputs"]
    collator.pictures.fit(AutoConfig.for_model("got_ocr2"))
    for sample in (text, samples("dropped")[0]):
        assert set(collator.pad([(collator.encode_prompt(sample), [5])])["inputs"]) <= {
            "input_ids", "attention_mask", "pixel_values"
        }  # fmt: skip


REFUSED = {
    "mllama": "text attends to pictures through layers of their own",
    "idefics": "text attends to pictures through layers of their own",
    "florence2": "it has an encoder and a decoder",
    "blip-2": "takes no logits_to_keep",
    "pix2struct": "it has an encoder and a decoder|takes no",
    "clip": "transformers has no image-text-to-text class for it",
    "siglip": "transformers has no image-text-to-text class for it",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_ways_to_read_pictures_are_refused_by_name(kind: str) -> None:
    from transformers import AutoConfig

    with pytest.raises(
        ValueError, match=f"model type '{kind}' is not supported: .*({REFUSED[kind]}).*llava, llava_next"
    ):
        vision_class(AutoConfig.for_model(kind))


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "phi", "gpt_neox", "gemma3_text", "stablelm"])
def test_language_models_are_none(kind: str) -> None:
    from transformers import AutoConfig

    assert vision_class(AutoConfig.for_model(kind)) is None


def test_a_question_may_say_what_the_probe_says_or_a_placeholder() -> None:
    collator = Collator(FAMILIES["internvl"]()[1])
    sample = samples("same")[0]
    for question in (
        "Who is in the picture?",
        "Who is in the picture? Who is in the picture?",
        "What does {{ x }} say?",
    ):
        expected = whole(collator.processor, {**sample, "question": question})["input_ids"][0].tolist()
        assert collator.encode_prompt({**sample, "question": question}).ids == expected


def test_a_processor_that_breaks_is_named() -> None:
    processor = copy.copy(FAMILIES["llava"]()[1])
    processor.patch_size = None
    with pytest.raises(ValueError, match="LlavaProcessor cannot read a picture.*TypeError.*processor_config.json"):
        Collator(processor)


def test_what_an_old_llava_folder_does_not_say_comes_from_the_models_config() -> None:
    model, processor = FAMILIES["llava"]()
    old = copy.copy(processor)
    old.patch_size, old.vision_feature_select_strategy, old.num_additional_image_tokens = None, None, 0
    complete_processor(old, model.config)
    assert (old.patch_size, old.vision_feature_select_strategy, old.num_additional_image_tokens) == (4, "default", 1)
    old.patch_size, config = None, copy.deepcopy(model.config)
    config.vision_config.patch_size = None
    with pytest.raises(ValueError, match="LlavaProcessor has no patch_size.*processor_config.json"):
        complete_processor(old, config)
