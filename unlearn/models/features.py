"""What a frozen vision tower makes of a picture, computed once a step and kept for later epochs, by the picture's
digest."""

import logging
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unlearn.models import compat
from unlearn.models.families import decoder, inner_model
from unlearn.models.layout import Chunk
from unlearn.models.vision import COUNTED, pictures_at

logger = logging.getLogger(__name__)
GIB = 2**30
MEMORY = Path("/proc/meminfo")


class Features:
    """Features by picture: those of the last forward (the teacher's pictures are the student's), and from its second
    appearance on a picture's for good. One that is drawn anew each time never appears twice.

    Args:
        budget: bytes of the host's memory; what comes after lies in files, which are mapped when they are read.
    """

    def __init__(self, budget: int) -> None:
        self.left = budget
        self.kept: dict[bytes, Tensor | Path] = {}
        self.last: dict[bytes, Tensor] = {}
        self.seen: set[bytes] = set()
        self.folder: tempfile.TemporaryDirectory[str] | None = None

    def __deepcopy__(self, memo: Any) -> "Features":
        return self  # a frozen copy of the model has the same tower

    def take_out(self, chunk: Chunk) -> None:
        """Before a chunk goes to the device: of its pictures only those stay whose features are not there yet."""
        if "pixel_values" not in chunk.inputs:
            return
        chunk.features = [self._find(key) for key in chunk.image_keys]
        new = {key: place for place, key in enumerate(chunk.image_keys) if chunk.features[place] is None}
        chunk.pictures = pictures_at(chunk.inputs, list(new.values()))
        del chunk.inputs["pixel_values"]

    def inputs(self, model: nn.Module, chunk: Chunk) -> dict[str, Any]:
        """What the model is called with in the place of pixels."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        if not chunk.features:
            return {}
        inner, made = inner_model(model), {}
        keys = zip(chunk.image_keys, chunk.features, strict=True)
        if new := {key: None for key, feature in keys if feature is None}:
            with torch.no_grad():
                output = inner.model.get_image_features(**chunk.pictures, return_dict=True)
            made = dict(zip(new, output.pooler_output, strict=True))
        device = inner.get_input_embeddings().weight.device
        found: Any = [made[key] if feature is None else feature.to(device, non_blocking=True)
                 for key, feature in zip(chunk.image_keys, chunk.features, strict=True)]  # fmt: skip
        self.last = dict(zip(chunk.image_keys, found, strict=True))
        for key, feature in made.items():
            self._keep(key, feature)
        return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=found)}}

    def _find(self, key: bytes) -> Tensor | None:
        from safetensors.torch import load_file

        found = self.last.get(key, self.kept.get(key))
        return load_file(found)["features"] if isinstance(found, Path) else found

    def _keep(self, key: bytes, feature: Tensor) -> None:
        from safetensors.torch import save_file

        if key not in self.seen:
            self.seen.add(key)
            return
        size = feature.numel() * feature.element_size()
        if size <= self.left:
            self.left -= size
            place = torch.empty(feature.shape, dtype=feature.dtype, pin_memory=feature.is_cuda)
            self.kept[key] = place.copy_(feature, non_blocking=True)
            return
        if self.folder is None:
            self.folder = tempfile.TemporaryDirectory(prefix="features-")
            logger.info("vision_features: the memory is full with %d pictures; more in files", len(self.kept))
        file = Path(self.folder.name) / f"{key.hex()}.safetensors"
        save_file({"features": feature.contiguous().cpu()}, file)
        self.kept[key] = file


def keep_features(model: nn.Module, gib: float, *, in_parts: bool) -> Features | None:
    """A store for `model`, None where `gib` is 0 or its pictures cannot be served. Logs which.

    Args:
        in_parts: weights are gathered as a forward goes; two ranks that meet other pictures would wait for each other.
    """
    if gib == 0:
        return None
    inner: Any = inner_model(model)
    why = None
    own = {id(p) for part in (decoder(model), inner.get_output_embeddings()) if part for p in part.parameters()}
    kind = inner.config.model_type
    owner: Any = getattr(inner, "model", None)
    if kind not in COUNTED or "mm_encoder_outputs" not in compat.arguments(owner.forward):
        why = f"a {kind} model takes no features"
    elif any(p.requires_grad and id(p) not in own for p in inner.parameters()):
        why = "what makes the features is trained"
    elif in_parts:
        why = "weights lie in parts"
    logger.info("vision_features: %s", f"off ({why})" if why else f"kept in up to {gib:g} GiB")
    return None if why else Features(int(gib * GIB))


def check_budget(gib: float) -> None:
    """ValueError for more memory than is free on this machine."""
    if gib == 0 or not MEMORY.exists():
        return
    lines = dict(line.split(":") for line in MEMORY.read_text(encoding="utf-8").splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024 / GIB
    if gib > free:
        raise ValueError(
            f"vision_features={gib:g} GiB, but only {free:.1f} GiB of memory are free here; lower it: what does not "
            "fit goes into files."
        )
