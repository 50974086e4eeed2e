"""The tracks of config/tracks/*.yaml: a benchmark's tasks and composites are data, and a new one is a new file."""

import functools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from unlearn import ROOT
from unlearn.metrics.accuracy import RULES
from unlearn.metrics.aggregates import FORGET, METRICS, Released, Task, Track
from unlearn.metrics.columns import per_item

FOLDER = ROOT / "config" / "tracks"
NEEDED = ("Retain metric", "Forget metric")  # what the leaderboard's picture and its lower limit are made of
_KEYS = ("name", "tasks", "composites", "quality", "beside", "released", "holdout")


def tracks() -> tuple[Track, ...]:
    """Every track, by file name. ValueError that names the file of one that cannot be read."""
    return (*_read(FOLDER), *_ADDED)


_ADDED: list[Track] = []


def add_track(path: str | Path) -> None:
    """A track's file from outside (a plugin). ValueError for a file that describes none, or a name that is there."""
    track = read_track(path)
    if any(track.name == other.name for other in tracks()):
        raise ValueError(f"{path}: there is a track {track.name!r} already")
    _ADDED.append(track)


def track_named(name: str) -> Track:
    """The track of a row. ValueError if no file describes it."""
    for track in tracks():
        if track.name == name:
            return track
    known = ", ".join(track.name for track in tracks())
    raise ValueError(f"No track is called {name!r}; {FOLDER} has {known}. Put the file that describes it there.")


def track_of(task_names: Collection[str], where: str = "the eval log") -> Track:
    """The track that has a task of its own in the log (tracks share some). ValueError if there is none."""
    for track in tracks():
        others = {name for other in tracks() if other is not track for name in other.task_names}
        if (set(track.task_names) - others) & set(task_names):
            return track
    near = [track for track in tracks() if set(track.task_names) & set(task_names)] or tracks()
    names = " nor an ".join(track.name for track in near)
    expected = "; ".join(f"{track.name}: {', '.join(track.task_names)}" for track in near)
    raise ValueError(f"{where}: tasks {', '.join(task_names)} are neither an {names} evaluation ({expected})")


def read_track(path: str | Path) -> Track:
    """One file. ValueError names it and what is wrong: an unknown key, a composite of numbers that no task has, ..."""
    import yaml

    try:
        facts = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return _track(facts)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, TypeError, KeyError, AttributeError) as error:
        said = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path} describes no track: {said}. config/tracks/mm.yaml is an example.") from None


@functools.cache
def _read(folder: Path) -> tuple[Track, ...]:
    return tuple(read_track(path) for path in sorted(folder.glob("*.yaml")))


def _track(facts: Mapping[str, Any]) -> Track:
    if unknown := sorted(set(facts) - set(_KEYS)):
        raise ValueError(f"unknown key {unknown[0]!r}; known are {', '.join(_KEYS)}")
    tasks = _tasks(facts["tasks"])
    labels = {task.label for task in tasks}
    track = Track(
        str(facts["name"]), tasks, _composites(facts["composites"], labels), str(facts.get("quality", "js")),
        _tasks(facts.get("beside") or {}), _released(facts["released"], labels) if facts.get("released") else None,
        frozenset(name for name, entry in facts["composites"].items() if isinstance(entry, Mapping)),
        dict(facts.get("holdout") or {}),
    )  # fmt: skip
    known = {task.name for task in (*track.tasks, *track.beside)}
    if unknown := [name for name in track.holdout if name not in known]:
        raise ValueError(f"holdout has {unknown[0]!r}, which is no task")
    if FORGET not in labels:
        raise ValueError(f"no task has the label {FORGET}, whose truth ratios are compared with gold's")
    if missing := [name for name in NEEDED if name not in track.composites]:
        raise ValueError(f"no composite {missing[0]!r}")
    if track.quality not in ("js", "ks"):
        raise ValueError(f"quality={track.quality!r} is not one of js, ks")
    return track


def _tasks(entries: Mapping[str, Mapping[str, Any]]) -> tuple[Task, ...]:
    tasks = tuple(Task(name, **entry) for name, entry in entries.items())
    if len({task.label for task in tasks}) < len(tasks):
        raise ValueError("two tasks have the same label")
    if unknown := sorted({task.rule for task in tasks if task.rule} - set(RULES)):
        raise ValueError(f"rule {unknown[0]!r} is not one of {', '.join(RULES)}")
    return tasks


def _composites(entries: Mapping[str, Any], labels: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Each composite's numbers: a list is a harmonic mean, {contraharmonic: list} such a mean."""
    known = {f"{column.name} {label}" for column in per_item() for label in labels}
    found = {}
    for name, entry in entries.items():
        parts = entry["contraharmonic"] if isinstance(entry, Mapping) else entry
        every = [
            [f"{metric} {part[7:]}" for metric in METRICS] if part.startswith("all of ") else [part] for part in parts
        ]
        found[name] = tuple(number for numbers in every for number in numbers)
        if unknown := [number for number in found[name] if number not in known]:
            raise ValueError(f"{name} is made of {unknown[0]!r}, which no task has")
    return found


def _released(entry: Mapping[str, Any], labels: Collection[str]) -> Released:
    if entry["wrong_losses"] not in ("split", "item"):
        raise ValueError(f"released.wrong_losses={entry['wrong_losses']!r} is not one of split, item")
    first, second = entry["names"]
    return Released(entry["wrong_losses"], (first, second), _composites(entry.get("composites") or {}, labels))
