"""Bootstrap intervals (Efron 1979) over people, or over items where people are not known.

Items of one person stand and fall together, so whole people are drawn. The draws depend on the rows alone, not on the
model: two models on the same rows get the same resamples, and the interval of their difference is a paired one.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWS = 1000


def resample_weights(units: Sequence[str], *, draws: int = DRAWS, seed: int = 0) -> NDArray[np.float64]:
    """How often each item is in each resample: [draws, N], for `units` [N], the person (or the id) of each item."""
    _, unit = np.unique(list(units), return_inverse=True)
    count = int(unit.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1.0 / count), size=draws)
    return drawn[:, unit].astype(np.float64)


def resampled_means(weights: NDArray[np.float64], values: ArrayLike) -> NDArray[np.float64]:
    """The mean of `values` [N] in each resample [draws]; NaN in a resample that holds none of the items."""
    totals = weights.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return (weights @ np.asarray(values, dtype=np.float64)) / totals


def interval(draws: ArrayLike, *, level: float = 0.95, centre: float | None = None) -> list[float]:
    """[low, high]: the central `level` of the draws.

    With `centre` the draws are first moved to have it as their mean: for numbers that resampling itself shifts (a
    distance between two samples grows by the noise of drawing again).
    """
    values = np.asarray(draws, dtype=np.float64)
    if centre is not None:
        values = values - np.nanmean(values) + centre
    tail = (1.0 - level) / 2
    return [float(value) for value in np.nanquantile(values, [tail, 1.0 - tail])]
