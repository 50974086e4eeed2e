"""What is dispatched, counted on a CPU as a GPU would meet it: kernels, bytes, FLOPs, syncs, what autograd keeps."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from unlearn import divergences, scoring

NO_KERNEL = {"detach", "alias", "_unsafe_view", "_reshape_alias", "lift_fresh", "set_", "resize_", "is_same_size"}
PRODUCTS = {"mm", "addmm", "addmm_", "bmm", "baddbmm", "convolution", "convolution_backward"}
FOREACH = 64  # pairs of tensors that torch's multi_tensor_apply gives to one launch
READS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "_unique2", "unique_dim", "equal"}


@dataclass
class Counts:
    """Of one piece of work. `kernels` and `syncs` by operator."""

    kernels: Counter[str] = field(default_factory=Counter)
    syncs: Counter[str] = field(default_factory=Counter)
    moved: int = 0  # bytes
    flops: int = 0
    saved: int = 0  # bytes

    def row(self) -> dict[str, float]:
        gigabytes = {"GB": self.moved / 1e9, "saved GB": self.saved / 1e9}
        return {"kernels": self.kernels.total(), "TFLOP": self.flops / 1e12, "syncs": self.syncs.total(), **gigabytes}


class Meter(TorchDispatchMode):
    """Counts what is dispatched. Operators on real tensors run, also under a fake mode: whole numbers stay real."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        ins = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        out = self.run(func, args, kwargs, ins)
        self.count(func, args, kwargs, ins, out)
        return out

    def run(self, func: Any, args: Any, kwargs: Any, ins: list[Tensor]) -> Any:
        fake = any(isinstance(tensor, FakeTensor) for tensor in ins)
        if fake and func is torch.ops.aten._local_scalar_dense.default:
            with unset_fake_temporarily():
                return torch.ones((), dtype=args[0].dtype).item()  # a value that nobody knows
        if ins and not fake:
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        out = func(*args, **kwargs)
        if not ins and isinstance(out, FakeTensor) and not out.dtype.is_floating_point:  # arange, zeros, ...
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        return out

    def count(self, func: Any, args: Any, kwargs: Any, ins: list[Tensor], out: Any) -> None:
        name = func.overloadpacket.__name__
        if name in READS:
            self.counts.syncs[name] += 1
        if (
            func.namespace not in ("aten", "standin")
            or name in NO_KERNEL
            or func.is_view
            or name.startswith(("empty", "new_empty"))
        ):
            return
        outs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        several = name.startswith("_foreach")
        self.counts.kernels[name] += -(-len(args[0]) // FOREACH) if several else 1
        if "scaled_dot_product" in name:
            shapes = [tensor.shape for tensor in ins]
            backward = "backward" in name
            self.counts.flops += sdpa_backward_flop_count(*shapes[:4]) if backward else sdpa_flop_count(*shapes[:3])
        elif name in PRODUCTS:
            packet = torch.ops.aten.addmm if name == "addmm_" else func.overloadpacket
            self.counts.flops += flop_registry[packet](*args, **kwargs, out_val=out)
        elif name == "index_copy_":  # in place: the source and what it replaces, not all there is
            self.counts.moved += 2 * args[3].numel() * args[3].element_size()
        else:
            self.counts.moved += sum(tensor.numel() * tensor.element_size() for tensor in [*ins, *outs])


@contextlib.contextmanager
def as_on_a_gpu(counts: Counts) -> Iterator[None]:
    """What only a CPU does is left out: checks of numbers that lie there anyway. Tensor.tolist, which no dispatcher
    shows, counts as a sync; of a fake tensor it gives zeros."""
    real, fake = Tensor.tolist, FakeTensor.tolist

    def tolist(tensor: Tensor) -> Any:
        counts.syncs["tolist"] += 1
        return np.zeros(tensor.shape, dtype=int).tolist() if isinstance(tensor, FakeTensor) else real(tensor)

    replaced: list[tuple[Any, str, Any, Any]] = [
        (Tensor, "tolist", tolist, real), (FakeTensor, "tolist", tolist, fake),
        *((module, "readable", lambda tensor: False, scoring.readable) for module in (scoring, divergences)),
    ]  # fmt: skip
    try:
        for owner, name, new, _ in replaced:
            setattr(owner, name, new)
        yield
    finally:
        for owner, name, _, old in replaced:
            setattr(owner, name, old)


def on_the_host(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` uncounted: it works in whole numbers that lie in the host's memory, whatever device a run has."""

    def uncounted(*given: Any, **options: Any) -> Any:
        with _disable_current_modes():
            return function(*given, **options)

    return uncounted


@contextlib.contextmanager
def saved_bytes(counts: Counts, model: nn.Module) -> Iterator[None]:
    """Adds up what autograd keeps meanwhile, each storage once, without the model's own."""
    known = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    held: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known and storage._cdata not in held:
            held[storage._cdata] = storage  # kept alive: an address must not be used again
            counts.saved += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield
