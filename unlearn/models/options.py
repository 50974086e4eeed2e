"""Options that make a step faster or smaller and depend on the machine: checked before a model loads, applied after.

FlashAttention-2, Liger kernels and bitsandbytes are optional packages, imported where they are used.
"""

import functools
import logging
import os
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from unlearn.config.settings import TrainSettings
from unlearn.models import compat
from unlearn.models.families import decoder_blocks
from unlearn.models.features import check_budget
from unlearn.models.loading import installed
from unlearn.models.start import Start, first_line

logger = logging.getLogger(__name__)
COMPILE_STEPS = 500


def set_up_gpu(*, cudnn_attention: bool) -> None:
    """What torch must know before it first uses a GPU; nothing on a CPU.

    cuDNN's attention plans its kernel for each new (rows, length, mask), some 55 ms a plan, and batches of a run are
    rarely alike. Segments of the allocator that grow keep batches of changing size from fragmenting the memory; a
    choice that the environment makes stays.
    """
    if not torch.cuda.is_available():
        return
    if "PYTORCH_ALLOC_CONF" not in os.environ:  # the newer name of the same
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    torch.backends.cuda.enable_cudnn_sdp(cudnn_attention)


def skip_picture_check(checked: bool) -> None:
    """On a GPU, transformers' own check of image tokens against features reads a number back in each forward: off
    exactly where the collator has `checked` the same."""
    if torch.cuda.is_available():
        os.environ["TRANSFORMERS_DISABLE_TORCH_CHECK"] = str(int(checked))


def check_options(settings: TrainSettings, start: Start) -> None:
    """ValueError for an option that this machine cannot run, or that does not go with another one.

    Args:
        start: the model that training starts from.
    """
    gpu = torch.cuda.is_available()
    check_budget(settings.vision_features)
    if settings.attn_implementation == "flash_attention_2":
        _need(gpu, "attn_implementation=flash_attention_2 needs a GPU", "take auto or sdpa")
        _need(installed("flash_attn"), "attn_implementation=flash_attention_2 needs the package flash-attn",
              "install it as docs/scaling.md says, or take auto")  # fmt: skip
    if settings.compile is True and gpu:
        _need(installed("triton"), "compile=true needs the package triton", "pip install triton, or set compile=false")
    if settings.liger is True:
        _need(gpu, "liger=true needs a GPU: its Triton kernels cannot run on a CPU", "set liger=false")
        _need(installed("liger_kernel"), "liger=true needs the package liger-kernel", 'pip install -e ".[gpu]"')
    if "8bit" in settings.optim or "bnb" in settings.optim or settings.quantization:
        what = f"quantization={settings.quantization}" if settings.quantization else f"optim={settings.optim}"
        _need(installed("bitsandbytes"), f"{what} needs the package bitsandbytes", "pip install bitsandbytes")
    if settings.quantization:
        _need(
            settings.LoRA.r > 0,
            f"quantization={settings.quantization} with LoRA.r=0: quantised weights cannot be trained",
            "set LoRA.r > 0 or quantization=null",
        )
        _need(settings.LoRA.targets == "language" or settings.freeze_vision_module,
              "quantization trains adapters of the language model only", "set freeze_vision_module=true")  # fmt: skip
        _need(
            not start.adapter,
            f"quantization={settings.quantization} needs a whole model to start from, and {start.name} is an adapter",
            "merge it into its base first, or set quantization=null",
        )


def _need(fulfilled: bool, problem: str, remedy: str) -> None:
    if not fulfilled:
        raise ValueError(f"{problem}; {remedy}.")


def wants_compile(asked: bool | str, steps: int) -> bool:
    """`asked`, or for `auto` whether a run of `steps` optimiser steps on a GPU earns the minutes of compiling. Logs
    why."""
    if asked != "auto":
        return bool(asked)
    if not torch.cuda.is_available():
        return _chosen("compile", False, "no GPU")
    if not installed("triton"):
        return _chosen("compile", False, "the package triton is not installed")
    why = f"{steps} steps, and 1 to 3 minutes of compiling are earned in {COMPILE_STEPS}"
    return _chosen("compile", steps > COMPILE_STEPS, why)


def wants_liger(asked: bool | str, kind: str, *, compiled: bool) -> bool:
    """`asked`, or for `auto` whether there is a GPU, the package, and kernels for a model type `kind`. Logs why.

    Compiled blocks have their norms and products fused already, and a compiler does not look into Liger's kernels.
    """
    if asked != "auto":
        return bool(asked)
    if not torch.cuda.is_available():
        return _chosen("liger", False, "no GPU")
    if compiled:
        return _chosen("liger", False, "compile fuses the same")
    if not installed("liger_kernel"):
        return _chosen("liger", False, "the package liger-kernel is not installed")
    return _chosen("liger", kind in liger_kinds(), f"a {kind} model")


def _chosen(option: str, on: bool, why: str) -> bool:
    logger.info("%s: auto: %s (%s)", option, "on" if on else "off", why)
    return on


def liger_kinds() -> Collection[str]:
    """The model types that Liger knows."""
    from liger_kernel.transformers import monkey_patch

    return monkey_patch.MODEL_TYPE_TO_APPLY_LIGER_FN


def use_liger(model: Any) -> None:
    """Replaces rotary embeddings, RMSNorm and SwiGLU by Liger's kernels, in place. Its fused cross-entropy stays out:
    it returns no logits, and every method needs them.

    Raises:
        ValueError: a model type that Liger does not know; nothing would be replaced.
    """
    from liger_kernel.transformers import monkey_patch

    kind = model.config.model_type
    if kind not in liger_kinds():
        raise ValueError(f"liger=true: Liger has no kernels for {kind} models; set liger=false.")
    # rope, rms_norm and swiglu are on by default; named here, LLaVA's patch would not take them
    monkey_patch._apply_liger_kernel_to_instance(model=model, cross_entropy=False, fused_linear_cross_entropy=False)
    logger.info("liger: rotary embeddings, RMSNorm and SwiGLU of %s", kind)


def use_fused_lora(model: nn.Module, asked: bool | str) -> None:
    """LoRA layers as unlearn/models/fast_lora.py has them, in place, where `asked` (true, false, or `auto`: on a GPU)
    and the model allow it; what cannot be served keeps PEFT's forward. Logs which.

    On a CPU `auto` leaves them alone: no launches are saved there, and earlier runs keep their bits.
    """
    if asked is False or not hasattr(model, "peft_config"):
        return
    gpu = torch.cuda.is_available()
    if asked == "auto" and not _chosen("fused_lora", gpu, "a GPU" if gpu else "no GPU"):
        return
    from unlearn.models.fast_lora import fuse_lora

    served, others = fuse_lora(model)
    rest = f"; {others} keep PEFT's forward (dropout, a quantised base, another kind of adapter)" if others else ""
    logger.log(logging.WARNING if others and asked is True else logging.INFO, "fused_lora: %d layers%s", served, rest)


MLP_NAMES = ("mlp", "feed_forward", "block_sparse_moe")


def checkpoint_mlps(model: nn.Module) -> None:
    """Each decoder block keeps its MLP's input for the backward pass and computes the inside anew there, in place. The
    attention, a third of what a block keeps, stays.

    Raises:
        ValueError: a block whose MLP goes by a name that is not known here.
    """
    from torch.utils.checkpoint import checkpoint

    for block in decoder_blocks(model):
        mlp: Any = next((found for name in MLP_NAMES if (found := getattr(block, name, None)) is not None), None)
        if mlp is None:
            raise ValueError(
                f"gradient_checkpointing=mlp: {type(block).__name__} has none of {', '.join(MLP_NAMES)}; set "
                "gradient_checkpointing=true, which checkpoints whole blocks."
            )
        draws = any(isinstance(module, nn.Dropout) and module.p > 0 for module in mlp.modules())
        mlp.forward = functools.partial(checkpoint, mlp.forward, use_reentrant=False, preserve_rng_state=draws)
    logger.info("gradient_checkpointing: the MLPs of %d decoder blocks", len(decoder_blocks(model)))


def compile_blocks(model: nn.Module, backend: Any = "inductor") -> None:
    """torch.compile of each decoder block's forward, in place, whole or not at all.

    Blocks and not the model: all blocks share one compilation, parameter names stay (a checkpoint reads as before), and
    PEFT, which calls the inner model's `forward` directly, cannot step around it. Hooks of an engine stay outside. A
    switched adapter is a second specialisation of the same code. A block that breaks the graph, or a compiler that
    fails, leaves all blocks as they were, with a warning.
    """
    blocks = decoder_blocks(model)
    way = CompiledOrPlain()
    for block in blocks:
        compiled = torch.compile(block.forward, backend=backend, dynamic=True, fullgraph=True)
        block.forward = functools.partial(way.call, block.forward, compiled)
    logger.info("compile: %d decoder blocks with %s", len(blocks), backend)


class CompiledOrPlain:
    """The way all blocks are called: compiled, until that fails once."""

    failed = False

    def call(self, plain: Any, compiled: Any, *args: Any, **kwargs: Any) -> Any:
        """What is raised here is raised while code is made, before any of it has run: the plain call starts anew."""
        if not self.failed:
            limit, other = compat.compile_errors()
            try:
                return compiled(*args, **kwargs)
            except limit:  # one shape too many: this call only
                pass
            except other as error:
                self.failed = True
                logger.warning("compile: off, this model's blocks cannot be compiled (%s)", first_line(error))
        return plain(*args, **kwargs)
