"""leak@k: what the best of k sampled generations gives away, from n samples of each row.

A model that says nothing greedily may still say it in one of 64 samples (Scholten et al. 2024). The estimate is the
mean over all k-subsets of the n samples, without drawing subsets; for 0/1 values it is pass@k (Chen et al. 2021).
"""

import math

import numpy as np
from numpy.typing import ArrayLike


def leak_at_k(values: ArrayLike, k: int) -> float:
    """sum_j C(j - 1, k - 1) / C(n, k) s_(j), s ascending: the expected maximum of k of the n `values`.

    Raises:
        ValueError: k below 1 or above n (where published code returns 0).
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64).reshape(-1))
    n = len(ordered)
    if not 1 <= k <= n:
        raise ValueError(f"leak@{k} of {n} samples: k must be 1 to {n}; draw more samples or ask for a smaller k")
    subsets = math.comb(n, k)
    return float(sum(math.comb(j, k - 1) / subsets * value for j, value in enumerate(ordered)))
