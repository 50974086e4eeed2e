"""Folders that are either whole or absent, finding the newest one to resume from, and reading its weights."""

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from unlearn.families import inner_model

INCOMPLETE = ".incomplete"
BEST = "best"  # best-<step>: the best weights so far (watch.py)
CHECKPOINT = re.compile(r"checkpoint-(\d+)")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write into that becomes `path` by one rename when the block ends, replacing an older one."""
    staging = path.parent / f"{INCOMPLETE}-{path.name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    yield staging
    replace_folder(staging, path)


def replace_folder(staging: Path, path: Path) -> None:
    """`staging` under the name `path`. The old folder goes first: for a moment there is none, never half of one."""
    if path.exists():
        old = path.parent / f"{INCOMPLETE}-old-{path.name}"
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
        staging.rename(path)
        shutil.rmtree(old)
    else:
        staging.rename(path)


def _whole_checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints under `folder`, fewest steps first."""
    found = [(int(match[1]), entry) for entry in folder.glob("checkpoint-*") if (match := CHECKPOINT.fullmatch(entry.name))]
    return [entry for _, entry in sorted(found) if (entry / "trainer_state.json").is_file()]


def newest_checkpoint(folder: Path) -> Path | None:
    """The whole checkpoint with the most steps under `folder`, or None."""
    return next(reversed(_whole_checkpoints(folder)), None)


def keep_newest(folder: Path, count: int | None) -> None:
    """Removes all but the `count` newest checkpoints; None keeps them all."""
    for old in _whole_checkpoints(folder)[: -count if count else 0]:
        shutil.rmtree(old)


def load_weights(model: Any, folder: str | Path) -> None:
    """The weights saved in `folder` into `model`: an adapter's matrices, or the whole model through its own class."""
    if hasattr(model, "disable_adapter"):
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        set_peft_model_state_dict(model, load_file(Path(folder) / "adapter_model.safetensors"))
        return
    saved = type(inner_model(model)).from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    model.load_state_dict(saved.state_dict())


def remove_checkpoints(folder: Path) -> None:
    """Checkpoints and half-written folders of a finished run."""
    for entry in [*folder.glob("checkpoint-*"), *folder.glob(f"{BEST}-*"), *folder.glob(f"{INCOMPLETE}*")]:
        shutil.rmtree(entry)


def weights_fingerprint(model: Any) -> str:
    """Sixteen hex digits that differ when any tensor was trained: up to 64 evenly spaced values of each are hashed."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            values = tensor.detach().reshape(-1)
            sample = values[:: max(1, values.numel() // 64)][:64].contiguous().cpu()
            digest.update(f"{name} {tuple(tensor.shape)} ".encode() + sample.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
