"""Who trains which model: identity splits for membership inference, as JSON.

CLEAR (2025), section 4.3 and its released splits: half of the models (group A) train on the forget identities and on
random others, the other half (group B) on the holdout identities instead. For a model of A, `forget` are people it has
seen and `holdout` people it has not; for one of B the two lists change places.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cv.data.photos import Photos, check_spellings, find_people
from unlearn.atomic import write_json

SIZES = ("01", "05", "10")  # percent of the identities


@dataclass(frozen=True)
class Split:
    """One model's people. `forget` and `holdout` map each of SIZES to names; `forget["10"]` is part of `train`."""

    dataset: str
    model: int
    group: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    forget: Mapping[str, tuple[str, ...]]
    holdout: Mapping[str, tuple[str, ...]]

    def retain(self, size: str) -> tuple[str, ...]:
        """The people it trains on and keeps when forget_<size> is forgotten."""
        gone = set(self.forget[size])
        return tuple(name for name in self.train if name not in gone)

    def digest(self) -> str:
        """Twelve hex digits over everything above."""
        return hashlib.sha256(json.dumps(self._record()).encode()).hexdigest()[:12]

    def _record(self) -> dict[str, Any]:
        record = {
            "dataset": self.dataset,
            "model": self.model,
            "group": self.group,
            "train": self.train,
            "test": self.test,
        }
        groups = {f"forget_{size}": self.forget[size] for size in SIZES}
        groups |= {f"retain_{100 - int(size):02d}": self.retain(size) for size in SIZES}
        return record | groups | {f"holdout_{size}": self.holdout[size] for size in SIZES}


def make_splits(
    photos: Photos, *, models: int, seed: int, forget: Sequence[str] | None = None, holdout: Sequence[str] | None = None
) -> list[Split]:
    """`models` splits of half the identities each: all of forget_10 (or holdout_10) and random people of neither.

    Args:
        models: a multiple of 4, as either group has targets and shadows.
        forget, holdout: exactly these people, in the order in which smaller sizes are cut from the front; None draws
            them by `seed`, as many as the other list has or 10 % of all. A list's `10` is the whole list, `05` half of
            it, `01` a tenth.

    Raises:
        ValueError: unknown, repeated or overlapping people, a name that several have, lists of different lengths, too
            few people, or another number of models.
    """
    if models < 4 or models % 4:
        raise ValueError(f"models={models} must be a multiple of 4: two groups, each of targets and shadows.")
    people = photos.identities
    check_spellings(people)
    rng = np.random.default_rng(seed)
    forget, holdout = find_people(photos, forget or (), "forget"), find_people(photos, holdout or (), "holdout")
    check_groups(forget, holdout)
    if forget and holdout and len(forget) != len(holdout):
        raise ValueError(
            f"forget names {len(forget)} people and holdout {len(holdout)}: each model sees one of the two lists, so "
            "name as many in both, or leave one null."
        )
    wanted = len(forget) or len(holdout) or group_sizes(len(people))["10"]
    counts = {size: max(1, round(wanted * int(size) / 10)) for size in SIZES}
    for chosen in (forget, holdout):
        free = [name for name in people if name not in {*forget, *holdout}]
        missing = wanted - len(chosen)
        if missing > len(free):
            raise ValueError(
                f"{len(people)} people are too few for a forget and a holdout set of {wanted}; add people."
            )
        chosen += [free[i] for i in rng.permutation(len(free))[:missing]]
    nested = {
        side: {size: tuple(names[: counts[size]]) for size in SIZES} for side, names in (("A", forget), ("B", holdout))
    }
    others = [name for name in people if name not in {*nested["A"]["10"], *nested["B"]["10"]}]
    share = len(people) // 2 - wanted
    if share < 1 or share > len(others):
        raise ValueError(f"{len(people)} people are too few: half of them must hold forget_10 and others; add people.")
    splits = []
    for model in range(models):
        group = "A" if model < models // 2 else "B"
        mine, theirs = nested[group], nested["B" if group == "A" else "A"]
        drawn = {others[i] for i in rng.permutation(len(others))[:share]}
        train = tuple(name for name in people if name in drawn or name in mine["10"])
        test = tuple(name for name in people if name not in train)
        splits.append(Split(photos.digest(), model, group, train, test, mine, theirs))
    return splits


def group_sizes(identities: int) -> dict[str, int]:
    """How many people forget_01, forget_05 and forget_10 (or holdout) have: 2, 10 and 20 of 200."""
    return {size: max(1, round(identities * int(size) / 100)) for size in SIZES}


def check_groups(forget: Sequence[str], holdout: Sequence[str]) -> None:
    """ValueError for people who are named twice, or both forgotten and held out."""
    for what, names in (("forget", forget), ("holdout", holdout)):
        if len(set(names)) < len(names):
            raise ValueError(
                f"{what} names somebody twice: {next(name for name in names if list(names).count(name) > 1)}."
            )
    if both := [name for name in forget if name in holdout]:
        raise ValueError(
            f"{both[0]} is in forget and in holdout ({len(both)} people are); a person can be in one of them only."
        )


def write_splits(splits: Sequence[Split], folder: Path) -> None:
    """One `split_NNN.json` per model."""
    for split in splits:
        write_json(folder / f"split_{split.model:03d}.json", split._record())


def read_splits(folder: Path, photos: Photos) -> list[Split]:
    """All splits of `folder`, in the order of their models.

    Raises:
        ValueError: none there, a damaged file, a split of other photos, or one whose forget and holdout people overlap.
    """
    files, digest = sorted(folder.glob("split_*.json")), photos.digest()
    if not files:
        raise ValueError(f"{folder} holds no splits; run `python cv/prepare.py save_dir={folder}` first.")
    splits = []
    for file in files:
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            groups: dict[str, Any] = {
                side: {size: tuple(record[f"{side}_{size}"]) for size in SIZES} for side in ("forget", "holdout")
            }
            people = tuple(record["train"]), tuple(record["test"])
            split = Split(record["dataset"], record["model"], record["group"], *people, **groups)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{file} is damaged ({type(error).__name__}: {error}); prepare with overwrite_dir=true."
            ) from None
        if split.dataset != digest:
            raise ValueError(
                f"{file} belongs to other photos ({split.dataset}) than those beside it ({digest}); prepare again."
            )
        check_groups(split.forget["10"], split.holdout["10"])
        _check_trained(split, file)
        splits.append(split)
    if [split.model for split in splits] != list(range(len(splits))):
        raise ValueError(
            f"{folder} lacks some of its splits: it has {len(splits)}, not one for each model; prepare again."
        )
    return splits


def _check_trained(split: Split, file: Path) -> None:
    train = set(split.train)
    if lost := set(split.forget["10"]) - train:
        raise ValueError(f"{file}: {min(lost)} is to be forgotten but was never trained on.")
    if seen := set(split.holdout["10"]) & train:
        raise ValueError(
            f"{file}: {min(seen)} is held out and yet trained on; nothing could tell members from others then."
        )
