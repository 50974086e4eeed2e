"""Checkpoints of recognisers: one safetensors file per model, whose header says which run and which data made it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cv.network.stack import NetworkSpec
from unlearn.atomic import replacing

SINGLE = "model.safetensors"  # the pretrained network, which every model starts from


def model_file(folder: Path, model: int) -> Path:
    return folder / f"{model:03d}.safetensors"


def save_weights(file: Path, tensors: Mapping[str, Tensor], spec: NetworkSpec, made_by: str) -> None:
    """Writes one model, whole or not at all. `made_by` identifies run and split; a resumed run only trusts its own."""
    from safetensors.torch import save_file

    with replacing(file) as temporary:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            temporary,
            spec.to_dict() | {"made_by": made_by},
        )


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
        ValueError: it is not there (with what to do), it is damaged or not of this project, or holds NaN or infinity
            (such a model answers nothing and would look perfectly forgotten).
    """
    from safetensors.torch import load_file

    check_weights(file)
    header = read_header(file)
    if not header or "architecture" not in header:
        raise ValueError(f"{file} is damaged or no recogniser of this project; remove it and make it again.")
    tensors = load_file(file)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and not all(map(torch.isfinite, torch.aminmax(tensor))):
            raise ValueError(f"{file}: {name} holds NaN or infinity; train this model again, with a lower lr.")
    return tensors, NetworkSpec.from_dict(header)


def check_weights(file: Path) -> None:
    """ValueError if a checkpoint is missing."""
    if not file.is_file():
        raise ValueError(
            f"there is no checkpoint {file}: run the script that makes it to its end (it goes on where it stopped)."
        )
