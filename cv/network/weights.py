"""Checkpoints of recognisers: one safetensors file per model, whose header says which run and which data made it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from cv.network.stack import NetworkSpec

SINGLE = "model.safetensors"  # the pretrained network, which every model starts from


def model_file(folder: Path, model: int) -> Path:
    return folder / f"{model:03d}.safetensors"


def save_weights(file: Path, tensors: Mapping[str, Tensor], spec: NetworkSpec, made_by: str) -> None:
    """Writes one model, whole or not at all. `made_by` identifies run and split; a resumed run only trusts its own."""
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    os.close(handle)
    try:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            temporary,
            spec.to_dict() | {"made_by": made_by},
        )
        os.chmod(temporary, 0o644)
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_header(file: Path) -> dict[str, str] | None:
    """The header of a checkpoint, or None where there is no readable one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return opened.metadata()
    except (FileNotFoundError, SafetensorError):
        return None


def load_weights(file: Path) -> tuple[dict[str, Tensor], NetworkSpec]:
    """The weights in one checkpoint.

    Raises:
        ValueError: it is not there (with what to do), or it is damaged or not of this project.
    """
    from safetensors.torch import load_file

    check_weights(file)
    header = read_header(file)
    if not header or "architecture" not in header:
        raise ValueError(f"{file} is damaged or no recogniser of this project; remove it and make it again.")
    return load_file(file), NetworkSpec.from_dict(header)


def check_weights(file: Path) -> None:
    """ValueError if a checkpoint is missing."""
    if not file.is_file():
        raise ValueError(
            f"there is no checkpoint {file}: run the script that makes it to its end (it goes on where it stopped)."
        )
