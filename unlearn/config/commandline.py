"""Hydra refuses a misspelt key without saying which one was meant; this says it first, and in no time."""

import difflib
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unlearn import ROOT
from unlearn.distributed.signals import exit_on_signals


def check_overrides(config: str, arguments: Sequence[str] | None = None, folder: Path = ROOT / "config") -> None:
    """Ends the program with the nearest known key when an argument `key=value` names none of `config`'s keys.

    Arguments that add (`+key=`), remove (`~key`), address Hydra itself or are options are left to Hydra. As every
    script begins here, this is also where SIGTERM and SIGINT get their exit codes.
    """
    exit_on_signals()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns on import, on every machine without a GPU
    known = set(_dotted(_load(folder / f"{config}.yaml", folder)))
    for argument in sys.argv[1:] if arguments is None else arguments:
        key, equals, _ = argument.partition("=")
        if not equals or key.startswith(("-", "+", "~", "hydra")) or "/" in key or "@" in key:
            continue
        if key not in known and not any(f"{key[:end]}.*" in known for end, letter in enumerate(key) if letter == "."):
            near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known keys: {', '.join(sorted(known))}."
            raise SystemExit(f"error: unknown config key {key!r}.{hint}")


def _load(file: Path, folder: Path) -> dict[str, Any]:
    """A config file with the root files its defaults list names (`/method_args`)."""
    import yaml

    values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    for entry in values.pop("defaults", []):
        if isinstance(entry, str) and entry.startswith("/"):
            values = {**_load(folder / f"{entry[1:]}.yaml", folder), **values}
    return values


def _dotted(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key in dotted form; an empty mapping takes any key, written `name.*`."""
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.") if value or prefix else [f"{prefix}{key}.*"]
