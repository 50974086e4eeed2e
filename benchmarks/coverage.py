"""How often a 95 % interval holds the truth, and how often equal models fall under the null floor, simulated.

    python benchmarks/coverage.py                      # the tables of docs/metrics.md, a few minutes on two cores
    python benchmarks/coverage.py --draws 500          # coarser: each share is known to sqrt(.05 * .95 / draws)
    python benchmarks/coverage.py --only means floor   # some of the tables

Every cell simulates `--draws` studies of P people, 17 items each as in CLEAR, with `unlearn.metrics` as a leaderboard
row uses it. The intraclass correlation (icc) is the share of the items' variance that lies between people.
`graded` items are Beta distributed with a fifth of the variance that yes/no items of that mean have, like
probabilities and ROUGE; yes/no items are 0 or 1. Below four people there is no interval.
"""

import argparse
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cv.membership.attacks import Sides, intervals, judge
from unlearn.metrics.forget_quality import js_forget_quality, null_floor, quality_without
from unlearn.metrics.intervals import interval
from unlearn.metrics.model_utility import harmonic_means

PEOPLE, ITEMS = (2, 4, 6, 8, 10, 20, 40), 17
CORRELATIONS, MEANS = (0.0, 0.3, 0.8), (0.05, 0.5, 0.95)
GRADED, YES_NO = 0.2, 1.0  # share of mean (1 - mean) that is the items' variance
Array = NDArray[np.float64]
Cell = tuple[str, str, Callable[[np.random.Generator, int], float | None]]  # line, column, share of its studies


def beta(rng: np.random.Generator, mean: Array | float, share: float, size: tuple[int, ...]) -> Array:
    """Beta numbers with this mean and a variance of `share` * mean (1 - mean); 0 gives the mean, 1 gives 0 or 1."""
    mean = np.broadcast_to(np.clip(mean, 1e-9, 1 - 1e-9), size)
    if share == 0:
        return np.array(mean)
    if share == 1:
        return (rng.random(size) < mean).astype(np.float64)
    return rng.beta(mean * (1 - share) / share, (1 - mean) * (1 - share) / share)


def items(rng: np.random.Generator, draws: int, people: int, *, mean: float, icc: float, spread: float) -> Array:
    """Values [draws, people, 17] with this mean, icc and variance spread * mean (1 - mean)."""
    own = beta(rng, mean, spread * icc, (draws, people, 1))
    return beta(rng, own, spread * (1 - icc) / (1 - spread * icc), (draws, people, ITEMS))


def without_each(values: Array) -> tuple[Array, Array]:
    """(mean [draws], mean without each person [draws, people]) of [draws, people, items]."""
    own = values.mean(axis=2)
    return own.mean(axis=1), (own.sum(axis=1, keepdims=True) - own) / (own.shape[1] - 1)


def held(truth: float, ends: Iterable[list[float] | None]) -> float | None:
    """Share of intervals that hold the truth; None where there are none."""
    found = [pair for pair in ends if pair is not None]
    return float(np.mean([low <= truth <= high for low, high in found])) if found else None


def mean_cell(
    people: int, mean: float, icc: float, spread: float
) -> Callable[[np.random.Generator, int], float | None]:
    def run(rng: np.random.Generator, draws: int) -> float | None:
        values = items(rng, draws, people, mean=mean, icc=icc, spread=spread)
        return held(mean, (interval(one, [rest]) for one, rest in zip(*without_each(values), strict=True)))

    return run


def percentile_cell(people: int, icc: float) -> Callable[[np.random.Generator, int], float | None]:
    """What a percentile bootstrap over people holds, for comparison."""

    def run(rng: np.random.Generator, draws: int) -> float:
        own = items(rng, draws, people, mean=0.5, icc=icc, spread=GRADED).mean(axis=2)
        drawn = rng.multinomial(people, np.full(people, 1 / people), size=1000) / people
        low, high = np.quantile(own @ drawn.T, [0.025, 0.975], axis=1)
        return float(np.mean((low <= 0.5) & (high >= 0.5)))

    return run


def uneven_cell(people: int, icc: float) -> Callable[[np.random.Generator, int], float | None]:
    """A mean of .5 over items of people who have 1 to 17 items each."""

    def run(rng: np.random.Generator, draws: int) -> float | None:
        values = items(rng, draws, people, mean=0.5, icc=icc, spread=GRADED)
        kept = np.arange(ITEMS) < rng.integers(1, ITEMS + 1, size=(draws, people, 1))
        sums, sizes = (values * kept).sum(axis=2), kept.sum(axis=2)
        rest = (sums.sum(1, keepdims=True) - sums) / (sizes.sum(1, keepdims=True) - sizes)
        means = sums.sum(1) / sizes.sum(1)
        return held(0.5, (interval(one, [other]) for one, other in zip(means, rest, strict=True)))

    return run


def harmonic(
    rng: np.random.Generator, draws: int, people: int, means: tuple[float, ...], icc: float
) -> Iterator[Array]:
    """The harmonic mean [draws] of graded means of the same people, then the same without each of them."""
    parts = [without_each(items(rng, draws, people, mean=mean, icc=icc, spread=GRADED)) for mean in means]
    yield harmonic_means(np.stack([whole for whole, _ in parts]))
    yield harmonic_means(np.stack([rest for _, rest in parts]))


def harmonic_cell(
    people: int, means: tuple[float, ...], icc: float
) -> Callable[[np.random.Generator, int], float | None]:
    def run(rng: np.random.Generator, draws: int) -> float | None:
        truth = float(harmonic_means(np.array(means)))
        wholes, rests = harmonic(rng, draws, people, means, icc)
        return held(truth, (interval(one, [rest]) for one, rest in zip(wholes, rests, strict=True)))

    return run


def utility_cell(people: int, icc: float) -> Callable[[np.random.Generator, int], float | None]:
    """A harmonic mean of six means of P people and six of 2 P others, like Model Utility."""
    means = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)

    def run(rng: np.random.Generator, draws: int) -> float | None:
        (one, one_rest), (two, two_rest) = (harmonic(rng, draws, size, means, icc) for size in (people, 2 * people))
        both = harmonic_means(np.stack([one, two]))
        first = harmonic_means(np.stack([one_rest, np.broadcast_to(two[:, None], one_rest.shape)]))
        second = harmonic_means(np.stack([np.broadcast_to(one[:, None], two_rest.shape), two_rest]))
        truth = float(harmonic_means(np.array(means)))
        return held(truth, (interval(a, [b, c]) for a, b, c in zip(both, first, second, strict=True)))

    return run


def alarm_cell(people: int, icc: float) -> Callable[[np.random.Generator, int], float | None]:
    """How often `memorised` is true although base and gold do not differ: three parts; they share half of a person."""

    def run(rng: np.random.Generator, draws: int) -> float | None:
        models: tuple[list[tuple[Array, Array]], list[tuple[Array, Array]]] = ([], [])
        for mean in (0.2, 0.4, 0.6):
            common = beta(rng, mean, GRADED * icc / 2, (draws, people, 1))
            for parts in models:
                own = beta(rng, common, GRADED * icc / 2, (draws, people, 1))
                parts.append(without_each(beta(rng, own, GRADED * (1 - icc), (draws, people, ITEMS))))
        (a, a_rest), (b, b_rest) = ([harmonic_means(np.stack(each)) for each in zip(*m, strict=True)] for m in models)
        ends = (interval(gap, [rest], bounds=(-1.0, 1.0)) for gap, rest in zip(a - b, a_rest - b_rest, strict=True))
        found = [pair for pair in ends if pair is not None]
        return float(np.mean([low > 0 for low, _ in found])) if found else None

    return run


def ratios(rng: np.random.Generator, draws: int, people: int, share: float, shift: float) -> tuple[Array, Array]:
    """Truth ratios [draws, people * 17] of two models, log-normal; `share` of the variance is person x model."""

    def model(centre: float) -> Array:
        own = np.sqrt(share) * rng.normal(size=(draws, people, 1))
        logs = centre + own + np.sqrt(1 - share) * rng.normal(size=(draws, people, ITEMS))
        return np.exp(logs).reshape(draws, -1)

    return model(0.0), model(shift)


def quality_cell(people: int, share: float, shift: float) -> Callable[[np.random.Generator, int], float | None]:
    """1 - JSD. The truth is its mean over studies of this size; the noise of the sample is part of it (null floor)."""

    def run(rng: np.random.Generator, draws: int) -> float | None:
        pairs = list(zip(*ratios(rng, max(100, draws // 4), people, share, shift), strict=True))
        units = np.repeat(np.arange(people), ITEMS)
        scores = [js_forget_quality(*pair) for pair in pairs]
        ends = (interval(score, [quality_without(*pair, units)]) for score, pair in zip(scores, pairs, strict=True))
        return held(float(np.mean(scores)), ends)

    return run


def floor_cell(people: int, share: float, by_people: bool) -> Callable[[np.random.Generator, int], float | None]:
    """How often two equal models fall under `Null floor 5%` (nominal .05; whole people: 0 below six)."""

    def run(rng: np.random.Generator, draws: int) -> float:
        units = np.repeat(np.arange(people), ITEMS) if by_people else None
        pairs = zip(*ratios(rng, max(100, draws // 10), people, share, 0.0), strict=True)
        return float(np.mean([js_forget_quality(*pair) < null_floor(*pair, people=units)[1] - 1e-9 for pair in pairs]))

    return run


def attack_cell(models: int, name: str) -> Callable[[np.random.Generator, int], float | None]:
    """A number of an attack: scores of `models` targets and 2 x `models` people a group, 4 photos of each person."""

    def study(rng: np.random.Generator, targets: int, people: int) -> tuple[Array, Sides]:
        names = np.repeat([f"p{i}" for i in range(2 * people)], 4)
        member_of = np.repeat(["A", "B"], people * 4)
        level, effect = (np.repeat(rng.normal(size=2 * people), 4) for _ in range(2))
        logits = {
            group: 0.5 * rng.normal(size=(targets, 1)) + 0.5 * level + rng.normal(size=(targets, len(names)))
            + (member_of == group) * (0.7 + 0.5 * effect + 0.3 * rng.normal(size=(targets, 1))) - 0.35
            for group in "AB"
        }  # fmt: skip
        sides = Sides(logits, {group: values[:2].repeat(2, 0) for group, values in logits.items()}, member_of, names)
        return 1 / (1 + np.exp(-sides.all_targets()[0])), sides

    def run(rng: np.random.Generator, draws: int) -> float | None:
        large, sides = study(rng, 300, 300)
        truth = getattr(judge(large, sides.all_targets()[1]), name)
        studies = (study(rng, models, 2 * models) for _ in range(max(50, draws // 10)))
        return held(truth, (intervals(scores, one, draws=100, seed=0)[name] for scores, one in studies))

    return run


def tables() -> dict[str, tuple[str, list[Cell]]]:
    """By name: a title and the cells, line by line."""
    P = PEOPLE
    parts = {"(.05, .3, .6)": (0.05, 0.3, 0.6), "(.4, .5, .6)": (0.4, 0.5, 0.6), "(.9, .95, .95)": (0.9, 0.95, 0.95)}
    return {
        "means": ("Means of graded items: share of 95 % intervals that hold the truth", [
            *((f"mean {mean}, icc {icc}", str(p), mean_cell(p, mean, icc, GRADED))
              for mean in MEANS for icc in CORRELATIONS for p in P),
            *((f"mean 0.5, icc {icc}, 1 to 17 items", str(p), uneven_cell(p, icc)) for icc in CORRELATIONS for p in P),
        ]),
        "percentile": ("A percentile bootstrap, mean 0.5, for comparison", [
            (f"mean 0.5, icc {icc}", str(p), percentile_cell(p, icc)) for icc in CORRELATIONS for p in P]),
        "yes-no": ("Means of yes/no items", [
            (f"mean {mean}, icc {icc}", str(p), mean_cell(p, mean, icc, YES_NO))
            for mean in MEANS for icc in CORRELATIONS for p in P]),
        "harmonic": ("Harmonic means of graded parts", [
            *((f"{label}, icc {icc}", str(p), harmonic_cell(p, means, icc))
              for label, means in parts.items() for icc in CORRELATIONS for p in P),
            *((f"12 parts, P and 2 P people, icc {icc}", str(p), utility_cell(p, icc))
              for icc in CORRELATIONS for p in P),
        ]),
        "gate": ("`memorised` true although base and gold are equal (nominal .025)", [
            (f"icc {icc}", str(p), alarm_cell(p, icc)) for icc in CORRELATIONS for p in P]),
        "quality": ("Forget Quality, 1 - JSD: its mean over studies of this size is held", [
            (f"shift {shift}, person x model {share}", str(p), quality_cell(p, share, shift))
            for shift in (0.0, 1.0, 3.0) for share in CORRELATIONS for p in P]),
        "floor": ("Two equal models under Null floor 5% (nominal .05)", [
            (f"swapping {'people' if by_people else 'items'}, person x model {share}", str(p),
             floor_cell(p, share, by_people)) for by_people in (False, True) for share in CORRELATIONS for p in P]),
        "attack": ("Face track, an attack: targets a group (twice as many people)", [
            (name, str(models), attack_cell(models, name))
            for name in ("accuracy", "auc", "tpr") for models in (2, 4, 8)]),
    }  # fmt: skip


def markdown(title: str, cells: list[Cell], shares: list[float | None]) -> str:
    """A table of the shares, a line for each first name of the cells and a column for each second one."""
    columns = list(dict.fromkeys(column for _, column, _ in cells))
    found = {(line, column): share for (line, column, _), share in zip(cells, shares, strict=True)}
    text = [f"| {title} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for line in dict.fromkeys(line for line, _, _ in cells):
        values = (found[line, column] for column in columns)
        shown = ["none" if value is None else f"{value:.3f}".lstrip("0") for value in values]
        text.append(f"| {line} | " + " | ".join(shown) + " |")
    return "\n".join(text)


def cell(name: str, place: int, draws: int, seed: int) -> float | None:
    """The share of one cell, seeded by what it is called."""
    line, column, run = tables()[name][1][place]
    return run(np.random.default_rng([seed, zlib.crc32(f"{name} {line} {column}".encode())]), draws)


def main() -> None:
    every = tables()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000, help="studies a cell (the slower tables simulate fewer)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(every), default=list(every))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    if asked.draws < 10:
        parser.error("--draws must be 10 or more")
    with (
        ProcessPoolExecutor(asked.processes) as pool,
        tqdm(total=sum(len(every[name][1]) for name in asked.only), unit="cell") as bar,
    ):
        work = {name: [pool.submit(cell, name, place, asked.draws, asked.seed) for place in range(len(every[name][1]))]
                for name in asked.only}  # fmt: skip
        for name, futures in work.items():
            bar.set_description(name)
            shares = []
            for future in futures:
                shares.append(future.result())
                bar.update()
            with bar.external_write_mode():
                print(markdown(*every[name], shares), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
