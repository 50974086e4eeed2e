"""Was this face in the training set? Two attacks on unlearned recognisers, by shadow models.

Hayes et al., "Inexact unlearning needs more careful evaluations" (2024); Carlini et al., "Membership inference attacks
from first principles" (2022); CLEAR (2025), section 4.3.

Targets and shadows went through the same training and unlearning. Shadows of group A trained on the forget identities
and forgot them, shadows of group B never saw them; for the holdout identities it is the other way round. An ideal
method
leaves nothing to tell the two apart: accuracy and AUC of one half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cv.membership.classifiers import fit_logistic, fit_tree
from unlearn.metrics.intervals import interval_of_draws

Floats = NDArray[np.float64]
POOL_BELOW = 16  # shadows a side; fewer cannot carry a variance per photo
MAD_TO_SIGMA = 0.6745  # median absolute deviation of a standard normal


@dataclass(frozen=True)
class Sides:
    """Logits of photos [models, photos] under the four kinds of models, and whose photos they are.

    Args:
        targets, shadows: for each group, "A" and "B", the logits of its models.
        member_of: [photos] "A" or "B": the group that trained on this person.
        people: [photos] the person, for intervals.
    """

    targets: dict[str, Floats]
    shadows: dict[str, Floats]
    member_of: NDArray[np.str_]
    people: NDArray[np.str_]

    def __post_init__(self) -> None:
        for group in ("A", "B"):
            if len(self.shadows[group]) < 2 or len(self.targets[group]) < 1:
                raise ValueError(
                    f"group {group} has {len(self.shadows[group])} shadow models and {len(self.targets[group])} "
                    "targets; an attack needs two shadows and one target on each side: prepare splits for 8 "
                    "models or more."
                )
            if not set(self.member_of) >= {group}:
                raise ValueError(f"no photo belongs to group {group}: forget and holdout must both have people.")

    def shadow_logits(self, member: bool) -> Floats:
        """[shadows, photos] of those shadows that trained on the photo's person (or did not)."""
        a, b = self.shadows["A"], self.shadows["B"]
        if len(a) != len(b):
            raise ValueError(f"groups A and B have {len(a)} and {len(b)} shadow models; they must have equally many.")
        return np.where((self.member_of == "A") == member, a, b)

    def all_targets(self) -> tuple[Floats, NDArray[np.bool_]]:
        """(logits, membership), both [targets of A and B, photos]."""
        logits = np.concatenate([self.targets["A"], self.targets["B"]])
        groups = np.repeat(["A", "B"], [len(self.targets["A"]), len(self.targets["B"])])
        return logits, groups[:, None] == self.member_of[None]


def split_roles(groups: Sequence[str]) -> dict[str, dict[str, list[int]]]:
    """Models of each group by role: the first half of a group are targets, the second shadows (published: 32 of
    each)."""
    roles: dict[str, dict[str, list[int]]] = {"targets": {}, "shadows": {}}
    for group in ("A", "B"):
        models = [i for i, name in enumerate(groups) if name == group]
        roles["targets"][group], roles["shadows"][group] = models[: len(models) // 2], models[len(models) // 2 :]
    return roles


def ulira(sides: Sides) -> Floats:
    """U-LIRA scores [targets, photos]: N_in(x) / (N_in(x) + N_out(x)) of Gaussians fitted to each photo's shadow
    logits.

    Centre: median. Spread: MAD / 0.6745 of the photo where there are 16 shadows or more a side and it is not zero, else
        one
    pooled standard deviation for the side.
    """
    logits, _ = sides.all_targets()
    log_in, log_out = (_log_normal(logits, *gaussians(sides.shadow_logits(member))) for member in (True, False))
    return 1 / (1 + np.exp(np.clip(log_out - log_in, -700, 700)))


def gaussians(shadows: Floats) -> tuple[Floats, Floats]:
    """(centre, sigma), each [photos], of shadow logits [shadows, photos].

    Raises:
        ValueError: fewer than two shadows.
    """
    if len(shadows) < 2:
        raise ValueError(f"a Gaussian needs two shadow models, not {len(shadows)}.")
    centre = np.median(shadows, axis=0)
    pooled = max(float(np.sqrt(shadows.var(axis=0, ddof=1).mean())), 1e-6)
    if len(shadows) < POOL_BELOW:
        return centre, np.full_like(centre, pooled)
    mad = np.median(np.abs(shadows - centre), axis=0) / MAD_TO_SIGMA
    return centre, np.where(mad > 0, mad, pooled)


def _log_normal(x: Floats, centre: Floats, sigma: Floats) -> Floats:
    return -0.5 * ((x - centre) / sigma) ** 2 - np.log(sigma)


def umia(sides: Sides, model: str) -> Floats:
    """U-MIA scores [targets, photos]: one classifier ("logistic" or "tree") for all photos, fitted to all shadow
    logits."""
    members, others = sides.shadow_logits(True).ravel(), sides.shadow_logits(False).ravel()
    x, y = np.concatenate([members, others]), np.repeat([True, False], [len(members), len(others)])
    classifier = fit_logistic(x, y) if model == "logistic" else fit_tree(x, y)
    return classifier.predict(sides.all_targets()[0])


@dataclass(frozen=True)
class Attack:
    """How well scores tell members: balanced accuracy at 0.5, AUC and TPR at 1 % FPR, in [0, 1]."""

    accuracy: float
    auc: float
    tpr: float


def judge(scores: Floats, member: NDArray[np.bool_]) -> Attack:
    """`scores`, `member`: any equal shape. Ties count half, in the accuracy at 0.5 as in the AUC."""
    scores, member = scores.ravel(), member.ravel()
    hit = (scores > 0.5) + 0.5 * (scores == 0.5)
    accuracy = (hit[member].mean() + 1 - hit[~member].mean()) / 2
    fpr, tpr = roc_curve(scores, member)
    return Attack(float(accuracy), float(np.trapezoid(tpr, fpr)), float(tpr[fpr <= 0.01].max()))


def roc_curve(scores: Floats, member: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """(false positive rates, true positive rates), from (0, 0) to (1, 1), a point for each distinct score."""
    order = np.argsort(-scores, kind="stable")
    scores, member = scores[order], member[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    tpr, fpr = np.cumsum(member)[last] / member.sum(), np.cumsum(~member)[last] / (~member).sum()
    return np.append(0.0, fpr), np.append(0.0, tpr)


def intervals(scores: Floats, sides: Sides, *, draws: int, seed: int) -> dict[str, list[float] | None]:
    """95 % intervals of `Attack`'s numbers, from drawing target models (of each group) and people (of each group).

    Both are drawn with replacement and together (Owen 2007): photos of a person, and photos seen by one model, stand
    and fall together, so drawing photos would promise too much. Draws of few understate their spread and are stretched
    (unlearn.metrics.intervals); None with fewer than four targets or people in a group. Shadow models, and what the
    models were trained from, are taken as given.
    """
    rng = np.random.default_rng(seed)
    _, member = sides.all_targets()
    size_a, size = len(sides.targets["A"]), len(member)
    photos = {person: np.flatnonzero(sides.people == person) for person in np.unique(sides.people)}
    by_group = [[p for p, rows in photos.items() if sides.member_of[rows[0]] == group] for group in ("A", "B")]
    results = []
    for _ in range(draws):
        models = np.concatenate([rng.integers(size_a, size=size_a), rng.integers(size_a, size, size=size - size_a)])
        people = np.concatenate([rng.choice(group, size=len(group)) for group in by_group])
        rows = np.concatenate([photos[person] for person in people])
        results.append(judge(scores[np.ix_(models, rows)], member[np.ix_(models, rows)]))
    found, units = judge(scores, member), [(size_a, size - size_a), [len(group) for group in by_group]]
    return {
        name: interval_of_draws([getattr(result, name) for result in results], getattr(found, name), units)
        for name in ("accuracy", "auc", "tpr")
    }
