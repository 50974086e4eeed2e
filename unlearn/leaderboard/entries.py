"""Rows as the lines of a table: gold and base on top, runs that differ only in the seed pooled, what cannot be shown
left out and named."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearn.leaderboard.file import role_of
from unlearn.leaderboard.inference import mark as inference_mark
from unlearn.leaderboard.row import LOW_RETAIN
from unlearn.leaderboard.section import Section
from unlearn.leaderboard.tracks import track_named, tracks
from unlearn.metrics.aggregates import Track
from unlearn.metrics.columns import RETAIN, parts, shown
from unlearn.results import HUGE

Row = Mapping[str, Any]
GATE_MARK, LOW_MARK, OTHER_GOLD_MARK = "!", "*", "†"


@dataclass(frozen=True)
class Entry:
    """One line: a run, or several seeds of one. `numbers` are means over the seeds, `spread` their standard deviations
    (several seeds), `intervals` the 95 % intervals (one seed; None: too few people). `role`: gold, base or model.

    `other_gold`: measured against a gold log that is not the board's; `unchecked`: what is not known of how gold was
    asked.
    """

    label: str
    role: str
    track: str
    modality: str
    seeds: int
    numbers: dict[str, float]
    spread: dict[str, float]
    intervals: dict[str, list[float] | None]
    low_retain: bool
    memorised: bool | None
    other_gold: bool = False
    unchecked: tuple[str, ...] = ()

    @property
    def marks(self) -> str:
        """What the notes under a table explain."""
        gate = self.memorised is False
        return LOW_MARK * self.low_retain + GATE_MARK * gate + OTHER_GOLD_MARK * self.other_gold


def keys_of(track: Track) -> list[str]:
    """The numbers that a line shows."""
    return [key for key, _ in [*shown(track), *parts(track)]]


def evaluated(rows: Iterable[Row]) -> list[Row]:
    """The rows that come from eval logs; rows of other kinds are for the sections."""
    names = {track.name for track in tracks()}
    return [row for row in rows if row.get("track") in names]


def drawable(rows: Iterable[Row], sections: Sequence[Section] = ()) -> tuple[list[Row], list[str]]:
    """(rows that can be shown, why each of the others cannot): one odd row must not hide a leaderboard."""
    problems = [(row, _problem(row, sections)) for row in rows]
    return [row for row, why in problems if not why], [f"{row.get('method')!r}: {why}" for row, why in problems if why]


def entries(rows: Iterable[Row]) -> list[Entry]:
    """Gold and base of the rows first, then the rows in their order, seeds pooled.

    Seeds are pooled where method, model family, split, modality and variant are the same and every seed occurs once,
    all evaluated alike; other rows stay apart, told apart by the hash of their settings or of their evaluation.
    """
    rows = drawable(evaluated(rows))[0]
    stale = {id(row) for row in _of_another_gold(rows)}
    pools: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for role, row in [*_anchors(rows), *((_role(row), row) for row in rows)]:
        family = row.get("model_family") or row.get("model")
        same = (family, *(row.get(name) for name in ("forget_split", "modality", "variant")), id(row) in stale)
        pools[role, row["track"], str(row["method"]), str(same)].append(row)
    lines: list[Entry] = []
    for (role, *_), pool in pools.items():
        seeds = [str(row.get("seed")) for row in pool]
        one_way = len({(str(row.get("evaluation")), asked_of(row)) for row in pool}) == 1
        old = id(pool[0]) in stale
        if len(pool) == 1 or (one_way and "None" not in seeds and len(set(seeds)) == len(seeds)):
            lines.append(_entry(role, pool, old))
        else:
            names = ("settings_hash", "contents") if one_way else ("evaluation", "contents")
            told = next((name for name in names if len({row.get(name) for row in pool}) == len(pool)), names[0])
            lines += [_entry(role, [row], old, mark=str(row.get(told) or row.get("model"))) for row in pool]
    return sorted(lines, key=lambda line: ("gold", "base", "model").index(line.role))


def asked_of(row: Row) -> str | None:
    """The data and prompts that a row was evaluated on, as a hash; None where it does not say."""
    found = row.get("contents")
    return found.partition(":")[2] if isinstance(found, str) else None


def _role(row: Row) -> str:
    role = role_of(row)
    return "model" if role == "method" else role


def _anchors(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    """(role, numbers) of each gold and base that rows were compared with and that has no row of its own."""
    own = {_logs(row).get("model") for row in rows} - {None}
    found: dict[tuple[Any, ...], tuple[str, Row]] = {}
    for role in ("gold", "base"):
        for row in rows:
            anchor = row.get(role) or {}
            if anchor.get(RETAIN.name) is not None and anchor.get("log") not in own:
                track = track_named(row["track"])
                if track.quality == "ks":  # older boards keep it under its other name alone
                    anchor = {"Forget Quality": anchor.get("KS test p-value"), **anchor}
                found[role, anchor.get("log"), *(anchor.get(key) for key in keys_of(track))] = (role, anchor)
    return list(found.values())


def by_gold(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows of each track and gold log, in their order: what can be read in one table."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["track"], gold_of(row)), []).append(row)
    return list(groups.values())


def gold_of(row: Row) -> str:
    """Where the log of a row's gold is, from the leaderboard's folder."""
    return str(_logs(row).get("gold") or (row.get("gold") or {}).get("model"))


def _of_another_gold(rows: Sequence[Row]) -> list[Row]:
    """Rows that were measured against an earlier log under gold's path than the one that gold's own row is of."""
    found = []
    for group in by_gold(rows):
        known = [one for row in group if role_of(row) == "gold" for one in _identities(row.get("gold") or row)]
        found += [row for row in group if known and not any(one in known for one in _identities(row.get("gold") or {}))]
    return found


def _identities(gold: Row) -> list[Any]:
    """What tells one gold from another: its log's digest, or in older rows its run and numbers."""
    numbers = [gold.get("settings_hash"), gold.get(RETAIN.name), gold.get("Forget metric")]
    return [numbers, gold["digest"]] if gold.get("digest") else [numbers]


def _entry(role: str, pool: Sequence[Row], other_gold: bool, mark: str = "") -> Entry:
    first = pool[0]
    track = track_named(first["track"])
    values = {key: [row[key] for row in pool if row.get(key) is not None] for key in keys_of(track)}
    several = len(pool) > 1
    numbers = {name: float(np.mean(found)) for name, found in values.items() if found}
    label = str(first["method"]) + inference_mark(first) if role == "model" else f"{role} ({first['method']})"
    gates = [row.get("memorised") for row in pool] if role == "model" else [None]
    spread = {name: float(np.std(found, ddof=1)) for name, found in values.items() if len(found) > 1}
    return Entry(
        label=f"{label} [{mark}]" if mark else label,
        role=role,
        track=track.name,
        modality=str(first.get("modality") or ""),
        seeds=len(pool),
        numbers=numbers,
        spread=spread if several else {},
        intervals={} if several else dict(first.get("intervals") or {}),
        low_retain=numbers.get(RETAIN.name, 1.0) < LOW_RETAIN,
        memorised=False if False in gates else None if None in gates else True,
        other_gold=other_gold,
        unchecked=tuple(dict.fromkeys(fact for row in pool for fact in row.get("unchecked") or ())),
    )


def _problem(row: Row, sections: Sequence[Section]) -> str | None:
    """Why a row cannot be shown, or None."""
    for section in sections:
        if section.owns(row):
            return _problem_of_a_section(row, section)
    try:
        track = track_named(str(row.get("track")))
    except ValueError:
        return f"track {row.get('track')!r} is not one of this leaderboard's"
    for place in (row, row.get("gold"), row.get("base")):
        if place is not None and not isinstance(place, Mapping):
            return "gold or base is no row"
        numbers = [(key, (place or {}).get(key)) for key in keys_of(track)]
        if wrong := [key for key, value in numbers if value is not None and not _number(value)]:
            return f"{wrong[0]} is no number"
        ends = (place or {}).get("intervals")
        if ends is not None and not (isinstance(ends, Mapping) and all(map(_pair, ends.values()))):
            return "intervals are no pairs of numbers"
    if not isinstance(row.get("logs") or {}, Mapping) or row.get("memorised") not in (None, True, False):
        return "logs or memorised is of another type"
    return None


def _problem_of_a_section(row: Row, section: Section) -> str | None:
    try:
        section.grids([row])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        return f"no whole row of the track {row.get('track')} ({error!r})"
    return None


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < HUGE


def _pair(ends: Any) -> bool:
    """A null interval, or two ends of which either may be null."""
    whole = isinstance(ends, (list, tuple)) and len(ends) == 2
    return ends is None or (whole and all(end is None or _number(end) for end in ends))


def _logs(row: Row) -> Row:
    return row.get("logs") or {}
