"""Tensors that an engine holds in parts: this process's piece of one, and back to the whole.

FSDP2's parameters and gradients are DTensors. A tensor kept for a parameter under `<what>/<parameter>` is cut and made
whole like that parameter; where nothing is in parts, all of this hands tensors on as they are.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

Parameters = Mapping[str, Any]


def in_parts(tensor: Any) -> bool:
    """Whether each process holds a part of `tensor` only."""
    return hasattr(tensor, "to_local")


def piece(tensor: Any) -> Tensor:
    """This process's part of a parameter or gradient, the same storage."""
    return tensor.to_local() if in_parts(tensor) else tensor


def cut(tensors: Mapping[str, Tensor], parameters: Parameters) -> dict[str, Tensor]:
    """Whole tensors, kept for parameters by their names, as this process's pieces on the parameters' device."""
    return {name: _cut(tensor, _kept_for(name, parameters), parameters) for name, tensor in tensors.items()}


def whole(tensors: Mapping[str, Tensor], parameters: Parameters) -> dict[str, Tensor]:
    """The reverse of `cut`. Every process must call it, with the same names in the same order."""
    return {name: _whole(tensor, _kept_for(name, parameters)) for name, tensor in tensors.items()}


def total(parameters: Parameters) -> Callable[[Tensor], Tensor]:
    """What adds a number up over the processes: where the parameters are in parts a sum, else the number itself."""
    if not any(in_parts(parameter) for parameter in parameters.values()):
        return lambda number: number
    import torch.distributed as dist

    def over_processes(number: Tensor) -> Tensor:
        number = number.clone()
        dist.all_reduce(number)
        return number

    return over_processes


def _kept_for(name: str, parameters: Parameters) -> Any:
    return parameters.get(name.partition("/")[2])


def _cut(tensor: Tensor, parameter: Any, parameters: Parameters) -> Tensor:
    if parameter is None:
        return tensor.to(next(iter(parameters.values())).device)
    tensor = tensor.to(parameter.device)
    if not in_parts(parameter):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements).to_local()


def _whole(tensor: Tensor, parameter: Any) -> Tensor:
    if not in_parts(parameter):
        return tensor
    from torch.distributed.tensor import DTensor

    mesh, places = parameter.device_mesh, parameter.placements
    return DTensor.from_local(tensor, mesh, places, shape=parameter.shape, stride=parameter.stride()).full_tensor()
