"""Model families (config/model_config.yaml, or a checkpoint by itself), and where the parts of their models are."""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from unlearn import ROOT
from unlearn.models.hub import is_hub_id, split_revision


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


_ADDED: dict[str, dict[str, Any]] = {}


def add_family(name: str, **entry: Any) -> None:
    """An entry from outside (a plugin), as one of model_config.yaml: `add_family("mine", hf_key="user/model")`."""
    _ADDED[name] = entry


def load_family(name: str, config: str | Path = ROOT / "config" / "model_config.yaml") -> Family:
    """The entry `name` of model_config.yaml; a hub id or a folder that has no entry there is a family by itself.

    Raises:
        ValueError: a file that is no list of families, no such family, a wrong entry.
    """
    import yaml

    try:
        entries = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{config} is no YAML ({error}); correct it.") from None
    if not isinstance(entries, dict):
        raise ValueError(f"{config} must map names of families to their keys; correct it.")
    entries |= _ADDED
    if name not in entries and (folder := _checkpoint(name)):
        return Family(name=name, hf_key=folder, text_only=_text_only(folder))
    if name not in entries:
        near = difflib.get_close_matches(name, list(entries), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"Unknown model_family {name!r}.{hint} {config} has: {', '.join(entries)}. A hub id (user/name) or the "
            f"folder of a model works too."
        )
    from unlearn.config.build import build_settings

    values = entries[name] if isinstance(entries[name], dict) else {}
    if "hf_key" not in values:
        raise ValueError(f"{config}: {name} has no hf_key; give it a hub id or a folder.")
    return build_settings(Family, {"name": name, **values}, where=f"{name}.")


def _checkpoint(name: str) -> str | None:
    """`name` if it is a model's folder (also relative to the project) or written like a hub id."""
    folders = [str(folder / name) for folder in (Path(), ROOT) if (folder / name / "config.json").is_file()]
    return folders[0] if folders else name if is_hub_id(name) else None


def _text_only(checkpoint: str) -> bool:
    """Whether a checkpoint's config.json, where it lies on this machine, has no part for pictures."""
    from huggingface_hub import try_to_load_from_cache

    local = Path(checkpoint) / "config.json"
    name, revision = split_revision(checkpoint)
    file = local if local.is_file() else None if Path(checkpoint).is_dir() else try_to_load_from_cache(
        name, "config.json", revision=revision
    )  # fmt: skip
    if not isinstance(file, (str, Path)):
        return False
    return not any(key.startswith(("vision_", "vq_")) for key in json.loads(Path(file).read_text(encoding="utf-8")))


def inner_model(model: nn.Module) -> Any:
    """The transformers model without PEFT around it."""
    wrapped: Any = model
    return wrapped.get_base_model() if hasattr(wrapped, "get_base_model") else wrapped


def decoder(model: nn.Module) -> Any:
    """The module that holds the decoder blocks, without a head (Llama 4 calls the whole language model its decoder)."""
    found: Any = inner_model(model).get_decoder()
    while not hasattr(found, "layers") and hasattr(found, "model"):
        found = found.model
    return found


def language_model_path(model: nn.Module) -> str:
    """Module path of the decoder: `model.language_model` in most vision-language models, `model` in language models."""
    wanted = decoder(model)
    for name, module in inner_model(model).named_modules():
        if module is wanted:
            return name
    raise ValueError(f"{type(model).__name__}: its decoder is not one of its modules; LoRA targets cannot be found.")


def decoder_blocks(model: nn.Module) -> list[nn.Module]:
    """The language model's decoder blocks, first to last."""
    own = decoder(model)
    return list(own.layers if hasattr(own, "layers") else own.h)  # GPT-2's


def padded_positions(mask: Tensor) -> Tensor:
    """[n, L] positions of left-padded tokens, the first real one at 0."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def decoder_layers(model: nn.Module) -> int:
    """Number of decoder blocks of the language model."""
    config = inner_model(model).config
    return int(getattr(config, "text_config", config).num_hidden_layers)
