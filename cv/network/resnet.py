"""ResNet-18 (He et al., 2016) without torchvision, and a small sibling for 32 to 48 pixels.

Modules carry the names of transformers' `ResNetModel`, so the public ImageNet weights (`microsoft/resnet-18`) load as
they are. What comes out is the pooled last feature map: the embedding of a face.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

IMAGENET_WEIGHTS = "microsoft/resnet-18"


@dataclass(frozen=True)
class Architecture:
    """Channels of the four stages and basic blocks in each; the stem divides the side by 4, the stages by 8 more."""

    widths: tuple[int, ...]
    blocks: int


ARCHITECTURES = {"resnet-18": Architecture((64, 128, 256, 512), 2), "resnet-mini": Architecture((16, 32, 64, 128), 1)}


class _Conv(nn.Module):
    """Convolution and batch norm, then ReLU unless it ends a residual branch."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, *, relu: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.normalization = nn.BatchNorm2d(outputs)
        self.relu = relu

    def forward(self, images: Tensor) -> Tensor:
        out = self.normalization(self.convolution(images))
        return out.relu() if self.relu else out


class _BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _Conv(inputs, outputs, 1, stride, relu=False)
        self.layer = nn.Sequential(
            _Conv(inputs, outputs, 3, stride, relu=True), _Conv(outputs, outputs, 3, 1, relu=False)
        )

    def forward(self, images: Tensor) -> Tensor:
        return (self.layer(images) + self.shortcut(images)).relu()


class _Stage(nn.Module):
    def __init__(self, inputs: int, outputs: int, blocks: int, stride: int) -> None:
        super().__init__()
        rest = [_BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
        self.layers = nn.Sequential(_BasicBlock(inputs, outputs, stride), *rest)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class ResNet(nn.Module):
    """[B, 3, S, S] normalised pixels -> [B, widths[-1]] embeddings, none of them negative (they follow a ReLU)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        widths = architecture.widths
        self.dim = widths[-1]
        self.embedder: Any = nn.Module()
        self.embedder.embedder = _Conv(3, widths[0], 7, 2, relu=True)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.encoder: Any = nn.Module()
        self.encoder.stages = nn.ModuleList(
            _Stage(inputs, outputs, architecture.blocks, stride)
            for inputs, outputs, stride in zip((widths[0], *widths), widths, (1, 2, 2, 2), strict=False)
        )

    def forward(self, images: Tensor) -> Tensor:
        out = self.pool(self.embedder.embedder(images))
        for stage in self.encoder.stages:
            out = stage(out)
        return out.mean((2, 3))


def build_resnet(name: str) -> ResNet:
    """A ResNet with random weights (He initialisation, from torch's global generator). ValueError for another name."""
    if name not in ARCHITECTURES:
        raise ValueError(f"architecture={name!r} is not one of {', '.join(ARCHITECTURES)}.")
    network = ResNet(ARCHITECTURES[name])
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def load_pretrained(network: ResNet, weights: str) -> None:
    """Loads transformers ResNet weights into `network`: a .safetensors file, a folder with one, or a hub id.

    Raises:
        ValueError: nothing there, no network and not in the cache, or weights of another architecture.
    """
    from safetensors.torch import load_file

    tensors = load_file(weights_file(weights))
    tensors = {name.removeprefix("resnet."): t for name, t in tensors.items() if not name.startswith("classifier.")}
    own = network.state_dict()
    wrong = [name for name in own if name not in tensors and not name.endswith("num_batches_tracked")]
    wrong += [name for name in tensors if name not in own or tensors[name].shape != own[name].shape]
    if wrong:
        raise ValueError(
            f"{weights} does not fit this architecture (first: {wrong[0]}); choose another init or architecture."
        )
    with torch.no_grad():
        network.load_state_dict(own | tensors)


def weights_file(weights: str) -> Path:
    path = Path(weights)
    if path.is_dir():
        path = path / "model.safetensors"
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise ValueError(f"init={weights}: there is no file {path}.")
        return path
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(weights, "model.safetensors"))
    except (
        Exception
    ) as error:  # the hub client raises a different class for each of: offline, unknown, gated, no network
        raise ValueError(
            f"init={weights} cannot be fetched ({type(error).__name__}: {error}). Where there is a network, run "
            f"`hf download {weights}`, or set init=random."
        ) from error
