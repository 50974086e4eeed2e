"""From a path to a model: folders, hub ids and adapters, in the precision and with the attention that are asked for."""

import hashlib
import importlib.util
import json
import logging
import os
import re
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from unlearn.models.compat import causal_class, supports
from unlearn.models.families import inner_model
from unlearn.models.start import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Start, first_line, local_folder
from unlearn.models.vision import vision_class

logger = logging.getLogger(__name__)
# Where parts of vision-language models lay before transformers 4.52, and where they lie now; the longest first.
OLD_NAMES = (
    ("language_model.model.", "model.language_model."), ("language_model.lm_head", "lm_head"),
    ("vision_tower.", "model.vision_tower."), ("multi_modal_projector.", "model.multi_modal_projector."),
    ("visual.", "model.visual."), ("model.layers.", "model.language_model.layers."),
    ("model.embed_tokens", "model.language_model.embed_tokens"),
)  # fmt: skip


def load_model(
    path: str | Start,
    *,
    dtype: torch.dtype = torch.float32,
    attn_implementation: str = "auto",
    quantization: str | None = None,
) -> Any:
    """The model under `path` (folder, adapter folder or hub id) on the CPU, in eval mode; an adapter is merged in.

    Weights come from safetensors only, and no code of a model's folder is ever run. With `quantization` (4bit, 8bit;
    bitsandbytes) an adapter stays unmerged.

    Raises:
        ValueError: weights that are missing, of another model, not finite, or in another form.
    """
    start = path if isinstance(path, Start) else Start.of(path)
    start.check()
    model = _load_whole(start.base, dtype, attn_implementation, quantization)
    for adapter, below in reversed(list(zip(start.chain, start.chain[1:], strict=False))):
        model = _with_adapter(model, adapter, below)
        check_finite(model, adapter, only="lora_")
        model = model.eval() if quantization else model.merge_and_unload().eval()
    # what an adapter trained on this model will call it
    return model if quantization and start.adapter else _called(model, local_folder(start.name) or start.name)


def _load_whole(path: str, dtype: torch.dtype, attn_implementation: str, quantization: str | None) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    vision = vision_class(config)
    auto = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    model_class = vision or causal_class(config)
    attention = choose_attention(attn_implementation, model_class, dtype, config)
    options = quantization_options(quantization, dtype)
    try:
        loaded: Any = auto.from_pretrained(
            path, dtype=dtype, use_safetensors=True, attn_implementation=attention, trust_remote_code=False,
            output_loading_info=True, **options,
        )  # fmt: skip
    except torch.OutOfMemoryError:
        raise
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ValueError(
            f"The weights in {path} cannot be read ({first_line(error)}); copy or make them again."
        ) from error
    model, info = loaded
    check_complete(path, info["missing_keys"], info["unexpected_keys"])
    check_finite(model, path)
    return model.eval()


def check_complete(path: str, missing: Collection[str], unexpected: Collection[str]) -> None:
    """ValueError for a checkpoint without all of its model's tensors (transformers would fill them at random, and the
    model would look perfectly forgotten), or with blocks that its config does not know. What a model class ties or
    makes itself is not among `missing`; other names too many (an old buffer, a second head) are a warning."""
    if missing:
        raise ValueError(
            f"The weights in {path} lack {len(missing)} tensors of the model, e.g. {min(missing)}; they would be "
            "random numbers. Copy or make the model again."
        )
    if blocks := sorted(name for name in unexpected if re.search(r"\.(layers|blocks|h)\.\d+\.", name)):
        raise ValueError(
            f"The weights in {path} have {len(blocks)} tensors of blocks that its config.json does not know, e.g. "
            f"{blocks[0]}; they are of another model. Copy the model's own config.json, or make the model again."
        )
    if unexpected:
        logger.warning("%s: %d tensors are not part of the model, e.g. %s", path, len(unexpected), min(unexpected))


def check_finite(model: Any, path: str, only: str = "") -> None:
    """ValueError that names the first parameter (with `only` in its name) that holds a NaN or an infinity."""
    named = ((name, p) for name, p in model.named_parameters() if only in name)
    if (name := not_finite(named)) is not None:
        raise ValueError(
            f"{name} of {path} holds NaN or infinity: the training that made it went wrong, or the file is damaged. "
            "Make the model again."
        )


def not_finite(named: Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first tensor with a NaN or an infinity, by its smallest and largest value; 14 GB take about a
    second."""
    for name, tensor in named:
        looked_at = tensor.is_floating_point() and tensor.numel() and tensor.element_size() > 1 and not tensor.is_meta
        if looked_at and not all(torch.isfinite(end) for end in torch.aminmax(tensor.detach())):
            return name
    return None


def _called(model: Any, name: str) -> Any:
    """The model under the name that PEFT writes into adapters trained on it: never a merged adapter's base, or a
    cache folder."""
    model.name_or_path = name
    return model


def _with_adapter(base: Any, path: str, below: str) -> Any:
    """`base`, which is the model under `below`, with the adapter in `path`. ValueError if they do not fit each
    other."""
    from peft import PeftModel

    config = json.loads((Path(path) / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    trained_on = (config.get("auto_mapping") or {}).get("base_model_class", type(base).__name__)
    try:
        if trained_on != type(base).__name__:
            raise ValueError(f"trained on a {trained_on}, that is a {type(base).__name__}")
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            return PeftModel.from_pretrained(base, path, key_mapping=_renamed(base, path))
    except SafetensorError as error:
        raise ValueError(f"The adapter {path} cannot be read ({first_line(error)}); copy or make it again.") from error
    except (RuntimeError, ValueError, UserWarning) as error:
        raise ValueError(
            f"The adapter {path} does not fit the model it names, {below} ({first_line(error)}); correct "
            "base_model_name_or_path in its adapter_config.json, or train the adapter again."
        ) from error


def _renamed(model: Any, adapter: str) -> dict[str, str] | None:
    """PEFT's key_mapping for an adapter whose tensors have the names of an older transformers, in which a model's parts
    lay elsewhere (`language_model.model.layers` for `model.language_model.layers`); None where the names are today's.

    A name that fits no layer under any of its spellings is an error: PEFT would leave it out without a word.
    """
    from safetensors import safe_open

    with safe_open(Path(adapter) / ADAPTER_WEIGHTS, framework="pt") as file:
        saved = {re.sub(r"\.(lora_\w+|base_layer|weight|bias)\b.*", "", name) for name in file.offset_keys()}
    modules = {name for name, _ in model.named_modules()}
    mapping: dict[str, str] = {}
    for name in sorted(key.removeprefix("base_model.model.") for key in saved):
        if name in modules:
            continue
        old, new = next(
            ((old, new) for old, new in OLD_NAMES if name.startswith(old) and new + name.removeprefix(old) in modules),
            (None, None),
        )
        if old is None or new is None:
            raise ValueError(f"it has weights for {name}, which is no layer of that model")
        mapping["^" + re.escape(old)] = new
    return mapping or None


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


def choose_attention(name: str, model_class: Any, dtype: torch.dtype, config: Any = None) -> str:
    """`auto` is FlashAttention-2 where it works (a GPU from Ampere on, the package, half precision, the model's
    support), else torch's own fused attention where the model has it, else the plain form. Logged."""
    if name == "auto":
        gpu = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
        half = dtype in (torch.bfloat16, torch.float16)
        if gpu and half and installed("flash_attn") and supports(model_class, "flash_attn", config):
            name = "flash_attention_2"
        else:
            name = "sdpa" if supports(model_class, "sdpa", config) else "eager"
    logger.info("attention: %s", name)
    return name


def installed(package: str) -> bool:
    """Whether an optional package can be imported."""
    return importlib.util.find_spec(package) is not None


def load_weights(model: Any, folder: str | Path) -> None:
    """The weights saved in `folder` into `model`: an adapter's matrices, or the whole model through its own class.

    Raises:
        ValueError: weights of another model, or of a model of other sizes.
    """
    try:
        if hasattr(model, "disable_adapter"):
            _load_adapter(model, Path(folder))
        else:
            saved, info = type(inner_model(model)).from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
            check_complete(str(folder), info["missing_keys"], info["unexpected_keys"])
            model.load_state_dict(saved.state_dict())
    except (RuntimeError, OSError) as error:  # the first: sizes differ; the second: no such file
        raise ValueError(f"The weights in {folder} do not fit this run's model: {first_line(error)}.") from error


def _load_adapter(model: Any, folder: Path) -> None:
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    saved = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    base = model.peft_config["default"].base_model_name_or_path
    if saved and base and Path(saved).resolve() != Path(base).resolve():
        raise ValueError(
            f"{folder} holds an adapter of {saved}, but this run starts from {base}; use the same model_path."
        )
    loaded: Any = set_peft_model_state_dict(model, load_file(folder / ADAPTER_WEIGHTS))
    lost = [*loaded.unexpected_keys, *(name for name in loaded.missing_keys if ".lora_" in name)]
    if lost:
        raise ValueError(
            f"{folder} and this run's adapter are of different layers, e.g. {lost[0]}; use the same LoRA.targets."
        )


def weights_fingerprint(model: Any) -> str:
    """Sixteen hex digits that differ when any tensor was trained: up to 64 evenly spaced values of each are hashed."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            values = tensor.detach().reshape(-1)
            sample = values[:: max(1, values.numel() // 64)][:64].contiguous().cpu()
            digest.update(f"{name} {tuple(tensor.shape)} ".encode() + sample.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
