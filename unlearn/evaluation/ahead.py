"""One batch is prepared while the one before it is being used."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")


def one_ahead(prepare: Callable[[T], U], inputs: Iterable[T]) -> Iterator[tuple[T, float, U]]:
    """(input, when its result was asked for (perf_counter), `prepare(input)`), in order. One thread makes the results,
    one input ahead; an error is raised where its result would have come, after all results before it."""
    left = iter(inputs)
    with ThreadPoolExecutor(1, thread_name_prefix="prepare") as thread:

        def start() -> list[tuple[T, Any]]:
            return [(value, thread.submit(prepare, value)) for value in islice(left, 1)]

        coming = start()
        while coming:
            began = time.perf_counter()
            value, result = coming[0][0], coming[0][1].result()
            coming = start()
            yield value, began, result
