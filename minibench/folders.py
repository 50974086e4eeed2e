"""Where the embedded datasets live, and how they are built on first use."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATASETS = ("clear-mini", "tofu-mini")
_LAST = "retain_tuning_perturbed"  # a folder without this config is of an earlier version

_CARD = """# {name}

A generated dataset: {what}. Names, faces and facts are drawn from seed {seed}; none is of a real person.
Made by `python -m minibench.build --seed {seed}`; described in data/README.md of the project. MIT licence.
"""
_PART = re.compile(r"[\w+]+/train-\d+-of-\d+\.parquet")
_WHAT = {
    "clear-mini": "sixty fictitious authors in eight drawn portraits each, in the configs and columns of CLEAR",
    "tofu-mini": "questions and answers about the sixty authors of clear-mini, in the configs and columns of TOFU",
}


def build(name: str, folder: str | Path, seed: int | None = None) -> Path:
    """Writes the dataset `name` ("clear-mini" or "tofu-mini") as `folder`, whole or not at all; returns `folder`.

    Raises ValueError for another name, or where `folder` holds anything that this function did not make.
    """
    if name not in DATASETS:
        raise ValueError(f"No embedded dataset {name!r}; there are {' and '.join(DATASETS)}.")
    check_own(Path(folder))
    from minibench.clear import clear_configs
    from minibench.people import SEED
    from minibench.tables import write_dataset
    from minibench.tofu import tofu_configs

    seed = SEED if seed is None else seed
    configs = (clear_configs(seed) if name == "clear-mini" else tofu_configs(seed)) | _later(name, seed)
    write_dataset(Path(folder), configs, _card(name, seed))
    return Path(folder)


def complete(name: str, folder: Path) -> Path:
    """Adds the configs that a folder of an earlier version lacks, of the people it was made with; returns `folder`."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    made = re.search(r"Made by `python -m minibench\.build --seed (\d+)`", text)
    if made and f'config_name: "{_LAST}"' not in text:
        from minibench.tables import add_configs

        seed = int(made[1])
        add_configs(folder, _later(name, seed), _card(name, seed))
    return folder


def _later(name: str, seed: int) -> dict[str, Any]:
    """The configs that CLEAR and TOFU do not have: a holdout, and people to choose settings on."""
    from minibench.holdout import holdout_configs
    from minibench.tuning import tuning_configs

    return holdout_configs(name, seed) | tuning_configs(name, seed)


def _card(name: str, seed: int) -> str:
    return _CARD.format(name=name, what=_WHAT[name], seed=seed)


def check_own(folder: Path) -> None:
    """ValueError if an existing `folder` is not, file by file, an embedded dataset: it would be replaced."""
    if not folder.exists():
        return
    files = [file for file in folder.rglob("*") if not file.is_dir()] if folder.is_dir() else [folder]
    card = folder / "README.md"
    made = card.is_file() and "Made by `python -m minibench.build" in card.read_text(encoding="utf-8", errors="replace")
    other = [
        file for file in files if file != card and not (made and _PART.fullmatch(file.relative_to(folder).as_posix()))
    ]
    if other or (files and not made):
        raise ValueError(
            f"{folder} holds what minibench did not make ({min(other or files).name}); move it away, or build into "
            "another folder (--out)."
        )


def ensure_dataset(path: str | Path) -> Path | str:
    """The folder of the embedded dataset that `path` names, built on first use; any other path comes back unchanged.

    `data/clear-mini` and `data/tofu-mini` mean the folders of this project wherever a command is started. Several
    processes may call this at once: each writes a folder of its own, and the first rename wins.
    """
    given = Path(path)
    candidates = {ROOT / "data" / name: name for name in DATASETS}
    for folder in (given.absolute(), ROOT / given):
        if folder.is_dir():
            return complete(candidates[folder], folder) if folder in candidates else path
        if folder in candidates:
            return build(candidates[folder], folder)
    return path
