"""Several recognisers of one architecture as stacked tensors, so that one batched forward serves them all.

Shadow models never talk to each other: their summed loss has, for each model, exactly its own gradient. On a GPU
`torch.func.vmap` turns M small forwards into one large one; with one model the module is called as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from cv.network.margin import CosineHead, Margin
from cv.network.resnet import build_resnet

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as the published weights expect


@dataclass(frozen=True)
class NetworkSpec:
    """What a checkpoint says about its network: `cv.resnet.ARCHITECTURES` name, number of identities, AM-softmax."""

    architecture: str
    classes: int
    margin: Margin = Margin()

    def to_dict(self) -> dict[str, str]:
        """As text, for the header of a safetensors file."""
        margin = {key: str(value) for key, value in asdict(self.margin).items()}
        return {"architecture": self.architecture, "classes": str(self.classes), **margin}

    @classmethod
    def from_dict(cls, header: Mapping[str, str]) -> NetworkSpec:
        margin = Margin(float(header["scale"]), float(header["margin"]), header["normalise"] == "True")
        return cls(header["architecture"], int(header["classes"]), margin)

    def with_classes(self, classes: int) -> NetworkSpec:
        return replace(self, classes=classes)


class FaceNetwork(nn.Module):
    """uint8 photos [B, 3, S, S] -> (embeddings [B, D], logits [B, C] without margin)."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = build_resnet(spec.architecture)
        self.head = CosineHead(self.backbone.dim, spec.classes, spec.margin)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", 255 * torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        embeddings = self.backbone((photos - self.mean) / self.std)
        return embeddings, self.head(embeddings)


def new_network(spec: NetworkSpec, seed: int) -> FaceNetwork:
    """A network whose random weights depend on `seed` alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FaceNetwork(spec)


class Stack:
    """M networks. `parameters` and `buffers` map each name to a [M, ...] tensor.

    Args:
        networks: state dicts (parameters and buffers) of the M networks, all of `spec`.
    """

    def __init__(
        self, spec: NetworkSpec, networks: Sequence[Mapping[str, Tensor]], device: str | torch.device = "cpu"
    ) -> None:
        self.spec, self.size = spec, len(networks)
        self.template = FaceNetwork(spec).to(device, networks[0]["head.weight"].dtype).requires_grad_(False)
        trained = dict(self.template.named_parameters())
        stacked = {
            name: torch.stack([network[name].to(device) for network in networks]) for name in self.template.state_dict()
        }
        self.parameters = {name: stacked[name].requires_grad_() for name in trained}
        self.buffers = {name: tensor for name, tensor in stacked.items() if name not in trained}

    @property
    def device(self) -> torch.device:
        return self.template.mean.device

    def forward(self, photos: Tensor, *, batchnorm: str = "eval") -> tuple[Tensor, Tensor]:
        """Runs every model on its own photos, once.

        Args:
            photos: uint8 [M, B, 3, S, S].
            batchnorm: "train" normalises by the batch and moves the running statistics; "eval" uses those.

        Returns:
            (embeddings [M, B, D], logits [M, B, C]).
        """
        self.template.train(batchnorm == "train")
        if self.size == 1:
            state = {name: tensor[0] for name, tensor in (self.parameters | self.buffers).items()}
            embeddings, logits = functional_call(
                self.template, state, photos[0].contiguous(memory_format=torch.channels_last)
            )
            return embeddings[None], logits[None]

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], batch: Tensor) -> tuple[Tensor, Tensor]:
            return functional_call(self.template, (parameters, buffers), batch)

        return vmap(one)(self.parameters, self.buffers, photos)

    @torch.no_grad()
    def embed(self, photos: Tensor, *, batch_size: int = 256) -> Tensor:
        """Embeddings [M, N, D] of the same photos [N, 3, S, S] under every model, batch norm in eval mode."""
        parts = [self.forward(part.expand(self.size, *part.shape))[0] for part in photos.split(batch_size)]
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def logits(self, embeddings: Tensor) -> Tensor:
        """[M, B, C] logits of given embeddings [M, B, D] under the present heads."""
        head, weights = self.template.head, self.parameters["head.weight"]
        return torch.stack([functional_call(head, {"weight": w}, e) for w, e in zip(weights, embeddings, strict=True)])

    def network(self, index: int) -> dict[str, Tensor]:
        """The state dict of one model, detached and on the CPU."""
        return {name: tensor[index].detach().cpu().clone() for name, tensor in (self.parameters | self.buffers).items()}
