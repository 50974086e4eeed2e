"""Every private or movable name of a library that the project uses still exists, and every one it uses is listed."""

import ast
import importlib
import importlib.util
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.vision_models import FAMILIES
from unlearn import ROOT
from unlearn.models import compat

ROOMS = ("unlearn", "mm", "nlp", "cv", "sweeps", "minibench")


@pytest.mark.parametrize("module", compat.NAMES)
def test_names_of_core_packages_exist(module: str) -> None:
    found = importlib.import_module(module)
    assert not [name for name in compat.NAMES[module] if not hasattr(found, name)]


@pytest.mark.parametrize("module", compat.OPTIONAL)
def test_names_of_optional_packages_exist_where_they_are_installed(module: str) -> None:
    """Read, not imported: Liger and DeepSpeed want a GPU or a compiler."""
    if importlib.util.find_spec(module.split(".")[0]) is None:
        pytest.skip(f"{module.split('.')[0]} is not installed")
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    assert not [name for name in compat.OPTIONAL[module] if name not in source]


def test_methods_of_the_trainer_exist_and_take_what_is_given() -> None:
    from transformers import Trainer

    assert not [name for name in compat.TRAINER if not hasattr(Trainer, name)]
    wanted = {"_save_checkpoint": ["model", "trial"], "_get_output_dir": ["trial"], "_prepare_inputs": ["inputs"],
              "_load_from_checkpoint": ["resume_from_checkpoint", "model"],
              "save_model": ["output_dir", "_internal_call"],
              "_save": ["output_dir", "state_dict"], "_save_optimizer_and_scheduler": ["output_dir"],
              "_load_optimizer_and_scheduler": ["checkpoint"], "log": ["logs", "start_time"]}  # fmt: skip
    for name, arguments in wanted.items():
        assert list(inspect.signature(getattr(Trainer, name)).parameters)[1 : len(arguments) + 1] == arguments, name


def test_the_trainer_overrides_nothing_that_is_not_listed() -> None:
    from transformers import Trainer

    from unlearn.training.trainer import UnlearnTrainer

    own = {name for name in vars(UnlearnTrainer) if hasattr(Trainer, name) and not name.startswith("__")}
    assert own - set(compat.TRAINER) <= {"train"}


def test_attributes_of_models_exist() -> None:
    from transformers import PreTrainedModel

    assert not [name for name in compat.MODEL if not hasattr(PreTrainedModel, name)]
    model = FAMILIES["llava"]()[0]
    assert all(hasattr(model.config.get_text_config(), name) for name in compat.CONFIG)
    assert compat.unsplit_blocks(model) >= {"CLIPEncoderLayer", "LlamaDecoderLayer"}


def test_what_a_config_is_loaded_as() -> None:
    from transformers import AutoConfig, LlamaForCausalLM, LlavaForConditionalGeneration

    llava, llama = AutoConfig.for_model("llava"), AutoConfig.for_model("llama")
    assert compat.image_text_class(llava) is LlavaForConditionalGeneration and compat.image_text_class(llama) is None
    assert compat.causal_class(llama) is LlamaForCausalLM and compat.causal_class(AutoConfig.for_model("clip")) is None
    assert (
        compat.processor_class_name("qwen2_vl") == "Qwen2VLProcessor" and compat.processor_class_name("llama") is None
    )
    assert {"input_ids", "image_sizes", "logits_to_keep"} <= compat.forward_inputs(LlavaForConditionalGeneration)


def test_attention_is_that_of_every_part() -> None:
    paligemma, llava = FAMILIES["paligemma"]()[0], FAMILIES["llava"]()[0]
    assert compat.supports(type(llava), "sdpa", llava.config) and compat.supports(type(paligemma), "sdpa")
    assert not compat.supports(type(paligemma), "sdpa", paligemma.config)  # the Gemma 2 in it caps its logits


def test_an_image_only_processor_is_saved_and_read_like_the_official_one(tmp_path: Any) -> None:
    import transformers

    processor = FAMILIES["internvl"]()[1]
    assert type(processor).__name__ == "InternVLProcessor" and isinstance(processor, transformers.InternVLProcessor)
    assert "video_processor" not in processor.get_attributes()
    processor.save_pretrained(tmp_path)
    again = compat.image_only(transformers.InternVLProcessor).from_pretrained(tmp_path)
    assert again.image_seq_length == 4 and again.chat_template == processor.chat_template
    assert compat.image_only(transformers.InternVLProcessor) is type(processor)  # one class, so instances compare


def private_names() -> list[str]:
    """`file:line name` of every `_name` taken from an object that is no `self` or `cls`, or imported from a library."""
    found = []
    for file in sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Attribute) and not (
                isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "os", "run", "split")
            ):
                names = [node.attr]
            elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith(ROOMS):
                names = [alias.name for alias in node.names]
            found += [
                f"{file.relative_to(ROOT)}:{node.lineno} {name}"
                for name in names
                if name.startswith("_") and not name.startswith("__")
            ]
    return found


def test_a_config_says_its_attention() -> None:
    config = FAMILIES["llava"]()[0].config
    assert compat.attends_by(config) == compat.attends_by(config.get_text_config()) == "sdpa"


def test_a_dataset_says_its_fingerprint() -> None:
    import datasets

    assert all(hasattr(datasets.Dataset.from_dict({"a": [1]}), name) for name in compat.DATASET)


def test_torch_keeps_its_private_names() -> None:
    assert all(hasattr(torch, name) for name in compat.TORCH)
    module = torch.nn.Linear(1, 1)
    assert all(hasattr(module, name) for name in compat.MODULE) and not compat.has_listeners(module)
    module.register_forward_pre_hook(lambda *given: None)
    assert compat.has_listeners(module)


def test_no_private_name_of_a_library_is_used_that_is_not_listed() -> None:
    listed = {
        *compat.TRAINER,
        *compat.MODEL,
        *compat.TORCH,
        *compat.MODULE,
        *compat.DATASET,
        *compat.CONFIG,
        *(name for names in compat.OPTIONAL.values() for name in names),
    }
    listed |= {"_model_mapping"}
    other = [line for line in private_names() if line.split()[1] not in listed]
    assert not other, other
