"""The two attack models of U-MIA on one feature: logistic regression and a decision tree."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Logistic:
    """p(member) = 1 / (1 + exp(-(intercept + slope * x)))."""

    slope: float
    intercept: float

    def predict(self, x: Floats) -> Floats:
        return 1 / (1 + np.exp(-np.clip(self.intercept + self.slope * x, -500, 500)))


def fit_logistic(x: Floats, member: NDArray[np.bool_], *, ridge: float = 1.0, steps: int = 100) -> Logistic:
    """Maximum likelihood by Newton's method.

    Args:
        x, member: [N].
        ridge: half of it times the squared slope of the standardised feature is added to the summed loss, so that
            separable classes have an answer too.
    """
    centre, spread = x.mean(), x.std() or 1.0
    design = np.stack([np.ones_like(x), (x - centre) / spread], axis=1)
    weights, penalty = np.zeros(2), np.diag([0.0, ridge])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -500, 500)))
        gradient = design.T @ (p - member) + penalty @ weights
        hessian = (design * (p * (1 - p))[:, None]).T @ design + penalty + 1e-9 * np.eye(2)
        move = np.linalg.solve(hessian, gradient)
        weights = weights - move * min(1.0, 5.0 / max(1e-12, float(np.abs(move).max())))
        if np.abs(move).max() < 1e-10:
            break
    return Logistic(float(weights[1] / spread), float(weights[0] - weights[1] * centre / spread))


@dataclass(frozen=True)
class Tree:
    """`edges` [L - 1] ascending cut the line into L leaves; `shares` [L] is the share of members in each."""

    edges: Floats
    shares: Floats

    def predict(self, x: Floats) -> Floats:
        return self.shares[np.searchsorted(self.edges, x, side="left")]


def fit_tree(x: Floats, member: NDArray[np.bool_], *, max_leaves: int = 256) -> Tree:
    """A decision tree on one feature, grown leaf by leaf at the split that lowers the summed entropy most.

    Args:
        x, member: [N].
        max_leaves: as published.
    """
    order = np.argsort(x, kind="stable")
    x, counts = x[order], np.concatenate([[0], np.cumsum(member[order])])
    queue: list[tuple[float, int, int, int]] = []  # (-gain, start, end, cut) of leaves that can be split
    leaves = {(0, len(x))}

    def consider(start: int, end: int) -> None:
        gain, cut = _best_cut(x, counts, start, end)
        if cut:
            heapq.heappush(queue, (-gain, start, end, cut))

    consider(0, len(x))
    while queue and len(leaves) < max_leaves:
        _, start, end, cut = heapq.heappop(queue)
        leaves.remove((start, end))
        for part in ((start, cut), (cut, end)):
            leaves.add(part)
            consider(*part)
    bounds = sorted(leaves)
    edges = np.array([(x[end - 1] + x[end]) / 2 for _, end in bounds[:-1]])
    shares = np.array([(counts[end] - counts[start]) / (end - start) for start, end in bounds])
    return Tree(edges, shares)


def _best_cut(x: Floats, counts: NDArray[np.int64], start: int, end: int) -> tuple[float, int]:
    """(entropy gained in nats, first row of the right part), or (0, 0) if no cut between different values gains
    anything."""
    cuts = np.flatnonzero(x[start + 1 : end] > x[start : end - 1]) + start + 1
    members = counts[end] - counts[start]
    if not len(cuts) or members in (0, end - start):
        return 0.0, 0
    left = _entropy(counts[cuts] - counts[start], cuts - start)
    right = _entropy(counts[end] - counts[cuts], end - cuts)
    gains = _entropy(np.array([members]), np.array([end - start]))[0] - left - right
    best = int(gains.argmax())
    return (float(gains[best]), int(cuts[best])) if gains[best] > 1e-12 else (0.0, 0)


def _entropy(members: NDArray[np.int64], total: NDArray[np.int64]) -> Floats:
    """total * H(members / total), nats; 0 log 0 is 0."""
    p = members / total
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where((p > 0) & (p < 1), p * np.log(p) + (1 - p) * np.log1p(-p), 0.0)
    entropy: Floats = -total.astype(np.float64) * terms
    return entropy
