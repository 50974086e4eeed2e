"""How a vision-language model takes pictures: the only file that knows.

Nothing is listed per family that its class, its config or its processor says (models/pictures.py asks the processor).
"""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unlearn.models import compat
from unlearn.models.families import padded_positions

logger = logging.getLogger(__name__)

# Model types with a test of their own (tests/vision_models.py); docs/models.md says how each was tried.
TESTED = ("llava", "llava_next", "llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl", "gemma3",
          "idefics3", "smolvlm", "paligemma", "llama4", "mistral3")  # fmt: skip
COUNTED = ("llava", "qwen2_vl", "qwen2_5_vl")  # a prompt has a token for each feature of its picture, by a known rule
NEEDED = ("input_ids", "pixel_values", "logits_to_keep")
PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
PER_PICTURE = ("image_sizes", "image_grid_thw", "pixel_attention_mask", "spatial_shapes")
# PaliGemma reads its prompt in both directions and its answer, of type 1, in one; elsewhere answers are of type 0.
ANSWER_TYPE = {"PaliGemmaProcessor": 1}
# For processors that come without a chat template; PaliGemma's adds the start token and the newline after a picture.
TEMPLATES = {
    "PaliGemmaProcessor": "{% for m in messages %}{% if m['role'] == 'user' %}{% set pictures = m['content'] | "
    "selectattr('type', 'equalto', 'image') | list %}{% set question = (m['content'] | selectattr('type', 'equalto', "
    "'text') | first)['text'] %}{% if pictures %}{{ '<image>' + question }}{% else %}{{ bos_token + question + '\\n' }}"
    "{% endif %}{% else %}{{ m['content'][0]['text'] + eos_token }}{% endif %}{% endfor %}"
}


def vision_class(config: Any) -> Any:
    """The class of a vision-language checkpoint, None for a language model's.

    Raises:
        ValueError: a model that reads pictures in a way this project cannot serve; it is never read as text only.
    """
    found = compat.image_text_class(config)
    pictures = any(name != "text_config" for name in getattr(config, "sub_configs", {}))
    if found is None or (not pictures and "pixel_values" not in compat.forward_inputs(found)):
        if found is None and pictures and compat.causal_class(config) is None:
            raise _unsupported(config, "transformers has no image-text-to-text class for it")
        return None
    inputs = compat.forward_inputs(found)
    lacks = [name for name in NEEDED if name not in inputs]
    if getattr(config, "is_encoder_decoder", False):
        raise _unsupported(config, "it has an encoder and a decoder, and answers are scored with one decoder")
    if "cross_attention_mask" in inputs or "image_attention_mask" in inputs:
        raise _unsupported(config, "its text attends to pictures through layers of their own, not through image tokens")
    if lacks:
        raise _unsupported(config, f"the forward of {found.__name__} takes no {' and no '.join(lacks)}")
    return found


def check_kind(config: Any, path: str) -> None:
    """ValueError for a model whose pictures cannot be read, or with a recurrent state (Mamba, RWKV, hybrids), which
    padding on the left would change and answers cannot share."""
    if vision_class(config) is None and compat.keeps_state(config):
        raise ValueError(
            f"{path} is a {config.model_type}: it keeps a recurrent state, which left padding changes and the answers "
            "to one question cannot share; use a model that only attends (Llama, Qwen, GPT-2, ...)."
        )


def _unsupported(config: Any, why: str) -> ValueError:
    return ValueError(
        f"model type {config.model_type!r} is not supported: {why}. Supported are {', '.join(TESTED)}, and any other "
        f"image-text-to-text class of transformers with one decoder and image tokens in its prompt."
    )


def complete_processor(processor: Any, config: Any) -> None:
    """What LLaVA folders saved before transformers 4.46 do not say, from the model's config, in place.

    Raises:
        ValueError: neither says it; it is named, with the file it belongs into.
    """
    if not hasattr(processor, "patch_size") or not hasattr(processor, "vision_feature_select_strategy"):
        return
    vision = getattr(config, "vision_config", None)
    told = processor.patch_size is not None
    if processor.patch_size is None:
        processor.patch_size = getattr(vision, "patch_size", None)
    if processor.vision_feature_select_strategy is None:
        processor.vision_feature_select_strategy = getattr(config, "vision_feature_select_strategy", None)
    if processor.num_additional_image_tokens == 0 and vision is not None:
        # saved before 4.46 it says nothing, which reads as 0; a CLIP tower has its class token
        processor.num_additional_image_tokens = int("clip" in vision.model_type)
    for name in ("patch_size", "vision_feature_select_strategy"):
        if getattr(processor, name) is None:
            raise ValueError(
                f"the processor {type(processor).__name__} has no {name}, and the model's config.json does not say it "
                f"either; write it into processor_config.json (transformers before 4.46 left it out)."
            )
    if not told:
        logger.info("the processor says no patch size: %s, taken from config.json", processor.patch_size)


def pictures_at(inputs: Mapping[str, Tensor], places: list[int]) -> dict[str, Tensor]:
    """The per-picture inputs of the pictures at `places` alone (of the families in COUNTED)."""
    pixels, grid = inputs["pixel_values"], inputs.get("image_grid_thw")
    if not places:
        return {}
    if grid is None:
        return {"pixel_values": pixels[places]}
    parts = pixels.split(grid.prod(-1).tolist())
    return {"pixel_values": torch.cat([parts[place] for place in places]), "image_grid_thw": grid[places]}


def feature_count(config: Any, inputs: Mapping[str, Tensor]) -> int | None:
    """How many features the model makes of one picture's `inputs`, each in the place of one image token; None for a
    family whose rule is not written here (transformers then checks each forward)."""
    vision: Any = getattr(config, "vision_config", None)
    if config.model_type in ("qwen2_vl", "qwen2_5_vl") and "image_grid_thw" in inputs:
        return int(inputs["image_grid_thw"].prod(-1).sum()) // vision.spatial_merge_size**2
    if config.model_type == "llava" and vision.model_type in ("clip_vision_model", "siglip_vision_model"):
        pictures, _, height, width = inputs["pixel_values"].shape
        states = (height // vision.patch_size) * (width // vision.patch_size) + (vision.model_type[0] == "c")
        return pictures * (states - (config.vision_feature_select_strategy == "default"))
    return None


def vision_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The parts that turn pixels into features, by module path: the topmost modules that are built from a config of
    another modality than text (LLaVA's vision_tower, Qwen's visual, Llama 4's vision_model)."""
    whole: Any = model
    inner: Any = whole.get_base_model() if hasattr(model, "get_base_model") else model
    kinds = tuple(
        type(part)
        for name in getattr(inner.config, "sub_configs", {})
        if name != "text_config" and (part := getattr(inner.config, name, None)) is not None
    )
    found: dict[str, nn.Module] = {}
    for name, module in inner.named_modules():  # parents come before their children
        inside = any(name.startswith(other + ".") for other in found)
        if module is not inner and not inside and kinds and isinstance(getattr(module, "config", None), kinds):
            found[name] = module
    return found


def positions(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """Positions of left-padded tokens: [n, L], or [3, n, L] where the class lays pictures out on axes of their own
    (time, height, width; the Qwen-VL families)."""
    mask = inputs["attention_mask"]
    owner: Any = next((module for module in model.modules() if hasattr(module, "get_rope_index")), None)
    if owner is None or "image_grid_thw" not in inputs:
        return padded_positions(mask)
    taken = compat.arguments(owner.get_rope_index)
    found, _ = owner.get_rope_index(**{name: value for name, value in inputs.items() if name in taken})
    return found
