"""How every script starts and ends: a misspelt key is named with its neighbour at once, and a user's mistake prints no
traceback.

Nothing here imports more than the standard library, so that such an answer takes no time.
"""

import difflib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from unlearn import ROOT
from unlearn.distributed.signals import exit_on_signals

CONFIG_OF = {"forget_request": "request"}  # scripts whose config file is not called as they are
FULL_ERROR = "HYDRA_FULL_ERROR"  # set it to see where a message comes from


def run_script(main: Callable[[], object], config: str) -> None:
    """Runs a script's Hydra `main`, whose config is `config/<config>.yaml`.

    A ValueError (what users get wrong) or an error of Hydra ends the program with `error: <message>` and exit code 1;
    with HYDRA_FULL_ERROR=1, and for every other error, there is the traceback.
    """
    check_overrides(config)
    if os.environ.get(FULL_ERROR):
        main()
        leave_group()
        return
    os.environ[FULL_ERROR] = "1"  # leaves errors to us
    try:
        main()
        leave_group()
    except Exception as error:
        if isinstance(error, ValueError) or type(error).__module__.partition(".")[0] in ("hydra", "omegaconf"):
            raise SystemExit(f"error: {error}") from None
        raise
    finally:
        del os.environ[FULL_ERROR]


def leave_group() -> None:
    """Ends the connection to the other processes of a run, if there are any, before Python ends: a thread of torch's
    that is still there then can abort a process that has finished its work."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


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
    """A config file with what its defaults list names: root files (`/method_args`), and every file of a group
    (`method: rmu`), since any of them may be chosen."""
    import yaml

    values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    for entry in values.pop("defaults", []):
        if isinstance(entry, str) and entry.startswith("/"):
            values = {**_load(folder / f"{entry[1:]}.yaml", folder), **values}
        for group in entry if isinstance(entry, dict) and not any(" " in key for key in entry) else ():
            for choice in sorted((file.parent / group).glob("*.yaml")):
                values = _merged(_load(choice, folder), values)
    return values


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Every key of both, sections merged."""
    both = {key: _merged(below[key], above[key]) for key in below.keys() & above.keys()
            if isinstance(below[key], dict) and isinstance(above[key], dict)}  # fmt: skip
    return {**below, **above, **both}


def _dotted(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key in dotted form; an empty mapping takes any key, written `name.*`."""
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.") if value or prefix else [f"{prefix}{key}.*"]
