"""The engines that config/accelerate/ launches: which one a run really got, and weights in and out of their shards.

A launcher that cannot do what it was asked for falls back without a word (docs/scaling.md has the table), so what was
asked for is read from its environment variables and compared with what accelerate set up.
"""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)
CUT = ("FSDP2", "ZeRO-3")  # a process holds parts of the weights only
Weights = dict[str, Tensor]


def engine_of(accelerator: Any) -> str:
    """What holds the weights: "one process", "DDP", "FSDP1", "FSDP2", "ZeRO-1", "ZeRO-2" or "ZeRO-3"."""
    kind = accelerator.distributed_type.value
    if kind == "DEEPSPEED":
        return f"ZeRO-{accelerator.state.deepspeed_plugin.zero_stage}"
    if kind == "FSDP":
        return f"FSDP{accelerator.state.fsdp_plugin.fsdp_version}"
    return "DDP" if accelerator.num_processes > 1 else "one process"


def wanted_engine(environment: Mapping[str, str] = os.environ) -> str | None:
    """The sharding engine the launcher was asked for, by the names of `engine_of`; None for DDP and one process."""
    if environment.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true":
        return f"ZeRO-{environment.get('ACCELERATE_DEEPSPEED_ZERO_STAGE', 2)}"
    if environment.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        return f"FSDP{environment.get('FSDP_VERSION', 1)}"
    return None


def check_launch(environment: Mapping[str, str] = os.environ, *, gpu: bool) -> None:
    """ValueError, before a model loads, for a launch that would silently become another one."""
    wanted = wanted_engine(environment)
    if wanted == "FSDP1":
        raise ValueError("The launcher asks for FSDP1; set fsdp_version: 2, as config/accelerate/fsdp2.yaml does.")
    if wanted is not None and not gpu:
        raise ValueError(
            f"The launcher asks for {wanted}, but torch sees no GPU, and accelerate shards on GPUs only: it would "
            "run DDP or independent copies. Use config/accelerate/cpu.yaml."
        )
    alone = (
        "WORLD_SIZE" not in environment and "ACCELERATE_USE_CPU" in environment
    )  # what `accelerate launch --cpu` leaves
    if alone and "MASTER_PORT" in environment and environment.get("MASTER_ADDR") == "127.0.0.1":
        raise ValueError(
            "`accelerate launch --cpu` was asked for several processes, but starts only one. Use --config_file "
            "config/accelerate/cpu.yaml (with --num_processes), or --num_processes 1."
        )


def check_engine(accelerator: Any, environment: Mapping[str, str] = os.environ) -> str:
    """The engine of a run, logged with its number of processes. ValueError if it is not the one that was asked for."""
    engine, processes = engine_of(accelerator), accelerator.num_processes
    wanted, started = wanted_engine(environment), int(environment.get("WORLD_SIZE", 1))
    if processes != started:
        raise ValueError(
            f"The launcher started {started} processes, but {processes} take part: each would train for itself and "
            "write the same files. On CPUs use config/accelerate/cpu.yaml."
        )
    if wanted is not None and engine != wanted:
        raise ValueError(
            f"The launcher asks for {wanted}, but accelerate set up {engine}; use a file of config/accelerate/."
        )
    if engine == "FSDP2":  # true of outputs changed in place, which no loss does
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    if accelerator.is_main_process:
        count = f", {processes} processes" if processes > 1 else ""
        logger.info("engine: %s%s on %s", engine, count, accelerator.device.type)
    return engine


@contextlib.contextmanager
def synchronised(accelerator: Any, model: nn.Module, *, last: bool) -> Iterator[None]:
    """One of several backwards of a step: the processes' gradients meet in the `last`, where the engine can wait."""
    accelerator.gradient_state.sync_gradients = last  # DeepSpeed takes its step by it
    waits = not last and accelerator.distributed_type.value != "DEEPSPEED"
    with accelerator.no_sync(model) if waits else contextlib.nullcontext():
        yield


def check_needs(
    engine: str,
    *,
    penalty: bool = False,
    grad_norms: bool = False,
    sided: bool = False,
    edits: bool = False,
    start_weights: bool = False,
    quantized: bool = False,
) -> None:
    """ValueError for what needs whole weights, a graph that reaches them, or gradients that can be taken away, under an
    engine that has none of these."""
    if sided and engine.startswith("ZeRO"):
        raise ValueError(
            f"This method takes the gradients of the forget and the retain side apart, and {engine} keeps them to "
            "itself. Use ddp.yaml or fsdp2.yaml."
        )
    if edits and engine.startswith(("FSDP", "ZeRO")):
        raise ValueError(f"This method edits weights as a whole, and {engine} cuts them up. Use ddp.yaml.")
    if penalty and engine in CUT:
        raise ValueError(
            f"A penalty on the weights (l1_lambda) needs them whole; {engine} holds parts. Use zero2.yaml."
        )
    if start_weights and engine == "ZeRO-3":
        raise ValueError(
            "SKU with LoRA.r=0 needs the start weights whole; under ZeRO-3 they are in parts. Use fsdp2.yaml."
        )
    if quantized and engine.startswith(("FSDP", "ZeRO")):
        raise ValueError(f"A quantised base cannot be cut up by {engine}; use ddp.yaml or set quantization=null.")
    if grad_norms and engine.startswith(("FSDP", "ZeRO")):
        raise ValueError(f"log_grad_norms=true is not possible under {engine}; use ddp.yaml or set it to false.")


def keep_fp32_sums(accelerator: Any) -> None:
    """FSDP2 would add up gradients over the processes in bf16; DDP's are fp32, and so these shall be."""
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is not None and plugin.mixed_precision_policy is not None:
        from torch.distributed.fsdp import MixedPrecisionPolicy

        dtype = plugin.mixed_precision_policy.param_dtype
        plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)


def prepare_frozen(accelerator: Any, model: nn.Module, *, bf16: bool) -> nn.Module:
    """A model that is never trained, where the engine wants it: cut up under FSDP2 and ZeRO-3, else whole on the
    device.

    It computes in the precision the student computes in: a teacher in another one would differ before the first step.
    """
    engine = engine_of(accelerator)
    if engine == "FSDP2":
        from accelerate.utils.fsdp_utils import fsdp2_prepare_model

        return fsdp2_prepare_model(accelerator, model).eval()
    if engine == "ZeRO-3":
        import deepspeed

        student = accelerator.state.deepspeed_plugin.deepspeed_config["zero_optimization"]
        zero = {key: value for key, value in student.items() if key != "offload_optimizer" and value != "auto"}
        config = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": zero, "bf16": {"enabled": bf16}}
        frozen = deepspeed.initialize(model=model, config=config)[0]
        frozen.eval()  # returns nothing there
        return frozen
    if engine.startswith("ZeRO"):  # which feeds bf16 inputs, and has no autocast
        return model.to(accelerator.device, torch.bfloat16 if bf16 else None).eval()
    return accelerator.prepare_model(model, evaluation_mode=True).eval()


def gather_weights(accelerator: Any, wrapped: Any, student: Any) -> Weights | None:
    """What is to be saved of a model in parts: names of `student.model` -> CPU tensors, those that are trained in fp32.

    Of a model with an adapter only what is trained, else everything. Every process must call this; only the main one
    gets tensors, the others {}. None where each process has the whole model and can save it as it is.
    """
    engine = engine_of(accelerator)
    whole = not hasattr(student.model, "disable_adapter")
    if engine == "FSDP2":
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=not whole)
        found: dict[str, Any] = get_model_state_dict(wrapped, options=options)
        return {name.removeprefix("model."): tensor for name, tensor in found.items()}
    if engine.startswith("ZeRO"):
        return _gather_zero(accelerator.is_main_process, student.model, whole)
    return None


def _gather_zero(main: bool, model: nn.Module, whole: bool) -> Weights:
    import deepspeed
    from deepspeed.utils import safe_get_full_fp32_param

    weights: Weights = {}
    for name, parameter in model.named_parameters():
        if not (whole or parameter.requires_grad):
            continue
        master = safe_get_full_fp32_param(parameter) if parameter.requires_grad else None
        with deepspeed.zero.GatheredParameters([parameter]) if master is None else contextlib.nullcontext():
            if main:
                weights[name] = (parameter if master is None else master).detach().to("cpu", copy=True)
    if main and whole:
        weights |= {
            name: buffer for name, buffer in model.state_dict().items() if name not in weights and buffer.numel()
        }
    return weights


def save_states(trainer: Any, folder: Path) -> None:
    """Optimiser and scheduler of an FSDP2 run, whole, in one file each: any number of processes can go on from them.

    accelerate's own would write all frozen weights beside them, or, sharded, files that are read back with pickle.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    states = get_optimizer_state_dict(trainer.model_wrapped, trainer.optimizer, options=options)
    if trainer.args.should_save:
        torch.save(states, folder / "optimizer.pt")
        torch.save(trainer.lr_scheduler.state_dict(), folder / "scheduler.pt")


def load_states(trainer: Any, folder: Path) -> None:
    """What `save_states` wrote, into a prepared run. A weight without a state had no gradient yet, and that is no
    mistake."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

    states = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
    known = set(states["state"])
    if known:
        options = StateDictOptions(full_state_dict=True, strict=False)
        set_optimizer_state_dict(trainer.model_wrapped, trainer.optimizer, states, options=options)
    for name, parameter in trainer.model_wrapped.named_parameters():
        if name not in known:  # torch has made one up, a step ahead
            trainer.optimizer.state.pop(parameter, None)
    trainer.lr_scheduler.load_state_dict(torch.load(folder / "scheduler.pt", weights_only=True))


@contextlib.contextmanager
def whole_loading() -> Iterator[None]:
    """Within it a model loads whole in this process alone, also while ZeRO-3 has every other one cut up."""
    from transformers.integrations import deepspeed as integration

    reference = getattr(integration, "_hf_deepspeed_config_weak_ref", None)
    integration.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        integration._hf_deepspeed_config_weak_ref = reference


def loads_in_parts() -> bool:
    """Whether models load cut up (ZeRO-3): they cannot be copied then, only loaded again."""
    from transformers.integrations import is_deepspeed_zero3_enabled

    return is_deepspeed_zero3_enabled()
