"""What training leaves behind: a method's final weights, whole on disk, with the adapter folded in if asked for."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from unlearn.atomic import INCOMPLETE, finite, whole_folder, write_text
from unlearn.data.collator import Collator
from unlearn.distributed.engines import gather_weights, whole_loading
from unlearn.method import Method, defines
from unlearn.models.families import inner_model
from unlearn.models.loading import load_model
from unlearn.training.trainer import UnlearnTrainer


def apply_finalize(
    method: Method, trainer: UnlearnTrainer, original: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor] | None:
    """Lets the method transform the trained weights (SKU negates the task vector): in place (None), or, where an engine
    holds them in parts, as the whole weights to save (on the main process; empty on the others)."""
    if not defines(method, "finalize"):
        return None
    trained = {name: p for name, p in trainer.student.model.named_parameters() if p.requires_grad}
    weights = gather_weights(trainer.accelerator, trainer.model_wrapped, trainer.student)
    if weights is not None:
        if trainer.args.should_save:
            start = {name: tensor.to("cpu") for name, tensor in original.items()}
            weights |= method.finalize(start, {name: weights[name] for name in trained})
        return weights
    final = method.finalize(original, {name: p.detach() for name, p in trained.items()})
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(final[name])
    return None


def save_trained(
    trainer: UnlearnTrainer,
    folder: Path,
    collator: Collator,
    *,
    merge: bool,
    best: Path | None = None,
    final: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """The model and its processor, file by file into `folder`, each file whole; `merge` folds the adapter in.

    Every process must call this: one writes, all help to gather weights that lie in parts. `best` is a folder with
    other weights of this run, in the form they are saved in, to take instead of the last ones; `final` is what
    `apply_finalize` returned.
    """
    trainer.accelerator.wait_for_everyone()
    weights = final
    if weights is None:  # an empty one has been gathered, for the main process
        weights = gather_weights(trainer.accelerator, trainer.model_wrapped, trainer.student)
    if not trainer.args.should_save:
        return
    model = trainer.student.model
    if merge and hasattr(model, "merge_and_unload"):
        dtype = torch.bfloat16 if trainer.args.bf16 else torch.float32
        model, weights = merged(model, weights, folder, dtype), None
    save_whole(model, collator, folder, weights=weights, best=best)
    lines = [json.dumps(finite(entry)) + "\n" for entry in trainer.state.log_history]
    write_text(folder / "train_log.jsonl", "".join(lines))


def save_whole(
    model: Any,
    collator: Collator,
    folder: Path,
    *,
    weights: Mapping[str, torch.Tensor] | None = None,
    best: Path | None = None,
) -> None:
    """The model (with other `weights`, or those of the folder `best`) and its processor, file by file, each whole."""
    with whole_folder(folder / "model") as staging:
        if best is not None:
            shutil.copytree(best, staging, dirs_exist_ok=True)
        else:
            model.save_pretrained(staging, state_dict=weights)
            collator.processor.save_pretrained(staging)
    for file in sorted((folder / "model").iterdir(), key=lambda entry: entry.name == "config.json"):
        os.replace(file, folder / file.name)
    (folder / "model").rmdir()


def merged(model: Any, weights: Mapping[str, torch.Tensor] | None, folder: Path, dtype: torch.dtype) -> Any:
    """The model with its adapter folded in. A base that is quantised, which would round the sum to 4 or 8 bits, or in
    parts (`weights` is then the gathered adapter) is loaded once more, whole and as it was, and the adapter folded into
    that."""
    if weights is None and not getattr(inner_model(model), "is_quantized", False):
        return model.merge_and_unload()
    with tempfile.TemporaryDirectory(dir=folder, prefix=INCOMPLETE) as adapter, whole_loading():
        model.save_pretrained(adapter, state_dict=weights)
        return load_model(adapter, dtype=dtype)
