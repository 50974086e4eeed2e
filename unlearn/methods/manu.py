"""MANU: switch off the FFN channels that the forget set uses differently with and without its pictures.

Liu et al., "Modality-aware neuron pruning for unlearning in multimodal large language models" (2025, 2502.15910),
training-free. A channel is a column of a down projection. For a set B (F or R) with activations z of rows with pictures
(m) and of text rows (t; where a set with pictures has none, the same rows without them), per channel and position

    Z = mean |z|,  N = share of |z| > tau,  V = mean (z - Z)^2,  E = mean z^2
    I_B = |Z_m - Z_t| / (Z_m + Z_t + e) + |N_m - N_t| / (N_m + N_t + e) + sqrt(V_m + V_t) + sqrt(|E_m - E_t| / (E_m + E_t + e))
    score = I_F / (I_R + e);   the share alpha with the largest score is set to 0, in one ranking for each tower

N and E are taken per position, so that the longer side does not win by its length. A vision tower has no text side: its
t statistics are 0. Close to the start model in an independent run: a baseline, not a contender.

Departure: the released code has other formulas; these are the paper's.
"""  # noqa: E501 - one equation, one line

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from unlearn.hooks import Gradients, Probe
from unlearn.method import Method, View
from unlearn.registry import at_least, register

logger = logging.getLogger(__name__)
E = 1e-8
SUMS = ("abs", "sum", "square", "over")


def importance(with_pictures: Mapping[str, Tensor], without: Mapping[str, Tensor]) -> Tensor:
    """I_B by channel; each side holds Z, N, V, E [width]."""
    m, t = with_pictures, without
    gap, spread = (m["Z"] - t["Z"]).abs() / (m["Z"] + t["Z"] + E), (m["V"] + t["V"]).sqrt()
    fired = (m["N"] - t["N"]).abs() / (m["N"] + t["N"] + E)
    return gap + fired + spread + ((m["E"] - t["E"]).abs() / (m["E"] + t["E"] + E)).sqrt()


def statistics(sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Z, N, V, E from sums over positions: `abs` of |z|, `sum` of z, `square` of z^2, `over` of |z| > tau, `n`."""
    n = sums["n"].clamp(min=1)
    mean, size, square = sums["sum"] / n, sums["abs"] / n, sums["square"] / n
    return {"Z": size, "N": sums["over"] / n, "V": (square - 2 * size * mean + size**2).clamp(min=0), "E": square}


@register("manu")
@dataclass(frozen=True)
class ModalityAwarePruning(Method):
    """Args: alpha, the share of channels set to 0; tau, when a channel counts as active; layers, how many of the last
    blocks of each tower are looked at, or "all"."""

    alpha: float = 0.1
    tau: float = 0.1
    layers: int | Literal["all"] = 3

    student_views = (View("forget"), View("retain"))  # what it reads

    def __post_init__(self) -> None:
        at_least(0, tau=self.tau, alpha=self.alpha)
        if self.alpha > 1:
            raise ValueError(f"alpha must be at most 1, got {self.alpha}")
        if isinstance(self.layers, int):
            at_least(1, layers=self.layers)

    @property
    def forbids_lora(self) -> str | None:
        return "manu edits the weights of the model itself: set LoRA.r=0"

    def edit(self, probe: Probe) -> None:
        weights = self._chosen(probe.weights())
        forget, retain = (self._importances(probe, view, weights) for view in ("forget", "retain"))
        for tower in ("language", "vision"):
            scores = {name: forget[name] / (retain[name] + E) for name in weights
                      if name.startswith(tower) and name in forget and name in retain}  # fmt: skip
            if not scores:
                continue
            for name, off in _highest(scores, self.alpha).items():
                weights[name][:, off] = 0
                logger.info("manu: %s loses %d of %d channels", name, int(off.sum()), len(off))

    def _chosen(self, weights: Mapping[str, Tensor]) -> Gradients:
        towers = {tower: [name for name in weights if name.startswith(tower)] for tower in ("language", "vision")}
        last = None if self.layers == "all" else -int(self.layers)
        return {name: weights[name] for names in towers.values() for name in names[last:]}

    def _importances(self, probe: Probe, view: str, names: Iterable[str]) -> Gradients:
        """I_B by FFN; the vision tower is in it only where the set has pictures."""
        flags = [row.image for row in probe.batches(view, share=False)]
        sums: Gradients = {}
        for row in probe.batches(view):
            for kind, channels in self._activations(probe, row, bare=all(flags)):
                for name, z in channels.items():
                    if name in names:
                        self._add(sums, f"{kind}/{name}", z.double())
        sums = probe.sum(sums)
        found = {}
        for name in names:
            sides = [
                {what: sums[f"{kind}/{name}/{what}"] for what in (*SUMS, "n")} if f"{kind}/{name}/n" in sums else None
                for kind in ("m", "t")
            ]
            some = sides[0] or sides[1]
            if some is not None:
                nothing = {what: torch.zeros_like(tensor) for what, tensor in some.items()}
                found[name] = importance(*(statistics(side or nothing) for side in sides))
        return found

    def _activations(self, probe: Probe, row: Any, bare: bool) -> Iterator[tuple[str, Gradients]]:
        if not row.image:
            yield "t", probe.channels(row, "text")
            return
        yield "m", probe.channels(row, "image")
        yield "m", probe.channels(row, "text")
        if bare:
            yield "t", probe.channels(row.without_image(), "text")

    def _add(self, sums: Gradients, name: str, z: Tensor) -> None:
        """z: [positions, width]."""
        size = z.abs()
        over = (size > self.tau).to(z.dtype)
        new = {"abs": size.sum(0), "sum": z.sum(0), "square": z.square().sum(0), "over": over.sum(0)}
        for what, tensor in {**new, "n": z.new_tensor(float(len(z)))}.items():
            key = f"{name}/{what}"
            sums[key] = sums[key] + tensor if key in sums else tensor


def _highest(scores: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Bool masks of the `share` of all channels of `scores` with the highest score; of equals the earlier ones."""
    joined = torch.cat(list(scores.values()))
    off = torch.zeros_like(joined, dtype=torch.bool)
    off[joined.sort(descending=True, stable=True).indices[: round(share * len(joined))]] = True
    return dict(zip(scores, off.split([len(s) for s in scores.values()]), strict=True))
