"""The settings hash, by which two runs are the same run, and in words what tells two runs apart."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from unlearn import ROOT
from unlearn.data.written import recipes
from unlearn.distributed.processes import world_size
from unlearn.registry import build_method, options_of
from unlearn.results import read_record

# What does not change the result: two runs that differ only here are the same run.
NOT_IDENTITY = {
    "save_dir",
    "plugins",  # their content is noted (made_from), wherever they lie
    "overwrite_dir",
    "overwrite",
    "resume_from_checkpoint",
    "report_to",
    "logging_steps",
    "save_steps",
    "save_ckpts",
    "num_workers",
    "tokens_per_forward",  # the same mean of the same losses, added up in another order
    "cudnn_attention",
    "fused_lora",
    "vision_features",
    "log_grad_norms",
    "eval_while_train",
    "eval_while_train_items",
    "keep_retain",
    "forget_target",
}
AS_OFF = {"liger", "compile", "gradient_checkpointing"}  # no part of it either; hashed as off, as they were by default
IF_SET = {"benchmark", "exclude_people"}  # came later: left alone, they change no hash
CHOOSES = {
    "eval_while_train_items",
    "keep_retain",
    "forget_target",
}  # what counts once keep_best or stop_early looks at it


def settings_hash(settings: Any, leave_out: frozenset[str] = frozenset()) -> str:
    """Twelve hex digits over every setting that can change a result, and over the run that made the start model.

    Of `method_args` the chosen method's options count; `logging_steps` counts where `stop_when` looks at the log lines.

    `leave_out={"seed", "model_path"}` is the variant that runs of several seeds share.
    """
    values = {key: value for key, value in _identity(settings).items() if key not in leave_out}
    if "model_path" in values:
        values["start"] = start_hash(settings)
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _identity(settings: Any) -> dict[str, Any]:
    """The settings that can change this run's result."""
    values = dataclasses.asdict(settings)
    kept = {"logging_steps"} if values.get("stop_when") is not None else set()
    if values.get("keep_best") or values.get("stop_early"):
        kept |= CHOOSES
    if values.get("LoRA", {}).get("layers", 0) is None:  # not in the hashes of earlier runs
        del values["LoRA"]["layers"]
    if wrap := values.pop("wrap", None):  # an empty one leaves the hashes of earlier runs what they were
        values["wrap"] = {name: options_of(name, values["method_args"]) for name in wrap}
    if "method_args" in values:
        values["method_args"] = options_of(values["forget_loss"], values["method_args"])
        method = build_method(values["forget_loss"], values["method_args"])
        if written := recipes(method.student_views):
            values["written"] = written
    values |= dict.fromkeys(AS_OFF & values.keys(), False)
    if batch := step_batch(settings):  # however many processes share the step: as one process would accumulate it
        del values["global_batch_size"]
        values["gradient_accumulation_steps"] = batch["global"] // batch["per_device"]
    left = (NOT_IDENTITY - kept) | {key for key in IF_SET if not values.get(key)}
    if not (values.get("own_data") or {}).get("path"):
        left |= {"own_data"}
    return {key: value for key, value in values.items() if key not in left}


def _comparable(value: Any) -> str:
    """As JSON; a part that is null is one that an earlier version did not have."""
    kept = {key: part for key, part in value.items() if part is not None} if isinstance(value, dict) else value
    return json.dumps(kept, default=str)


def step_batch(settings: Any) -> dict[str, int]:
    """Rows of one optimiser step, and how this launch shares them out; empty for runs without such steps (cv).

    Raises:
        ValueError: `global_batch_size` cannot be met by this launch.
    """
    if not hasattr(settings, "accumulation"):
        return {}
    size, accumulation, processes = settings.batch_size, settings.accumulation(world_size()), world_size()
    whole = size * accumulation * processes
    return {"global": whole, "per_device": size, "accumulation": accumulation, "processes": processes}


def start_hash(settings: Any) -> str | None:
    """The hash of the run that made the model this one starts from; None where no run of this project made it."""
    start = getattr(settings, "model_path", None)
    for folder in (Path(start), ROOT / start) if start else ():
        if (record := read_record(folder)) is not None:
            return record.get("settings_hash")
    return None


def difference(known: dict[str, Any], kind: str, settings: Any) -> str:
    """What a user has to look at: the kind of run, the keys that differ, or the model that both start from."""
    if known.get("kind") != kind:
        return f"a {known.get('kind')} run"
    old, new = known.get("settings", {}), dataclasses.asdict(settings)
    changed = [
        f"{key}: {old.get(key)!r} there, {new[key]!r} here"
        for key in _identity(settings)
        if key in new and _comparable(old.get(key)) != _comparable(new[key])
    ]
    there, here = known.get("batch", {}).get("global"), step_batch(settings).get("global")
    if there and there != here:
        changed.insert(0, f"rows of one step: {there} there, {here} here")
    if not changed:
        return f"{settings.model_path} was made anew with other settings"
    return "; ".join(changed[:3]) + ("; ..." if len(changed) > 3 else "")
