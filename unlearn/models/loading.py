"""From a path to a model: folders, hub ids and adapters, in the precision and with the attention that are asked for."""

import hashlib
import importlib.util
import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from unlearn import ROOT
from unlearn.models.compat import causal_class, supports
from unlearn.models.families import inner_model
from unlearn.models.hub import MODEL_FILES, pulled, split_revision
from unlearn.models.vision import vision_class

logger = logging.getLogger(__name__)


def resolve_path(path: str) -> str:
    """A folder given relative to the working directory or to the project; a hub id passes through, that of an adapter
    or of a pinned revision (`user/name@v1`) as its snapshot in the hub's cache.

    Raises ValueError for what can be neither: an absolute or deeper path that does not exist.
    """
    if (folder := _local_folder(path)) is not None:
        return folder
    if split_revision(path)[0].count("/") > 1 or path.startswith((".", "/", "models/", "minibench/")) or not path:
        raise ValueError(
            f"model_path={path!r} does not exist. Run the step that makes it (mm/finetune.py writes "
            f"models/<family>/ft_<split>), "
            "or give a folder or a hub id such as llava-hf/llava-1.5-7b-hf."
        )
    return pulled(path)


def _local_folder(path: str) -> str | None:
    for candidate in (Path(path), ROOT / path):
        made = any(
            (candidate / name).is_file() for name in MODEL_FILES
        )  # results of a hub model lie in a folder of its name
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
        raise ValueError(
            f"{file} is damaged ({type(error).__name__}: {error}); copy it or train the adapter again."
        ) from None
    try:
        return resolve_path(f"{base}@{revision}" if revision and _local_folder(base) is None else base)
    except ValueError as error:
        raise ValueError(f"{path} is an adapter of a model that is missing: {error}") from None


def check_weights(path: str) -> None:
    """ValueError for a folder without weights or with a file copied in part, by its header; a hub id is taken at its
    word."""
    folder = Path(resolve_path(path))
    if not folder.is_dir():
        return
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(
            f"{folder} holds no weights (*.safetensors); copy or make the model again, or use another model_path."
        )
    for file in files:
        try:
            safe_open(file, framework="pt").__exit__(None, None, None)
        except SafetensorError as error:
            raise ValueError(
                f"The weights in {file} cannot be read ({first_line(error)}); copy or make them again."
            ) from error
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
    vision = vision_class(config)
    auto = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    model_class = vision or causal_class(config)
    attention = choose_attention(attn_implementation, model_class, dtype, config)
    options = quantization_options(quantization, dtype)
    try:
        model = auto.from_pretrained(path, dtype=dtype, use_safetensors=True, attn_implementation=attention, **options)
    except torch.OutOfMemoryError:
        raise
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"The weights in {path} cannot be read ({first_line(error)}); copy or make them again."
        ) from error
    return _called(model.eval(), name)


def _called(model: Any, name: str) -> Any:
    """The model under the name that PEFT writes into adapters trained on it: never a merged adapter's base, or a
    cache folder."""
    model.name_or_path = name
    return model


def _with_adapter(base: Any, path: str, below: str) -> Any:
    """`base`, which is the model under `below`, with the adapter in `path`. ValueError if they do not fit each
    other."""
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
    return next(
        (line for line in lines if "size mismatch" in line), lines[0] if lines else type(error).__name__
    ).rstrip(".")


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


def base_config(path: str) -> Any:
    """The config of the model under `path`; of its base, where that is an adapter. ValueError: a folder without one."""
    from transformers import AutoConfig

    path = resolve_path(path)
    while is_adapter(path):
        path = adapter_base(path)
    if Path(path).is_dir() and not (Path(path) / "config.json").is_file():
        raise ValueError(f"{path!r} holds no config.json: not a saved model.")
    return AutoConfig.from_pretrained(path)


def decoder_count(path: str) -> int:
    """Number of decoder blocks of the model under `path`, from its config alone. ValueError: no model that can run."""
    config = base_config(path)
    vision_class(config)
    refuse_recurrent(config, path)
    return int(config.get_text_config().num_hidden_layers)


def refuse_recurrent(config: Any, path: str) -> None:
    """ValueError for a model with a recurrent state (Mamba, RWKV, hybrids), which padding on the left would change and
    answers cannot share."""
    if getattr(causal_class(config), "_is_stateful", False):
        raise ValueError(
            f"{path} is a {config.model_type}: it keeps a recurrent state, which left padding changes and the answers "
            "to one question cannot share; use a model that only attends (Llama, Qwen, GPT-2, ...)."
        )


def load_weights(model: Any, folder: str | Path) -> None:
    """The weights saved in `folder` into `model`: an adapter's matrices, or the whole model through its own class.

    Raises:
        ValueError: weights of another model, or of a model of other sizes.
    """
    try:
        if hasattr(model, "disable_adapter"):
            _load_adapter(model, Path(folder))
        else:
            saved = type(inner_model(model)).from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
            model.load_state_dict(saved.state_dict())
    except (RuntimeError, OSError) as error:  # the first: sizes differ; the second: no such file
        raise ValueError(f"The weights in {folder} do not fit this run's model: {first_line(error)}.") from error


def _load_adapter(model: Any, folder: Path) -> None:
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    saved = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
    base = model.peft_config["default"].base_model_name_or_path
    if saved and base and Path(saved).resolve() != Path(base).resolve():
        raise ValueError(
            f"{folder} holds an adapter of {saved}, but this run starts from {base}; use the same model_path."
        )
    loaded: Any = set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
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
