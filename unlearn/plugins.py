"""What lies outside of the project: `plugins: [path or module, ...]` of every script.

A plugin is a Python file, a folder (a package of that name) or the name of an installed module. Importing it registers
what it brings: a method by `unlearn.registry.register`, a column by `unlearn.metrics.columns.add_column`, a model by
`unlearn.models.families.add_family`, a benchmark's table by `unlearn.leaderboard.tracks.add_track`; a folder with a
`track.py` is a track by its name. Its code runs with your rights: name only what you trust.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from unlearn.atomic import content_hash

NOWHERE = "plugins: {} is no Python file, no folder and no module; correct the path."
_LOADED: dict[str, tuple[str, Path | None]] = {}  # module name -> (as it was asked for, its file or folder)


def load_plugins(plugins: Sequence[str] | None) -> None:
    """Imports each plugin once, in order.

    Raises:
        ValueError: one that is not there, whose name is taken, or that raises; the message names it.
    """
    if isinstance(plugins, str):
        raise ValueError(f"plugins={plugins!r} is not a list; write plugins=[{plugins}].")
    for asked in map(str, plugins or ()):
        path = Path(asked).expanduser().resolve()
        file = path if path.exists() and (path.suffix == ".py" or path.is_dir()) else None
        name = path.stem if file else asked
        if (known := _LOADED.get(name)) is not None and known[1] == file:
            continue
        if file is None and not name.replace(".", "").replace("_", "").isalnum():
            raise ValueError(NOWHERE.format(asked))
        if file is not None and (known is not None or _taken(name)):
            raise ValueError(f"plugins: {asked} has the name of another module, {name}; rename the file or folder.")
        _load(asked, name, file)
        _LOADED[name] = (asked, file)


def loaded_plugins() -> list[str]:
    """What another process has to load to have the same: paths from anywhere, names of modules."""
    return [str(path or name) for name, (_, path) in _LOADED.items()]


def plugin_digests() -> dict[str, str]:
    """What was asked for -> a digest of its code and tables (*.py, *.yaml), of all plugins loaded so far."""
    found = {}
    for name, (asked, path) in _LOADED.items():
        origin = path or Path(getattr(sys.modules[name], "__file__", None) or ".")
        root = origin.parent if path is None and origin.name == "__init__.py" else origin
        files = [root] if root.is_file() else sorted(f for kind in ("*.py", "*.yaml") for f in root.rglob(kind))
        parts = [part for file in files for part in (file.name, file.read_bytes())]
        found[asked] = content_hash(*parts)
    return found


def _taken(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


def _load(asked: str, name: str, file: Path | None) -> None:
    try:
        if file is None:
            importlib.import_module(name)
            return
        spec = _spec(name, file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        if spec.loader is not None:
            spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        _forget(name, sys.modules.get(name))
        if file is None and error.name in (name, name.partition(".")[0]):
            raise ValueError(
                f"plugins: {asked} is no Python file, no folder and no module; correct the path."
            ) from None
        raise ValueError(f"plugins: {asked} cannot be loaded (it needs {error.name}, which is not there).") from error
    except Exception as error:  # whatever a stranger's code raises
        _forget(name, sys.modules.get(name))
        raise ValueError(f"plugins: {asked} cannot be loaded ({type(error).__name__}: {error}).") from error


def _spec(name: str, file: Path) -> ModuleSpec:
    start = file if file.is_file() else file / "__init__.py"
    if start.is_file():
        inside = [str(file)] if file.is_dir() else None
        spec = importlib.util.spec_from_file_location(name, start, submodule_search_locations=inside)
        assert spec is not None, "a file that ends in .py has a loader"
        return spec
    spec = ModuleSpec(name, None, is_package=True)  # a folder of files without an __init__.py
    spec.submodule_search_locations = [str(file)]
    return spec


def _forget(name: str, module: ModuleType | None) -> None:
    if module is not None and name not in _LOADED:
        del sys.modules[name]
