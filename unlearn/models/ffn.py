"""The feed-forward networks of a model's blocks: the last projection of each, whose columns are its channels."""

from typing import Any

from torch import Tensor, nn

from unlearn.models.families import decoder_blocks
from unlearn.models.vision import vision_modules

ATTENTION = ("attn", "attention")


def down_projections(model: nn.Module) -> dict[str, nn.Module]:
    """`language.0`, ..., `vision.0`, ...: the layer that leads from the channels of a block's FFN back to its width, by
    tower and block. Of a second part for pictures the blocks follow those of the first.

    Raises:
        ValueError: a block without one matrix for it (fused experts).
    """
    towers = {"language": decoder_blocks(model), "vision": []}
    for module in vision_modules(model).values():
        towers["vision"] += vision_blocks(module)
    found = {}
    for tower, blocks in towers.items():
        for number, block in enumerate(blocks):
            layer = _down(block)
            if layer is None:
                raise ValueError(
                    f"block {number} of the {tower} part has no single down projection ({type(block).__name__}: fused "
                    "experts?), so its channels cannot be edited; use another method"
                )
            found[f"{tower}.{number}"] = layer
    return found


def vision_blocks(module: nn.Module) -> list[nn.Module]:
    """The blocks of a part for pictures: its longest list of modules."""
    lists = [list(part) for part in module.modules() if isinstance(part, nn.ModuleList)]
    return max(lists, key=len, default=[])


def weight(layer: Any) -> Tensor:
    """[out, width], the layer's own storage; GPT-2 keeps its matrices transposed."""
    return layer.weight.T if type(layer).__name__ == "Conv1D" else layer.weight


def _down(block: nn.Module) -> nn.Module | None:
    """The last matrix outside of attention."""
    matrices = [
        module
        for name, module in block.named_modules()
        if (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D")
        and not any(word in name for word in ATTENTION)
    ]
    return matrices[-1] if matrices else None
