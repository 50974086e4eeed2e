"""Model families (config/model_config.yaml) and how a model of one is loaded. No family is special-cased by size."""

import difflib
import importlib.util
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unlearn import ROOT

logger = logging.getLogger(__name__)
MODEL_FILES = ("config.json", "adapter_config.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Family:
    """One entry of model_config.yaml.

    Args:
        hf_key: hub id, or a folder relative to the project.
        text_only: a language model without a vision part.
        question_start_tag, question_end_tag, answer_tag: the prompt of models without a chat template.
        rmu_layer: decoder block (from 0) whose output RMU steers when `layer` is null.
    """

    name: str
    hf_key: str
    text_only: bool = False
    question_start_tag: str | None = None
    question_end_tag: str | None = None
    answer_tag: str | None = None
    rmu_layer: int = 7
    chat_template: str | None = None
    flash_attention2: bool = False
    gradient_checkpointing: bool = False
    ft_model_path: str | None = None

    @property
    def tags(self) -> tuple[str, str, str] | None:
        """(before the question, after it, before the answer), or None where the chat template is used."""
        if self.question_start_tag is None:
            return None
        return self.question_start_tag, self.question_end_tag or "", self.answer_tag or ""


def load_family(name: str, config: str | Path = ROOT / "config" / "model_config.yaml") -> Family:
    """The entry `name` of model_config.yaml. ValueError lists the families when there is none."""
    import yaml

    entries = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    if name not in entries:
        near = difflib.get_close_matches(name, list(entries), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"Unknown model_family {name!r}.{hint} {config} has: {', '.join(entries)}.")
    from unlearn.settings_build import build_settings

    return build_settings(Family, {"name": name, **entries[name]}, where=f"{name}.")


def resolve_path(path: str) -> str:
    """A folder given relative to the working directory or to the project; a hub id passes through.

    Raises ValueError for what can be neither: an absolute or deeper path that does not exist.
    """
    for candidate in (Path(path), ROOT / path):
        made = any((candidate / name).is_file() for name in MODEL_FILES)  # results of a hub model lie in a folder of its name
        if path and candidate.is_dir() and (made or path.count("/") != 1):
            return str(candidate)
    if path.count("/") > 1 or path.startswith((".", "/", "models/", "minibench/")) or not path:
        raise ValueError(
            f"model_path={path!r} does not exist. Run the step that makes it (mm/finetune.py writes models/<family>/ft_<split>), "
            "or give a folder or a hub id such as llava-hf/llava-1.5-7b-hf."
        )
    return path


def is_adapter(path: str) -> bool:
    return (Path(path) / "adapter_config.json").is_file()


def adapter_base(path: str) -> str:
    """The model that an adapter folder was trained on. ValueError if that model is not there."""
    config = json.loads((Path(path) / "adapter_config.json").read_text(encoding="utf-8"))
    try:
        return resolve_path(config["base_model_name_or_path"])
    except ValueError as error:
        raise ValueError(f"{path} is an adapter of a model that is missing: {error}") from None


def load_model(
    path: str,
    *,
    dtype: torch.dtype = torch.float32,
    attn_implementation: str = "auto",
    quantization: str | None = None,
) -> Any:
    """The model under `path` (folder, adapter folder or hub id) on the CPU, in eval mode; an adapter is merged in.

    Weights come from safetensors only. With `quantization` (4bit, 8bit; bitsandbytes) an adapter stays unmerged.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    path = resolve_path(path)
    if is_adapter(path):
        from peft import PeftModel

        base = load_model(adapter_base(path), dtype=dtype, attn_implementation=attn_implementation, quantization=quantization)
        model = PeftModel.from_pretrained(base, path)
        return model.eval() if quantization else model.merge_and_unload().eval()
    config = AutoConfig.from_pretrained(path)
    vision = type(config) in AutoModelForImageTextToText._model_mapping
    auto = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    model_class = auto._model_mapping[type(config)]
    attention = choose_attention(attn_implementation, model_class, dtype)
    return auto.from_pretrained(
        path, dtype=dtype, use_safetensors=True, attn_implementation=attention, **quantization_options(quantization, dtype)
    ).eval()


def quantization_options(quantization: str | None, dtype: torch.dtype) -> dict[str, Any]:
    """What `from_pretrained` is told: bitsandbytes' 4-bit NormalFloat or 8-bit integers, on this process's device."""
    if quantization is None:
        return {}
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=quantization == "4bit", load_in_8bit=quantization == "8bit", bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_type="nf4",
    )  # fmt: skip
    place = {"device_map": {"": int(os.environ.get("LOCAL_RANK", 0))}} if torch.cuda.is_available() else {}
    return {"quantization_config": config, **place}


def choose_attention(name: str, model_class: Any, dtype: torch.dtype) -> str:
    """`auto` is FlashAttention-2 where it works (a GPU from Ampere on, the package, half precision, the model's support),
    else torch's own fused attention where the model has it, else the plain form. Logged."""
    if name == "auto":
        gpu = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
        half = dtype in (torch.bfloat16, torch.float16)
        if gpu and half and installed("flash_attn") and getattr(model_class, "_supports_flash_attn", False):
            name = "flash_attention_2"
        else:
            name = "sdpa" if getattr(model_class, "_supports_sdpa", False) else "eager"
    logger.info("attention: %s", name)
    return name


def installed(package: str) -> bool:
    """Whether an optional package can be imported."""
    return importlib.util.find_spec(package) is not None


def inner_model(model: nn.Module) -> Any:
    """The transformers model without PEFT around it."""
    wrapped: Any = model
    return wrapped.get_base_model() if hasattr(wrapped, "get_base_model") else wrapped


def language_model_path(model: nn.Module) -> str:
    """Module path of the decoder: `model.language_model` in vision-language models, `model` in language models."""
    inner: Any = inner_model(model)
    decoder: Any = inner.get_decoder()
    for name, module in inner.named_modules():
        if module is decoder:
            return name
    raise ValueError(f"{type(model).__name__}: its decoder is not one of its modules; LoRA targets cannot be found.")


def vision_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The parts that turn pixels into token embeddings' input: the vision tower or Qwen's `visual` (not the projector)."""
    names = ("vision_tower", "visual", "vision_model")
    found = {n: m for n, m in inner_model(model).named_modules() if n.rsplit(".", 1)[-1] in names}
    return {n: m for n, m in found.items() if not any(n.startswith(other + ".") for other in found)}


def decoder_blocks(model: nn.Module) -> list[nn.Module]:
    """The language model's decoder blocks, first to last."""
    return list(inner_model(model).get_decoder().layers)


def decoder_layers(model: nn.Module) -> int:
    """Number of decoder blocks of the language model."""
    config = inner_model(model).config
    return int(getattr(config, "text_config", config).num_hidden_layers)


def decoder_count(path: str) -> int:
    """Number of decoder blocks of the model under `path`, from its config alone."""
    from transformers import AutoConfig

    path = resolve_path(path)
    config = AutoConfig.from_pretrained(adapter_base(path) if is_adapter(path) else path)
    return int(config.get_text_config().num_hidden_layers)
