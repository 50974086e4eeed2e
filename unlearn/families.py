"""Model families (config/model_config.yaml) and how a model of one is loaded. No family is special-cased by size."""

import difflib
import importlib.util
import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from unlearn import ROOT
from unlearn.hub import MODEL_FILES, pulled, split_revision

logger = logging.getLogger(__name__)


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
    """The entry `name` of model_config.yaml. ValueError: a file that is no list of families, no such family, a wrong entry."""
    import yaml

    try:
        entries = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{config} is no YAML ({error}); correct it.") from None
    if not isinstance(entries, dict):
        raise ValueError(f"{config} must map names of families to their keys; correct it.")
    if name not in entries:
        near = difflib.get_close_matches(name, list(entries), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"Unknown model_family {name!r}.{hint} {config} has: {', '.join(entries)}.")
    from unlearn.settings_build import build_settings

    values = entries[name] if isinstance(entries[name], dict) else {}
    if "hf_key" not in values:
        raise ValueError(f"{config}: {name} has no hf_key; give it a hub id or a folder.")
    return build_settings(Family, {"name": name, **values}, where=f"{name}.")


def resolve_path(path: str) -> str:
    """A folder given relative to the working directory or to the project; a hub id passes through, that of an adapter or of a
    pinned revision (`user/name@v1`) as its snapshot in the hub's cache.

    Raises ValueError for what can be neither: an absolute or deeper path that does not exist.
    """
    if (folder := _local_folder(path)) is not None:
        return folder
    if split_revision(path)[0].count("/") > 1 or path.startswith((".", "/", "models/", "minibench/")) or not path:
        raise ValueError(
            f"model_path={path!r} does not exist. Run the step that makes it (mm/finetune.py writes models/<family>/ft_<split>), "
            "or give a folder or a hub id such as llava-hf/llava-1.5-7b-hf."
        )
    return pulled(path)


def _local_folder(path: str) -> str | None:
    for candidate in (Path(path), ROOT / path):
        made = any((candidate / name).is_file() for name in MODEL_FILES)  # results of a hub model lie in a folder of its name
        if path and candidate.is_dir() and (made or path.count("/") != 1):
            return str(candidate)
    return None


def is_adapter(path: str) -> bool:
    return (Path(path) / "adapter_config.json").is_file()


def adapter_base(path: str) -> str:
    """The model that an adapter folder was trained on. ValueError if that model is not there."""
    file = Path(path) / "adapter_config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        base, revision = config["base_model_name_or_path"] or "", config.get("revision")
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({type(error).__name__}: {error}); copy it or train the adapter again.") from None
    try:
        return resolve_path(f"{base}@{revision}" if revision and _local_folder(base) is None else base)
    except ValueError as error:
        raise ValueError(f"{path} is an adapter of a model that is missing: {error}") from None


def check_weights(path: str) -> None:
    """ValueError for a folder without weights or with a file copied in part, by its header; a hub id is taken at its word."""
    folder = Path(resolve_path(path))
    if not folder.is_dir():
        return
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder} holds no weights (*.safetensors); copy or make the model again, or use another model_path.")
    for file in files:
        try:
            safe_open(file, framework="pt").__exit__(None, None, None)
        except SafetensorError as error:
            raise ValueError(f"The weights in {file} cannot be read ({first_line(error)}); copy or make them again.") from error
    if is_adapter(str(folder)):
        check_weights(adapter_base(str(folder)))


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

    name = _local_folder(path) or path  # what an adapter trained on this model will call it
    path = resolve_path(path)
    if is_adapter(path):
        below = adapter_base(path)
        base = load_model(below, dtype=dtype, attn_implementation=attn_implementation, quantization=quantization)
        model = _with_adapter(base, path, below)
        return model.eval() if quantization else _called(model.merge_and_unload().eval(), name)
    config = AutoConfig.from_pretrained(path)
    vision = type(config) in AutoModelForImageTextToText._model_mapping
    auto = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    if quantization:
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=quantization == "4bit", load_in_8bit=quantization == "8bit", bnb_4bit_compute_dtype=torch.bfloat16,
            bnb_4bit_quant_type="nf4",
        )
    try:
        model = auto.from_pretrained(path, attn_implementation=choose_attention(attn_implementation), **options)
    except torch.OutOfMemoryError:
        raise
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"The weights in {path} cannot be read ({first_line(error)}); copy or make them again.") from error
    return _called(model.eval(), name)


def _called(model: Any, name: str) -> Any:
    """The model under the name that PEFT writes into adapters trained on it: never a merged adapter's base, or a cache folder."""
    model.name_or_path = name
    return model


def _with_adapter(base: Any, path: str, below: str) -> Any:
    """`base`, which is the model under `below`, with the adapter in `path`. ValueError if they do not fit each other."""
    from peft import PeftModel

    config = json.loads((Path(path) / "adapter_config.json").read_text(encoding="utf-8"))
    trained_on = (config.get("auto_mapping") or {}).get("base_model_class", type(base).__name__)
    try:
        if trained_on != type(base).__name__:
            raise ValueError(f"trained on a {trained_on}, that is a {type(base).__name__}")
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            return PeftModel.from_pretrained(base, path)
    except SafetensorError as error:
        raise ValueError(f"The adapter {path} cannot be read ({first_line(error)}); copy or make it again.") from error
    except (RuntimeError, ValueError, UserWarning) as error:
        raise ValueError(
            f"The adapter {path} does not fit the model it names, {below} ({first_line(error)}); correct "
            "base_model_name_or_path in its adapter_config.json, or train the adapter again."
        ) from error


def first_line(error: BaseException) -> str:
    """Of torch's list of every tensor that does not fit, the first; of any other error its first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "size mismatch" in line), lines[0] if lines else type(error).__name__).rstrip(".")


def choose_attention(name: str) -> str:
    """`auto` is FlashAttention-2 where it is installed and a GPU is there, else torch's own fused attention."""
    installed = importlib.util.find_spec("flash_attn") is not None
    if name == "flash_attention_2" and not installed:
        raise ValueError("attn_implementation=flash_attention_2 needs the package flash_attn, which is not installed; use auto.")
    if name != "auto":
        return name
    flash = torch.cuda.is_available() and installed
    chosen = "flash_attention_2" if flash else "sdpa"
    logger.info("attention: %s", chosen)
    return chosen


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


def decoder_layers(model: nn.Module) -> int:
    """Number of decoder blocks of the language model."""
    config = inner_model(model).config
    return int(getattr(config, "text_config", config).num_hidden_layers)


def decoder_count(path: str) -> int:
    """Number of decoder blocks of the model under `path`, from its config alone."""
    from transformers import AutoConfig

    path = resolve_path(path)
    while is_adapter(path):
        path = adapter_base(path)
    config = AutoConfig.from_pretrained(path)
    return int(config.get_text_config().num_hidden_layers)
