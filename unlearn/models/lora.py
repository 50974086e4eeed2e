"""Adapters: which layers get one, what stays frozen, and what is trained, all by module path."""

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from unlearn.config.settings import LoraSettings
from unlearn.method import LoraPair, Trained
from unlearn.models.families import decoder_blocks, decoder_layers, inner_model, language_model_path
from unlearn.models.vision import vision_modules

logger = logging.getLogger(__name__)


MLP = re.compile(r"(^|[._])(mlp|ffn|feed_forward|moe|experts|fc\d?)([._]|$)")  # in a path within a decoder block


def trained_layers(lora: LoraSettings, blocks: int, *, mlps_only: bool) -> list[int] | None:
    """The decoder blocks that are trained: those of `LoRA.layers`; None is all. A method that trains MLPs only takes
    the second quarter where nothing is said.

    Raises:
        ValueError: a block that a model of `blocks` blocks does not have, or none; `targets: all` beside MLPs only.
    """
    if mlps_only and lora.targets != "language":
        raise ValueError(
            f"LoRA.targets={lora.targets}: this method trains the MLPs of LoRA.layers alone; leave it at language."
        )
    if lora.layers is None:
        return list(range(blocks // 4, max(blocks // 2, blocks // 4 + 1))) if mlps_only else None
    if not lora.layers or not all(0 <= layer < blocks for layer in lora.layers):
        raise ValueError(
            f"LoRA.layers={lora.layers} must name decoder blocks, and this model has 0 to {blocks - 1}; null is all."
        )
    return sorted(set(lora.layers))


def _in_layers(model: nn.Module, names: Iterable[str], layers: Sequence[int] | None, mlps_only: bool) -> list[str]:
    """Those of the paths that lie in the decoder blocks `layers`, and with `mlps_only` in their MLPs."""
    if layers is None:
        return list(names)
    blocks = decoder_blocks(model)
    wanted = {id(blocks[layer]) for layer in layers}
    paths = tuple(f"{name}." for name, module in inner_model(model).named_modules() if id(module) in wanted)
    found = []
    for name in names:
        path = next((path for path in paths if name.startswith(path)), None)
        if path is not None and (not mlps_only or MLP.search(name.removeprefix(path))):
            found.append(name)
    if not found:
        raise ValueError(f"{type(inner_model(model)).__name__}: nothing to train in its decoder blocks {layers}.")
    return found


def lora_targets(model: nn.Module, targets: str = "language") -> list[str]:
    """Module paths of the linears to adapt: those of the language model (never the head), or `all` in the whole model.

    With `all` the head is among them unless it shares its weight with the embeddings (Qwen2-VL): merging its adapter
    would change those too.
    """
    prefix = language_model_path(model) + "." if targets == "language" else ""
    inner = inner_model(model)
    head = inner.get_output_embeddings()
    tied = head is not None and head.weight is inner.get_input_embeddings().weight
    spared = head if targets == "language" or tied else None
    names = [
        name
        for name, module in inner.named_modules()
        if name.startswith(prefix) and _is_linear(module) and module is not spared
    ]
    if not names:
        raise ValueError(f"{type(inner).__name__} has no linear layer under {prefix!r} to adapt; set LoRA.r=0.")
    return names


def _is_linear(module: nn.Module) -> bool:
    # Conv1D is GPT-2's linear, its weight transposed, which PEFT knows;
    # subclasses are no plain matrix product: routers of experts, the output of torch's fused attention
    return type(module) is nn.Linear or type(module).__name__ in ("Conv1D", "Linear4bit", "Linear8bitLt")


def prepare_trainable(
    model: Any, lora: LoraSettings, *, freeze_vision: bool, seed: int = 0, mlps_only: bool = False
) -> Any:
    """The model with what is to be trained marked and in fp32: LoRA matrices (r > 0), or every weight that is not
    frozen.

    LoRA freezes the rest by itself; `freeze_vision` decides about the vision tower in full finetuning, and with
    `targets: all` whether its linears get adapters. With `LoRA.layers`, or `mlps_only`, only what lies in those decoder
    blocks is trained. Prints nothing; logs the trainable share.
    """
    layers = trained_layers(lora, decoder_layers(model), mlps_only=mlps_only)
    if lora.r > 0:
        from peft import LoraConfig, get_peft_model

        names = lora_targets(model, lora.targets)
        if freeze_vision:
            towers = tuple(f"{name}." for name in vision_modules(model))
            names = [name for name in names if not name.startswith(towers)] if towers else names
        names = _in_layers(model, names, layers, mlps_only)
        alpha: Any = lora.alpha  # annotated int in peft, any number in fact
        config = LoraConfig(r=lora.r, lora_alpha=alpha, lora_dropout=lora.dropout, target_modules=names)
        model = get_peft_model(model, config)
        if lora.dropout == 0:
            _keep_input_type(model)
        _start_noise(model, lora.init_noise, seed)
    else:
        model.requires_grad_(True)
        if freeze_vision:
            for module in vision_modules(model).values():
                module.requires_grad_(False)
        if layers is not None:
            kept = set(_in_layers(model, dict(model.named_parameters()), layers, mlps_only))
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name in kept)
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    share = f"trained: {trained:,} of {total:,} parameters ({100 * trained / total:.2f} %)"
    if vision_modules(model):
        share += f"; vision tower {'trained' if _trains_vision(model) else 'frozen'}"
    logger.info("%s", share)
    return model


def _keep_input_type(model: nn.Module) -> None:
    """PEFT casts each adapter's input to fp32, the type of its matrices, and autocast casts it back: copies for
    nothing, one of them kept for the backward pass. Autocast alone gives the same bits (but for dropout, which scales
    in the type of its input)."""
    from peft.tuners.lora.layer import LoraLayer

    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.cast_input_dtype_enabled = False


def _trains_vision(model: nn.Module) -> bool:
    return any(p.requires_grad for module in vision_modules(model).values() for p in module.parameters())


def _start_noise(model: nn.Module, std: float, seed: int) -> None:
    """A fresh adapter has B = 0, where losses that compare with the teacher have no gradient; a little noise moves
    them."""
    if std == 0:
        return
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)


def trained_view(model: nn.Module, initial: dict[str, torch.Tensor] | None = None) -> Trained:
    """What a penalty sees: the trainable tensors by name, their start values, and LoRA layers as (A, B, scaling)."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    pairs = {}
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and "default" in getattr(module, "lora_A", {}):
            pairs[name] = LoraPair(
                module.lora_A["default"].weight, module.lora_B["default"].weight, module.scaling["default"]
            )
    return Trained(parameters=parameters, initial=initial or {}, lora=pairs)


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the trainable tensors by name, detached, on their device."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def all_finite(model: nn.Module) -> bool:
    """Whether no trained weight (of this rank) is NaN or infinite."""
    trained: list[Any] = [p for p in model.parameters() if p.requires_grad]
    held = [p.to_local() if hasattr(p, "to_local") else getattr(p, "ds_tensor", p) for p in trained]
    return all(bool(torch.isfinite(tensor).all()) for tensor in held)
