"""load_processor: the right class for each saved folder, and the same tensors after saving and loading again."""

import json
import shutil

import pytest
import torch

from tests import vision_models
from tests.models import picture, tiny_llama
from unlearn.models.processors import load_processor, qwen_processor_class, torchvision_present

WITH_TORCHVISION = ("llama4", "mistral3", "pixtral")  # a part of their processor exists with it only
FAMILIES = {name: make for name, make in vision_models.FAMILIES.items() if name not in WITH_TORCHVISION}
MESSAGES = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Who is in the picture?"}]}]


def encode(processor, seed=1):
    text = processor.apply_chat_template(MESSAGES, add_generation_prompt=True, tokenize=False)
    return processor(text=[text], images=[picture(seed)], return_tensors="pt")


def save(make, folder):
    model, processor = make()
    model.config.save_pretrained(folder)
    processor.save_pretrained(folder)
    return processor


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_and_loaded_again_gives_identical_inputs_twice(family, tmp_path):
    processor = save(FAMILIES[family], tmp_path / "one")
    once = load_processor(tmp_path / "one")
    once.save_pretrained(tmp_path / "two")
    shutil.copy(tmp_path / "one" / "config.json", tmp_path / "two")
    expected = encode(processor)
    text = processor.apply_chat_template(MESSAGES, add_generation_prompt=True, tokenize=False)
    assert expected["input_ids"].shape[1] > len(processor.tokenizer(text)["input_ids"]) + 3  # the token is expanded
    for loaded in (once, load_processor(str(tmp_path / "two"))):
        actual = encode(loaded)
        assert set(actual) == set(expected)
        assert all(torch.equal(actual[name], expected[name]) for name in expected)
        assert loaded.chat_template == processor.chat_template


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_of_adapters_is_read_by_its_processor_class(family, tmp_path):
    processor = save(FAMILIES[family], tmp_path)
    (tmp_path / "config.json").unlink()
    assert type(load_processor(tmp_path)).__name__ == type(processor).__name__


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl"])
def test_reads_what_the_official_class_saves_and_keeps_its_name(family, tmp_path):
    """The official Qwen class also saves a video processor, which cannot be built without torchvision."""
    processor = save(FAMILIES[family], tmp_path)
    file = tmp_path / "processor_config.json"
    config = json.loads(file.read_text())
    assert config["processor_class"] == {"qwen2_vl": "Qwen2VLProcessor", "qwen2_5_vl": "Qwen2_5_VLProcessor"}[family]
    file.write_text(json.dumps(config | {"video_processor": {"video_processor_type": "Qwen2VLVideoProcessor"}}))
    if qwen_processor_class(family) is qwen_processor_class(family, image_only=True):  # no torchvision here
        assert torch.equal(encode(load_processor(tmp_path))["pixel_values"], encode(processor)["pixel_values"])


def test_text_only_models_get_their_tokenizer(tmp_path):
    tokenizer = save(tiny_llama, tmp_path)
    assert load_processor(tmp_path)("Where?")["input_ids"] == tokenizer("Where?")["input_ids"]


def test_a_folder_that_is_missing_or_empty_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere.*saved processor"):
        load_processor(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="not a saved model"):
        load_processor(tmp_path)
    with pytest.raises(ValueError, match="qwen2_vl, qwen2_5_vl"):
        qwen_processor_class("idefics")


def test_a_processor_that_needs_torchvision_says_so(tmp_path):
    make = vision_models.FAMILIES["mistral3"]
    save(make, tmp_path)
    if not torchvision_present():
        with pytest.raises(ValueError, match="PixtralProcessor of .* needs a package that is missing .*Torchvision"):
            load_processor(tmp_path)


def test_a_language_model_whose_tokenizer_names_a_processor_gets_its_tokenizer(tmp_path):
    """As the text-only Gemma 3 does; with its config and, in an adapter's folder, without."""
    tokenizer = save(tiny_llama, tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "processor_class": "Gemma3Processor"}))
    for _ in range(2):
        assert load_processor(tmp_path)("Where?")["input_ids"] == tokenizer("Where?")["input_ids"]
        (tmp_path / "config.json").unlink(missing_ok=True)
