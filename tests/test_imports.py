"""Every import of our own packages, wherever in a file it stands, leads to a module and a name that are there.

An import inside a function runs only when somebody calls it: a module that was moved or deleted goes unnoticed there.
"""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("unlearn", "mm", "nlp", "cv", "sweeps", "minibench", "tests")
FILES = [
    *sorted(ROOT.glob("*.py")),
    *(path for package in (*OURS, "benchmarks") for path in sorted((ROOT / package).rglob("*.py"))),
]


def own_imports(path: Path) -> Iterator[tuple[str, str | None, int]]:
    """(module, name or None, line) of each first-party import of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None, node.lineno) for alias in node.names if alias.name.split(".")[0] in OURS)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS:
            yield from ((node.module, alias.name, node.lineno) for alias in node.names)


def resolves(module: str, name: str | None) -> bool:
    try:
        found = importlib.import_module(module)
        if name is None or name == "*" or hasattr(found, name):
            return True
        importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in OURS:
            raise  # a library is missing, which is another matter
        return False
    return True


def test_the_test_sees_imports_inside_functions(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("def f():\n    from cv.gone import x\n")
    assert [entry for entry in own_imports(file) if not resolves(*entry[:2])] == [("cv.gone", "x", 2)]


@pytest.mark.parametrize("package", sorted({path.relative_to(ROOT).parts[0] for path in FILES}))
def test_every_own_import_resolves(package: str) -> None:
    files = [path for path in FILES if path.relative_to(ROOT).parts[0] == package]
    dead = [
        f"{path.relative_to(ROOT)}:{line} imports {module}{'.' + name if name else ''}"
        for path in files
        for module, name, line in own_imports(path)
        if not resolves(module, name)
    ]
    assert files and not dead
