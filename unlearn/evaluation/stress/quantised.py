"""A model with its weights rounded: what unlearning moved by less than half a step comes back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from unlearn.models.families import inner_model
from unlearn.models.loading import load_model
from unlearn.models.lora import lora_targets
from unlearn.stress import round_to_nearest

ROUNDED = {"rtn8": 8, "rtn4": 4}  # by `round_to_nearest`, everywhere
LIBRARY = {"bnb8": "8bit", "bnb4": "4bit"}  # by bitsandbytes
WAYS = (*ROUNDED, *LIBRARY)


@contextmanager
def rounded(model: Any, bits: int) -> Iterator[Any]:
    """`model` with the linears of its language model (never the head) rounded to `bits`; afterwards as it was.

    Raises:
        ValueError: a model with an adapter beside its base, or with weights that are quantised already: rounding the
            base alone would be another attack. Merge first.
    """
    inner = inner_model(model)
    if inner is not model or getattr(model, "is_quantized", False):
        raise ValueError(
            "Quantisation is tried on a whole model in full precision, and this one has an adapter beside its base or "
            "is quantised already; merge the adapter first (loading.load_model without `quantization` does)."
        )
    modules = dict(inner.named_modules())
    weights = [(modules[name].weight, type(modules[name]).__name__ == "Conv1D") for name in lora_targets(inner)]
    before = [weight.detach().clone() for weight, _ in weights]
    try:
        with torch.no_grad():
            for weight, transposed in weights:  # GPT-2's linears are [in, out]
                weight.copy_(round_to_nearest(weight.T, bits).T if transposed else round_to_nearest(weight, bits))
        yield model
    finally:
        with torch.no_grad():
            for (weight, _), old in zip(weights, before, strict=True):
                weight.copy_(old)


@contextmanager
def by_library(model: Any, way: str, folder: Path, save: Callable[[Any, Path], None]) -> Iterator[Any]:
    """The merged model loaded anew through bitsandbytes; `save` writes it under `folder`, which is removed."""
    import shutil

    try:
        save(model, folder)
        yield load_model(str(folder), dtype=model.dtype, quantization=LIBRARY[way])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fits_library(model: Any) -> bool:
    """Whether bitsandbytes can serve every linear of the language model: its blocks are of 64 values."""
    modules = dict(inner_model(model).named_modules())
    return all(modules[name].weight.shape[1] % 64 == 0 for name in lora_targets(model))
