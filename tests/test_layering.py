"""Who may import whom, what files may be called and how long they may grow: read off the source, not off a running
program."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("mm", "nlp", "cv")
PACKAGES = (*ROOMS, "unlearn", "minibench", "sweeps")
HEAVY = {"deepspeed", "bitsandbytes", "flash_attn", "wandb", "matplotlib"}
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LONG = {"trainer", "suite", "pipeline", "results", "loading", "method"}  # a cut would part what belongs together
SCRIPTS = sorted(ROOT.glob("*.py"))


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """Full dotted names of what a file imports; `from a.b import c` is `a.b.c`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(node) for function in ast.walk(tree) if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
              for node in ast.walk(function)}  # fmt: skip
    for node in ast.walk(tree):
        if top_level_only and id(node) in inside:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide what is imported"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offenders(folder: str, forbidden: set[str], top_level_only: bool = False) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES if path.is_relative_to(ROOT / folder)
        for name in imports(path, top_level_only) if name.split(".")[0] in forbidden
    ]  # fmt: skip


def test_there_is_something_to_look_at() -> None:
    assert len(FILES) > 50 and all((ROOT / package / "__init__.py").exists() for package in PACKAGES)


CONTRACT = (
    "vocabulary", "scoring", "divergences", "hooks", "method", "registry", "wrapping", "results", "token_log",
    "stress_log", "stress",
)  # fmt: skip
# Rooms of the core, low to high: a room may import what stands on lines above its own, and of its own line.
LINES = (
    ("atomic",),
    ("contents", "plugins"),
    ("distributed", "metrics", *CONTRACT),
    ("config",),
    ("methods", "models"),
    ("data",),
    ("runs",),
    ("evaluation",),
    ("training",),
    ("pipeline", "publish"),
    ("stress_suite",),
)
READERS = (
    "metrics",
    "results",
    "token_log",
    "stress_log",
    "leaderboard",
    "report",
    "aggregate",
)  # of JSON: torch-free, each of those before it
BESIDE = {("registry", "methods"), ("pipeline", "leaderboard"), ("publish", "leaderboard")}  # argued where they stand


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "unlearn").parts
    return parts[0].removesuffix(".py")


def may_import(room: str, other: str) -> bool:
    if (room, other) in BESIDE or other == room:
        return True
    if room in READERS[3:]:
        return other in ("atomic", "contents") or other in READERS[: READERS.index(room)]
    line = {name: number for number, names in enumerate(LINES) for name in names}
    own_line = room in CONTRACT and other in CONTRACT
    return other in line and (line[other] < line[room] or own_line)


def test_each_room_of_the_core_imports_only_rooms_below_it() -> None:
    rooms = {file.stem for file in (ROOT / "unlearn").iterdir() if not file.name.startswith("__")}
    assert rooms <= {name for line in LINES for name in line} | set(READERS), "a new room needs its place in LINES"
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES
        if path.is_relative_to(ROOT / "unlearn") and path.stem != "__init__" or path.parent.parent == ROOT / "unlearn"
        for name in imports(path)
        if name.startswith("unlearn.") and name.split(".")[1] in rooms
        and not may_import(room_of(path), name.split(".")[1])
    ]  # fmt: skip
    assert not wrong


def test_the_core_knows_no_modality_no_benchmark_and_no_hydra() -> None:
    assert not offenders("unlearn", {*ROOMS, "minibench", "hydra", "omegaconf"})


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_do_not_import_one_another(room: str) -> None:
    assert not offenders(room, {*ROOMS} - {room})


def test_what_is_the_face_tracks_is_handed_to_the_core_not_imported() -> None:
    assert not {path.name for path in FILES if path.is_relative_to(ROOT / "unlearn") and "face" in path.stem}
    for file in ("leaderboard.py", "page.py"):
        heavy = [name for name in imports(ROOT / "cv" / file) if name.split(".")[0] in ("torch", "transformers")]
        assert not heavy, f"cv/{file} is read by aggregate_eval_stat.py, which needs no torch"


def test_nobody_imports_the_sweeps() -> None:
    for package in (*ROOMS, "unlearn", "minibench"):
        assert not offenders(package, {"sweeps"})


def test_methods_see_torch_and_the_contract_only() -> None:
    contract = ("scoring", "divergences", "vocabulary", "hooks", "method", "registry", "wrapping")
    allowed = {"torch", *(f"unlearn.{name}" for name in contract)}
    check_allowed("unlearn/methods", allowed, own="unlearn.methods")


def test_metrics_see_numbers_and_texts_only() -> None:
    check_allowed("unlearn/metrics", {"numpy", "scipy", "rouge_score", "nltk"}, own="unlearn.metrics")


def check_allowed(folder: str, allowed: set[str], own: str) -> None:
    for path in FILES:
        if path.is_relative_to(ROOT / folder):
            for name in imports(path):
                roots = {name.split(".")[0], ".".join(name.split(".")[:2])}
                if roots & {*sys.stdlib_module_names} or roots & allowed or name.startswith(own):
                    continue
                raise AssertionError(f"{path.relative_to(ROOT)} imports {name}; allowed are {sorted(allowed)}")


@pytest.mark.parametrize("package", PACKAGES)
def test_optional_libraries_are_imported_where_they_are_used(package: str) -> None:
    assert not offenders(package, HEAVY, top_level_only=True)


def entry_script(path: Path) -> bool:
    return path in SCRIPTS or any(
        isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        for node in ast.parse(path.read_text(encoding="utf-8")).body
    )


def test_only_scripts_print() -> None:
    prints = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES if not entry_script(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]  # fmt: skip
    assert not prints


def test_only_the_trainer_sets_its_own_state() -> None:
    owner = ROOT / "unlearn" / "training" / "trainer.py"
    sets = [
        f"{path.relative_to(ROOT)}:{node.lineno} sets {ast.unparse(node)}"
        for path in FILES if path != owner
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del))
        and ast.unparse(node.value).split(".")[-1] == "trainer"
    ]  # fmt: skip
    assert not sets


def test_no_file_is_called_like_a_library() -> None:
    """`accelerate launch mm/forget.py` puts mm/ first on the path, where such a file would hide the library."""
    import importlib.metadata

    installed = {name for name in importlib.metadata.packages_distributions() if not name.startswith("_")} - {
        *PACKAGES,
        "tests",
    }
    taken = installed | {*sys.stdlib_module_names}
    clashes = [str(path.relative_to(ROOT)) for path in FILES if path.parent.name in ROOMS and path.stem in taken]
    assert not clashes


def test_no_pickle_no_foreign_code_and_no_path_tricks() -> None:
    for path in [*FILES, *SCRIPTS]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not {"pickle", "joblib", "dill"} & {name.split(".")[0] for name in imports(path)}, path
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                assert not (isinstance(node.value, ast.Constant) and node.value.value), path
            if isinstance(node, ast.keyword) and node.arg == "weights_only":
                assert isinstance(node.value, ast.Constant) and node.value.value is True, path
            if isinstance(node, ast.Attribute):
                assert ast.unparse(node) != "sys.path", f"{path} touches sys.path"


@pytest.mark.parametrize("path", [*FILES, *SCRIPTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= (300 if path.stem in LONG else 250)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None and node.end_lineno - node.lineno + 1 <= 60, node.name
