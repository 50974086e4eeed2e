"""The harmonic mean behind Model Utility and the Real, Retain and Forget metrics."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray


def harmonic_mean(values: Iterable[float]) -> float:
    """n / sum(1 / v). One zero makes it 0: for a utility the worst value, for a Forget metric the best. ValueError if
    there are no values or one is negative."""
    return float(harmonic_means(np.array(list(values), dtype=np.float64)[:, None])[0])


def harmonic_means(values: ArrayLike) -> NDArray[np.float64]:
    """The same down the columns: [n, D] -> [D]."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array) or (array < 0).any():
        raise ValueError(f"a harmonic mean needs one or more values >= 0, got {array.tolist()}")
    with np.errstate(divide="ignore", over="ignore"):  # 1 / 0 = inf, and n / inf = 0
        return len(array) / (1.0 / array).sum(axis=0)


def contraharmonic_means(values: ArrayLike) -> NDArray[np.float64]:
    """sum(v^2) / sum(v) down the columns, [n, D] -> [D], 0 where all are 0: near the largest, so that a forget metric
    is low only where every one is (UMU-Bench's). ValueError as in `harmonic_means`."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array) or (array < 0).any():
        raise ValueError(f"a contraharmonic mean needs one or more values >= 0, got {array.tolist()}")
    total = array.sum(axis=0)
    return np.divide((array**2).sum(axis=0), total, out=np.zeros_like(total), where=total > 0)
