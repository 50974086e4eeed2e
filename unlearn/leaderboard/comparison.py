"""Two models on the same rows: paired differences of a track's numbers, how sure they are, and where gold and base
lie."""

from collections.abc import Mapping, Sequence
from typing import Any

from unlearn.leaderboard.comparable import check_comparable
from unlearn.leaderboard.identity import identity, relative
from unlearn.leaderboard.pair import SEEDS, Pair, compared, numbers_of
from unlearn.leaderboard.privacy import UNMEASURED
from unlearn.leaderboard.privacy_pair import compare_privacy, privacy_lines
from unlearn.leaderboard.scores import known_rows, score_log, units_of
from unlearn.leaderboard.table import plain_text
from unlearn.leaderboard.tracks import track_of
from unlearn.metrics.aggregates import Track
from unlearn.metrics.comparison import holm, leakage, smallest_p
from unlearn.results import EvalLog

MARGIN = 0.05


def compare_logs(
    a: EvalLog | Sequence[EvalLog],
    b: EvalLog | Sequence[EvalLog],
    *,
    gold: EvalLog | None = None,
    base: EvalLog | None = None,
    gold_again: EvalLog | None = None,
    margin: float = MARGIN,
    relative_to: str = ".",
) -> dict[str, Any]:
    """JSON-ready: A minus B for the track's composites and the numbers they are made of, by name under `numbers`.

    Each has `A`, `B`, `difference`, its 95 % and 90 % interval over people (null below four), `p` (swapping people
    between the models), `p Holm` (corrected for the number of comparisons here), `smallest p` (what so few people can
    give), `verdict` (equivalence within `margin` by the 90 % interval), `people needed` (null where several groups of
    people meet in one number) and, for what should be forgotten, `leakage` of A and B: 0 as gold, 1 as base, null
    without both or where base and gold cannot be told apart. Several logs of a model are its seeds: numbers are means
    over them, and from three on the intervals are over seeds too. `gold floor`: how far two golds lie apart
    (`gold_again`: one of another seed), below which no gap says anything. `membership`: the AUCs of both by attack,
    where the logs have a holdout (privacy_pair.py).

    Raises:
        ValueError: logs of another track, of other rows, or asked otherwise.
    """
    sides = {"A": [a] if isinstance(a, EvalLog) else list(a), "B": [b] if isinstance(b, EvalLog) else list(b)}
    anchors = {"gold": gold, "base": base, "gold again": gold_again}
    runs = {**sides, **{name: [log] for name, log in anchors.items() if log is not None}}
    first = sides["A"][0]
    track = track_of(first.tasks, first.name)
    every = [log for logs in runs.values() for log in logs]
    unchecked = [fact for log in every[1:] for fact in check_comparable(first, log, track)]
    facts = known_rows(every, track)
    units = units_of(first, track, facts)
    scores = {name: [score_log(log, track, facts, None) for log in logs] for name, logs in runs.items()}
    pair = Pair(track, units, scores["A"], scores["B"])
    numbers = {name: _compare(name, pair, margin) for name in compared(track)}
    for facts_of, corrected in zip(numbers.values(), holm([one["p"] for one in numbers.values()]), strict=True):
        facts_of["p Holm"] = float(corrected)
    if "gold" in scores and "base" in scores:
        ends = Pair(track, units, scores["base"], scores["gold"])
        for name in numbers:
            numbers[name]["leakage"] = leakage_of(name, ends, *pair.means(name))
    if "gold" in scores and "gold again" in scores:
        golds = Pair(track, units, scores["gold"], scores["gold again"])
        for name in numbers:
            numbers[name]["gold floor"] = abs(golds.difference(name))
    return {
        "schema_version": 1,
        "track": track.name,
        "margin": margin,
        "models": {name: _model(logs[0], track, relative_to) for name, logs in runs.items()},
        "seeds": {name: len(logs) for name, logs in sides.items()},
        "resampled": units.kinds,
        "unchecked": list(dict.fromkeys(unchecked)),
        "numbers": numbers,
        "membership": compare_privacy(sides["A"], sides["B"], track),
    }


def _compare(name: str, pair: Pair, margin: float) -> dict[str, Any]:
    found = numbers_of(name, pair, margin)
    return {**found, "p": pair.p(name), "smallest p": smallest_p(found["people"]), "leakage": None, "gold floor": None}


def leakage_of(name: str, anchors: Pair, a: float, b: float) -> dict[str, float | None] | None:
    """Of two models' values a and b, `anchors` being base and gold; None for what is not to be forgotten, and where the
    interval of base minus gold holds 0."""
    if not all(anchors.tasks[part].to_forget for part in anchors.parts(name)):
        return None
    ends = anchors.interval(name, 0.95)
    if ends is None or ends[0] <= 0 <= ends[1]:
        return None
    base, gold = anchors.means(name)
    return {"A": leakage(a, gold, base), "B": leakage(b, gold, base)}


def _model(log: EvalLog, track: Track, folder: str) -> dict[str, Any]:
    known = identity(log, None, None, track, folder)
    return {**{key: known[key] for key in ("method", "model", "seed", "settings_hash")}, "log": relative(log, folder)}


def comparison_table(found: Mapping[str, Any]) -> str:
    """The comparison as aligned text, with notes on how to read it."""
    numbers: Mapping[str, Mapping[str, Any]] = found["numbers"]
    leaks = any(one["leakage"] for one in numbers.values())
    floors = any(one["gold floor"] is not None for one in numbers.values())
    header = ["Number", "A", "B", "A - B", "95 %", "p", "p Holm", "90 %", f"within {found['margin']:g}", "People",
              "needed", *(["Leakage A", "Leakage B"] if leaks else []), *["gold floor"] * floors]  # fmt: skip
    body = [
        [name, f"{one['A']:.3f}", f"{one['B']:.3f}", f"{one['difference']:+.3f}", _ends(one["interval"]),
         f"{one['p']:.3g}", f"{one['p Holm']:.3g}", _ends(one["interval 90"]), one["verdict"], str(one["people"]),
         "" if one["people needed"] is None else str(one["people needed"]),
         *([_share(one["leakage"], model) for model in ("A", "B")] if leaks else []),
         *([f"{one['gold floor']:.3f}"] if floors else [])]
        for name, one in numbers.items()
    ]  # fmt: skip
    models = [f"{name}: {one['method']} ({one['log'] or one['model']})" for name, one in found["models"].items()]
    text = "\n".join([*models, "", plain_text(header, body, _notes(found, leaks))])
    missing = [f"Not compared: {why}" for why in found["membership"].get(UNMEASURED, ())]
    if attacks := privacy_lines(found["membership"]):
        head = ["Membership AUC", "Attack", "A", "B", "A - B", "95 %"]
        notes = ["Gold's AUC is the goal, not 0 or 1; under it people stand out too.", *missing]
        return text + "\n\n" + plain_text(head, attacks, notes)
    return "\n".join([text, *missing])


def _notes(found: Mapping[str, Any], leaks: bool) -> Sequence[str]:
    numbers = found["numbers"].values()
    fewest = min(numbers, key=lambda one: one["people"])
    notes = [
        f"p: people swapped between the models; {fewest['people']} people never give less than "
        f"{fewest['smallest p']:.3g}. p Holm: corrected for {len(numbers)} comparisons.",
        f"equal: the 90 % interval lies inside ({-found['margin']:g}, {found['margin']:g}); different: it leaves 0 "
        "out; unknown: neither. No significant difference is not equality.",
        "needed: people that it takes to call two equal models equal (power .8).",
        _seeds(found["seeds"]),
    ]
    if any(one["gold floor"] is not None for one in numbers):
        notes.append("gold floor: how far two golds of different seeds lie apart; no smaller gap says anything.")
    if leaks:
        notes.append("Leakage: 0 as gold, 1 as base; empty where base and gold cannot be told apart.")
    if any(one["interval"] is None for one in numbers):
        notes.append("No interval: fewer than four people.")
    if "items" in found["resampled"].values():
        notes.append("People are not known everywhere: where they are not, items stand for them.")
    if found["unchecked"]:
        notes.append(f"The logs do not say, so that it was not compared: {', '.join(found['unchecked'])}.")
    return notes


def _ends(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"[{ends[0]:+.3f}, {ends[1]:+.3f}]"


def _share(leaks: Mapping[str, float | None] | None, model: str) -> str:
    value = (leaks or {}).get(model)
    return "" if value is None else f"{value:.2f}"


def _seeds(seeds: Mapping[str, int]) -> str:
    """What the intervals know of seeds."""
    if set(seeds.values()) == {1}:
        return "One run of each model: seeds are not in the intervals."
    said = ", ".join(f"{name}: {count}" for name, count in seeds.items())
    missing = [name for name, count in seeds.items() if count < SEEDS]
    rest = f"; fewer than three of {' and '.join(missing)}, whose seeds are not in them" if missing else ""
    return f"Means over runs ({said}); the intervals are over people and seeds{rest}. p holds for these runs."
