"""Every name of a library that is private, or that the library may move: one line each, and a test that fails when it
goes.

What can be asked for at one place is asked here, as a function. Methods of the Trainer that are overridden must stay in
their class; they are listed as names, and the same test looks them up.
"""

import contextlib
import functools
import inspect
from collections.abc import Iterator
from typing import Any

import torch

# Methods of transformers.Trainer that unlearn/training/trainer.py overrides or calls.
TRAINER = ("_get_output_dir", "_save_checkpoint", "_save", "_save_optimizer_and_scheduler",
           "_load_optimizer_and_scheduler", "_load_from_checkpoint", "_prepare_input", "_prepare_inputs",
           "compute_loss", "training_step", "log", "get_train_dataloader", "save_model")  # fmt: skip
# Class attributes of transformers.PreTrainedModel that are read (a class without one is taken to lack the feature).
MODEL = ("_no_split_modules", "_supports_sdpa", "_supports_flash_attn", "_is_stateful")
# Attributes of a transformers.PreTrainedConfig that are read, and one that is set.
CONFIG = ("_attn_implementation",)
# Names of torch (several tensors by one kernel) and of torch.nn.Module.
TORCH = ("_foreach_copy_", "_foreach_mul", "_dynamo")
MODULE = ("_forward_hooks", "_forward_pre_hooks")
# Attributes of a datasets.Dataset that are read.
DATASET = ("_fingerprint",)
# Modules and what is taken from them, where that is not their library's documented surface.
NAMES = {
    "transformers.cache_utils": ("DynamicLayer", "StaticCache", "StaticLayer"),
    "transformers.models.auto.modeling_auto": ("MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",),
    "transformers.models.auto.processing_auto": ("PROCESSOR_MAPPING_NAMES",),
    "transformers.processing_utils": ("ProcessorMixin",),
    "transformers.trainer": ("TRAINER_STATE_NAME",),
    "transformers.training_args": ("OptimizerNames",),
    "peft": ("set_peft_model_state_dict", "get_peft_model_state_dict"),
    "accelerate.utils": ("gather_object", "broadcast_object_list"),
    "accelerate.utils.fsdp_utils": ("fsdp2_prepare_model",),
    "transformers.utils": ("cached_file", "torch_compilable_check"),
    "peft.tuners.lora.layer": ("LoraLayer",),
    "hydra.core.global_hydra": ("GlobalHydra",),
    "hydra.core.hydra_config": ("HydraConfig",),
    "hydra.errors": ("HydraException",),
    "datasets": ("Dataset", "DatasetDict", "load_dataset", "Image"),
}
# The same in packages that only some machines have; their modules are read, not imported, where importing needs a GPU.
OPTIONAL = {
    "transformers.integrations.deepspeed": ("_hf_deepspeed_config_weak_ref", "is_deepspeed_zero3_enabled"),
    "deepspeed.utils": ("safe_get_full_fp32_param",),
    "liger_kernel.transformers.monkey_patch": ("MODEL_TYPE_TO_APPLY_LIGER_FN", "_apply_liger_kernel_to_instance"),
}


def image_text_class(config: Any) -> Any:
    """The class that AutoModelForImageTextToText would build from `config`, None if it knows none."""
    from transformers import AutoModelForImageTextToText

    return _mapped(AutoModelForImageTextToText, config)


def causal_class(config: Any) -> Any:
    """The class that AutoModelForCausalLM would build from `config`, None if it knows none."""
    from transformers import AutoModelForCausalLM

    return _mapped(AutoModelForCausalLM, config)


def _mapped(auto: Any, config: Any) -> Any:
    if type(config) not in auto._model_mapping:
        return None
    found = auto._model_mapping[type(config)]
    return found[0] if isinstance(found, (tuple, list)) else found


def processor_class_name(model_type: str) -> str | None:
    """The name of the processor class that transformers lists for a model type."""
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    return PROCESSOR_MAPPING_NAMES.get(model_type)


def supports(model_class: Any, attention: str, config: Any = None) -> bool:
    """Whether a class, and each class that is built inside it from a part of `config`, has an attention form: `sdpa`
    or `flash_attn` (PaliGemma 2 says it has sdpa, the Gemma 2 in it has not)."""
    from transformers import AutoModel

    parts = [getattr(config, name, None) for name in getattr(config, "sub_configs", {})]
    classes = [model_class, *(found for part in parts if part is not None and (found := _mapped(AutoModel, part)))]
    return all(getattr(each, f"_supports_{attention}", False) for each in classes)


def attends_by(config: Any) -> str:
    """The form of attention that a loaded model's (text) config names: sdpa, eager, flash_attention_2, ..."""
    return str(config._attn_implementation)


@contextlib.contextmanager
def with_mask(config: Any) -> Iterator[None]:
    """Meanwhile a language model of `config` that attends by a FlashAttention, which takes no mask of places, does so
    by sdpa."""
    before = attends_by(config)
    if before.startswith("flash"):
        config._attn_implementation = "sdpa"
    try:
        yield
    finally:
        config._attn_implementation = before


def keeps_state(config: Any) -> bool:
    """Whether the language model of `config` carries a recurrent state from token to token."""
    return bool(getattr(causal_class(config), "_is_stateful", False))


def has_listeners(module: Any) -> bool:
    """Whether a hook waits for a module to be called (ZeRO-3 gathers weights by one)."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def compile_errors() -> tuple[type[Exception], type[Exception]]:
    """What torch.compile raises where it has made as many versions of a function as it may, and where it cannot."""
    return torch._dynamo.exc.FailOnRecompileLimitHit, torch._dynamo.exc.TorchDynamoException


def unsplit_blocks(model: Any) -> set[str]:
    """Class names of the blocks that a sharding engine must gather whole."""
    return set(model._no_split_modules or ())


def arguments(function: Any) -> frozenset[str]:
    """The names of what a function takes."""
    return frozenset(inspect.signature(function).parameters)


@functools.cache
def forward_inputs(model_class: Any) -> frozenset[str]:
    """The names that a class's forward takes."""
    return arguments(model_class.forward)


@functools.cache
def image_only(official: Any) -> Any:
    """A subclass of the processor class `official` that needs no video processor, and so no torchvision.

    What a processor is made of is read from its class's `get_attributes`; the class name stays, so what it saves reads
    like any other folder. SmolVLM's own `apply_chat_template` asks the video processor for its frames; the common one
    does not.
    """
    from transformers.processing_utils import ProcessorMixin

    signature = inspect.signature(official.__init__)
    parts = [name for name in official.get_attributes() if name != "video_processor"]
    options = set(signature.parameters) - {"self", "kwargs", *official.get_attributes()}

    def __init__(self: Any, image_processor: Any = None, tokenizer: Any = None, **given: Any) -> None:
        given = {"video_processor": None, **given, "image_processor": image_processor, "tokenizer": tokenizer}
        official.__init__(self, **given)

    def from_args_and_dict(cls: Any, args: Any, saved: dict[str, Any], **given: Any) -> Any:
        kept = {key: value for key, value in {**saved, **given}.items() if key in options}
        return cls(**dict(zip(parts, args, strict=True)), **kept)

    __init__.__signature__ = signature  # type: ignore[attr-defined]  # what is saved follows from it
    body = {"__init__": __init__, "get_attributes": classmethod(lambda cls: list(parts)),
            "from_args_and_dict": classmethod(from_args_and_dict), "__module__": official.__module__,
            "apply_chat_template": ProcessorMixin.apply_chat_template}  # fmt: skip
    return type(official.__name__, (official,), body)
