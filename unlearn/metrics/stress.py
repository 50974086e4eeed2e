"""What tests on the weights come to: how fast a memory comes back, how deep it lies, how well a face can be told."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
BACK = 0.9  # of what base knows: a memory is back
LEAST_DROP = 0.05  # nats per token: layers where gold's state does less say nothing
RIDGE = 0.1  # share of the features' mean variance
ROUNDING = 1e-10  # a smaller share of the features' squares is no variance


def relearning_area(steps: Sequence[int], values: ArrayLike) -> Floats:
    """The mean height of a relearning curve over log2(1 + step), by trapezoids: [N] for `values` [steps, N].

    The first steps weigh most, as they should: a memory that is there comes back at once.

    Raises:
        ValueError: fewer than two steps, steps that do not increase from 0, or another number of values.
    """
    heights = np.asarray(values, dtype=np.float64)
    if len(steps) < 2 or steps[0] != 0 or any(b <= a for a, b in zip(steps, steps[1:], strict=False)):
        raise ValueError(f"relearning needs steps that increase from 0, two or more, not {list(steps)}")
    if len(heights) != len(steps):
        raise ValueError(f"{len(heights)} values for {len(steps)} steps")
    places = np.log2(1.0 + np.asarray(steps, dtype=np.float64))
    return np.trapezoid(heights, places, axis=0) / places[-1]


def first_step(steps: Sequence[int], means: ArrayLike, base: float) -> int | None:
    """The first step at which the mean reaches 90 % of what base has before any step; None where it never does."""
    return next(
        (step for step, mean in zip(steps, np.asarray(means), strict=True) if mean >= BACK * base - 1e-12), None
    )


def depth_score(gold_drop: ArrayLike, model_drop: ArrayLike) -> float | None:
    """sum gold_drop clip(model_drop / gold_drop, 0, 1) / sum gold_drop over the layers where gold's drop is above .05.

    0: every layer still carries what base's does; 1: as if it had never been learned. None where gold's state changes
    no layer.

    Args:
        gold_drop, model_drop: [L] nats per token that base's answer loses with the layer's output taken from gold, or
            from the model.
    """
    gold, model = np.asarray(gold_drop, dtype=np.float64), np.asarray(model_drop, dtype=np.float64)
    if gold.shape != model.shape:
        raise ValueError(f"{len(gold)} layers of gold and {len(model)} of the model")
    speaking = gold > LEAST_DROP
    if not speaking.any():
        return None
    gold, model = gold[speaking], model[speaking]
    return float((gold * np.clip(model / gold, 0, 1)).sum() / gold.sum())


def ridge_hits(
    train: ArrayLike, train_people: Sequence[str], test: ArrayLike, test_people: Sequence[str]
) -> NDArray[np.bool_] | None:
    """Whose features a linear probe takes for whose: [T], True where it names the right person.

    Ridge regression on centred features to one-hot people, penalty .1 trace(X'X) / d; the largest output counts, the
    first of equal ones. None where the features do not vary, or there are fewer than two people.

    Args:
        train [N, d], test [T, d]: features; people: whose each row is. All test people must be among the others.
    """
    x, y = np.asarray(train, dtype=np.float64), np.asarray(test, dtype=np.float64)
    names = sorted(set(train_people))
    if missing := sorted(set(test_people) - set(names)):
        raise ValueError(f"the probe is asked about {missing[0]}, of whom it has seen no picture")
    centre, size = x.mean(axis=0), (x**2).sum()
    x, y = x - centre, y - centre
    if len(names) < 2 or (x**2).sum() <= ROUNDING * size:
        return None
    wanted = np.array([[float(person == name) for name in names] for person in train_people])
    wanted -= wanted.mean(axis=0)
    penalty = RIDGE * (x**2).sum() / x.shape[1]
    # (X'X + aI)^-1 X' = X' (XX' + aI)^-1: rows are fewer than features
    outputs = y @ x.T @ np.linalg.solve(x @ x.T + penalty * np.eye(len(x)), wanted)
    return np.array([names[place] for place in outputs.argmax(axis=1)]) == np.asarray(test_people)


def first_half(people: Sequence[str]) -> list[bool]:
    """Which rows train a probe: the first half of each person's, in their order; a person of one row trains none."""
    totals: Mapping[str, int] = {person: people.count(person) for person in people}
    met: dict[str, int] = {}
    chosen = []
    for person in people:
        met[person] = met.get(person, 0) + 1
        chosen.append(met[person] <= totals[person] // 2)
    return chosen
